"""All vectors of a collection as one matrix: a file beside the catalog, mapped into memory.

The file is derived from the catalog and disposable: a header of one page (JSON), then vectors, chunk ids and source ids,
little-endian. The header names the state of the catalog that the file was made from, the sizes and a checksum. A file of another
state, or a damaged or incomplete one, is not used but rewritten; so it needs no lock against writers and no fsync.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

T = TypeVar("T")
Row = tuple[int, int, bytes]
"""A chunk's id, its source's id, and its vector."""

log = logging.getLogger(__name__)
_HEADER = 4096


@dataclass(frozen=True, slots=True)
class Matrix:
    """``vectors``: (n, dimension), float32; ``chunks`` and ``sources``: (n,), ids in the catalog."""

    vectors: NDArray[np.float32]
    chunks: NDArray[np.int64]
    sources: NDArray[np.int64]


def load(path: Path, state: str) -> Matrix | None:
    """The matrix in the file ``path``; None unless it is whole and of this state."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(_HEADER))
        count, dimension = int(header["count"]), int(header["dimension"])
        if header["state"] != state or path.stat().st_size != _HEADER + count * (4 * dimension + 16):
            return None
        body = np.memmap(path, dtype=np.uint8, mode="r", offset=_HEADER)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("%s is not used: %s", path, error)
        return None
    if zlib.crc32(body.data) != header["crc32"]:
        log.debug("%s is not used: it is damaged", path)
        return None
    ends = 4 * count * dimension, 4 * count * dimension + 8 * count
    vectors = body[: ends[0]].view("<f4").reshape(count, dimension)
    return Matrix(vectors, body[ends[0] : ends[1]].view("<i8"), body[ends[1] :].view("<i8"))


def save(path: Path, state: str, rows: Iterator[Row]) -> Matrix | None:
    """Writes the file ``path`` and maps it; None if it cannot be written, or another process is writing it."""
    draft = path.with_suffix(".new")
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            try:
                _write(draft, state, rows)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:  # filelock's Timeout is one
        log.debug("%s is not written: %s", path, error)
        return None
    return load(path, state)


def _write(path: Path, state: str, rows: Iterator[Row]) -> None:
    chunks: list[int] = []
    sources: list[int] = []
    dimension = crc = 0
    with path.open("wb") as file:

        def put(data: bytes) -> None:
            nonlocal crc
            crc = zlib.crc32(data, crc)
            file.write(data)

        file.write(b" " * _HEADER)
        for some in parts(rows):
            chunks += [chunk for chunk, _, _ in some]
            sources += [source for _, source, _ in some]
            dimension = len(some[0][2]) // 4
            put(b"".join(vector for _, _, vector in some))
        put(np.array(chunks, dtype="<i8").tobytes())
        put(np.array(sources, dtype="<i8").tobytes())
        file.seek(0)
        file.write(json.dumps({"state": state, "count": len(chunks), "dimension": dimension, "crc32": crc}).encode())


def collect(rows: Iterator[Row], count: int, dimension: int) -> Matrix:
    """The same in memory, of at most ``count`` rows."""
    vectors = np.empty((count, dimension), dtype=np.float32)
    chunks, sources = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    end = 0
    for some in parts(rows):
        begin, end = end, end + len(some)
        vectors[begin:end] = stacked(vector for _, _, vector in some)
        chunks[begin:end], sources[begin:end] = [row[0] for row in some], [row[1] for row in some]
    return Matrix(vectors[:end], chunks[:end], sources[:end])


def stacked(vectors: Iterable[bytes]) -> NDArray[np.float32]:
    """Stored vectors as rows, shape (number of vectors, dimension); (0, 0) without any."""
    stored = list(vectors)
    return np.frombuffer(b"".join(stored), dtype="<f4").reshape(len(stored), len(stored[0]) // 4 if stored else 0)


def parts(rows: Iterator[T], size: int = 10_000) -> Iterator[list[T]]:
    """``rows`` in lists of ``size``; the last may be shorter."""
    while part := list(islice(rows, size)):
        yield part

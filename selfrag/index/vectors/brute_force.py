"""Brute-force kNN: compares every vector, from one matrix in memory, or from the catalog a part at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from selfrag.index.catalog.catalog import Catalog

T = TypeVar("T")

Found = list[list[tuple[str, float]]]
"""For each query the keys of chunks with their cosine similarity, best first."""

LARGEST = 2**29
"""Bytes that the matrix may have, about 350,000 vectors of 384 dimensions; a larger catalog is read in parts for every search."""

_PART = 10_000
_FEW = 8
"""Sources with less than one in this many chunks are read separately while the matrix is not loaded."""


class Exact:
    """The nearest vectors of a catalog. The matrix is read once for each state of the catalog, and used until that changes.

    To be called in one thread at a time, within a transaction of ``catalog``.
    """

    def __init__(self, catalog: Catalog, largest: int = LARGEST) -> None:
        self._catalog = catalog
        self._largest = largest
        self._state: int | None = None
        self._keys: list[str] = []
        self._sources = np.zeros(0, dtype=np.int64)
        self._matrix = np.zeros((0, 0), dtype=np.float32)

    def nearest(self, queries: NDArray[np.float32], k: int, sources: frozenset[int] | None = None) -> Found:
        """For each row the ``k`` nearest of all chunks, or of those of ``sources`` (ids in the catalog)."""
        if not self._read(sources):
            return _in_parts(self._rows(sources), queries, k)
        similarities = queries @ self._matrix.T if len(self._keys) else np.zeros((len(queries), 0), dtype=np.float32)
        if sources is None:
            return [_best(self._keys, line, k) for line in similarities]
        among = np.flatnonzero(np.isin(self._sources, np.fromiter(sources, dtype=np.int64)))
        keys = [self._keys[at] for at in among]
        return [_best(keys, line[among], k) for line in similarities]

    def _read(self, sources: frozenset[int] | None) -> bool:
        """Updates the matrix; False if it is not worth it, or too large."""
        state = int(self._catalog.db.execute("PRAGMA data_version").fetchone()[0])
        if self._state == state and not self._catalog.writable:
            return True
        self._state = None
        count = self._count(None)
        if self._catalog.writable or (sources is not None and self._count(sources) * _FEW < count):
            return False  # a writer's own changes do not count as another state
        length = self._catalog.db.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchone()
        if length is None or length[0] * count > self._largest:
            return False
        self._keys = []
        self._matrix = np.empty((count, length[0] // 4), dtype=np.float32)
        numbers = np.empty(count, dtype=np.int64)
        for rows in parts(self._rows(None)):
            end = len(self._keys) + len(rows)
            self._matrix[len(self._keys) : end] = matrix(vector for _, _, vector in rows)
            numbers[len(self._keys) : end] = [source for _, source, _ in rows]
            self._keys += [key for key, _, _ in rows]
        self._matrix, self._sources = self._matrix[: len(self._keys)], numbers[: len(self._keys)]  # a chunk may lack its vector
        self._state = state
        return True

    def _count(self, sources: frozenset[int] | None) -> int:
        return int(self._catalog.db.execute(f"SELECT count(*) FROM chunks{_among(sources)}", _listed(sources)).fetchone()[0])

    def _rows(self, sources: frozenset[int] | None) -> Iterator[tuple[str, int, bytes]]:
        query = "SELECT key, source, vector FROM chunks JOIN embeddings ON embeddings.hash = chunks.embedding"
        yield from self._catalog.db.execute(f"{query}{_among(sources)}", _listed(sources))


def _among(sources: frozenset[int] | None) -> str:
    return "" if sources is None else " WHERE source IN (SELECT value FROM json_each(?))"


def _listed(sources: frozenset[int] | None) -> tuple[str, ...]:
    return () if sources is None else (json.dumps(sorted(sources)),)


def _in_parts(rows: Iterator[tuple[str, int, bytes]], queries: NDArray[np.float32], k: int) -> Found:
    best: Found = [[] for _ in queries]
    for part in parts(rows):
        keys = [key for key, _, _ in part]
        similarities = queries @ matrix(vector for _, _, vector in part).T
        for at, line in enumerate(similarities):
            best[at] = sorted(best[at] + _best(keys, line, k), key=lambda found: -found[1])[:k]
    return best


def _best(keys: list[str], similarities: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
    """The ``k`` largest, best first; of equals the earlier."""
    if len(keys) > 4 * k:
        least = np.partition(similarities, len(keys) - k)[len(keys) - k]
        among = np.flatnonzero(similarities >= least)
    else:
        among = np.arange(len(keys))
    order = among[np.argsort(-similarities[among], kind="stable")[:k]]
    return [(keys[at], float(similarities[at])) for at in order]


def matrix(vectors: Iterable[bytes]) -> NDArray[np.float32]:
    """Stored vectors as rows, shape (number of vectors, dimension)."""
    stored = list(vectors)
    return np.frombuffer(b"".join(stored), dtype="<f4").reshape(len(stored), -1)


def parts(rows: Iterator[T], size: int = _PART) -> Iterator[list[T]]:
    """``rows`` in lists of ``size``; the last may be shorter."""
    while part := list(islice(rows, size)):
        yield part

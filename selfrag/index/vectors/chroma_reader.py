"""Reads an in-process Chroma store through Chroma's own native code, without its Python client.

The client takes 0.6 s to import (telemetry, authentication, embedding functions), much of a one-shot search; in the end it calls
this. These signatures are not public: a test compares them with the client, which is used if they differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.index.vectors.brute_force import Found
from selfrag.index.vectors.errors import VectorError

_WHERE = ("default_tenant", "default_database")
_OPEN_INDEXES = 8


class ChromaReader:
    """One collection of the store in ``folder``: the number of vectors, and nearest neighbours. Raises VectorError."""

    def __init__(self, folder: Path, name: str) -> None:
        with _native_errors():
            import chromadb_rust_bindings as native  # type: ignore[import-untyped]

            settings = native.SqliteDBConfig(
                hash_type=native.MigrationHash.MD5,
                migration_mode=native.MigrationMode.Validate,  # nothing is written, not even a newer layout of the tables
                url=str(folder / "chroma.sqlite3"),
            )
            self._native: Any = native.Bindings(
                allow_reset=False, sqlite_db_config=settings, persist_path=str(folder), hnsw_cache_size=_OPEN_INDEXES
            )
            self._id = str(self._native.get_collection(name, *_WHERE).id)

    def count(self) -> int:
        with _native_errors():
            return int(self._native.count(self._id, *_WHERE))

    def query(self, vectors: NDArray[np.float32], k: int) -> Found:
        """For each row of ``vectors`` the ``k`` nearest ids with their cosine similarity, best first."""
        with _native_errors():
            found = self._native.query(self._id, None, vectors.tolist(), k, None, None, ["distances"], *_WHERE)
            return [
                [(key, 1.0 - float(distance)) for key, distance in zip(*row, strict=True)]
                for row in zip(found.ids, found.distances, strict=True)
            ]

    def close(self) -> None:
        self._native = None


def open_reader(folder: Path, name: str) -> ChromaReader | None:
    """None if the store cannot be read in this way; then the client reports why."""
    if not (folder / "chroma.sqlite3").exists():
        return None
    try:
        reader = ChromaReader(folder, name)
        reader.count()
    except VectorError:
        return None
    return reader


@contextmanager
def _native_errors() -> Iterator[None]:
    """Turns whatever the native code raises, panics included, which are no Exceptions, into VectorError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise VectorError(f"{type(error).__name__}: {error}") from error

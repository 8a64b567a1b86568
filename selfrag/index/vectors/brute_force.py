"""Brute-force kNN: compares every vector, either in one matrix mapped from a file, or read in parts from the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from selfrag.index.catalog.catalog import Catalog
from selfrag.index.vectors import matrix
from selfrag.index.vectors.matrix import Matrix, Row

Found = list[list[tuple[str, float]]]
"""For each query the keys of chunks with their cosine similarity, best first."""

Near = list[tuple[int, float]]
"""Ids of chunks with their cosine similarity, best first."""

FILE = "vectors.f32"
"""Beside the catalog, so it goes with its generation."""

LARGEST = 2**29
"""Bytes that the matrix may have in memory where its file cannot be written, about 350,000 vectors of 384 dimensions; a larger
catalog is read in parts for every search."""

_FEW = 8
"""Sources with less than one in this many chunks are read separately while the matrix is not loaded."""


class BruteForce:
    """The nearest vectors of a catalog. The matrix is made once for each state of the catalog, and mapped by later processes.

    Not thread-safe; call it within a transaction of ``catalog``.
    """

    def __init__(self, catalog: Catalog, largest: int = LARGEST) -> None:
        self._catalog = catalog
        self._largest = largest
        self._state: str | None = None
        self._matrix: Matrix | None = None

    def nearest(self, queries: NDArray[np.float32], k: int, sources: frozenset[int] | None = None) -> Found:
        """For each row the ``k`` nearest of all chunks, or of those of ``sources`` (ids in the catalog)."""
        found = self._opened(sources)
        if found is None:
            return self._named(_in_parts(self._rows(sources), queries, k))
        if not len(found.chunks):
            return [[] for _ in queries]
        similarities = queries @ found.vectors.T
        if sources is None:
            return self._named([_best(found.chunks, line, k) for line in similarities])
        among = np.flatnonzero(np.isin(found.sources, np.fromiter(sources, dtype=np.int64)))
        return self._named([_best(found.chunks[among], line[among], k) for line in similarities])

    def _opened(self, sources: frozenset[int] | None) -> Matrix | None:
        """The matrix of the current state; None if the collection is too small to need one, or too large."""
        state = self._catalog.state()
        if self._matrix is not None and self._state == state:
            return self._matrix
        self._matrix = None
        if self._catalog.writable:  # its next transaction makes another state
            return None
        count = self._count(None)
        if sources is not None and self._count(sources) * _FEW < count:
            return None
        self._state, self._matrix = state, self._made(state, count)
        return self._matrix

    def _made(self, state: str, count: int) -> Matrix | None:
        path = self._catalog.path.with_name(FILE)
        found = None
        if count and self._catalog.path.exists():  # a catalog in memory has no place for a file
            found = matrix.load(path, state) or matrix.save(path, state, self._rows(None))
        if found is None:
            length = self._catalog.db.execute("SELECT length(vector) FROM embeddings LIMIT 1").fetchone() or (0,)
            if length[0] * count <= self._largest:
                found = matrix.collect(self._rows(None), count, length[0] // 4)
        return found

    def _count(self, sources: frozenset[int] | None) -> int:
        return int(self._catalog.db.execute(f"SELECT count(*) FROM chunks{_among(sources)}", _listed(sources)).fetchone()[0])

    def _rows(self, sources: frozenset[int] | None) -> Iterator[Row]:
        query = "SELECT id, source, vector FROM chunks JOIN embeddings ON embeddings.hash = chunks.embedding"
        yield from self._catalog.db.execute(f"{query}{_among(sources)}", _listed(sources))

    def _named(self, found: list[Near]) -> Found:
        """The hits with keys instead of ids."""
        wanted = json.dumps(sorted({number for near in found for number, _ in near}))
        query = "SELECT id, key FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
        keys = dict(self._catalog.db.execute(query, (wanted,)))
        return [[(keys[number], score) for number, score in near] for near in found]


def _among(sources: frozenset[int] | None) -> str:
    return "" if sources is None else " WHERE source IN (SELECT value FROM json_each(?))"


def _listed(sources: frozenset[int] | None) -> tuple[str, ...]:
    return () if sources is None else (json.dumps(sorted(sources)),)


def _in_parts(rows: Iterator[Row], queries: NDArray[np.float32], k: int) -> list[Near]:
    best: list[Near] = [[] for _ in queries]
    for part in matrix.parts(rows):
        chunks = np.array([chunk for chunk, _, _ in part], dtype=np.int64)
        similarities = queries @ matrix.stacked(vector for _, _, vector in part).T
        for at, line in enumerate(similarities):
            best[at] = sorted(best[at] + _best(chunks, line, k), key=lambda found: -found[1])[:k]
    return best


def _best(chunks: NDArray[np.int64], similarities: NDArray[np.float32], k: int) -> Near:
    """The ``k`` largest, best first; of equals the earlier."""
    if len(chunks) > 4 * k:
        least = np.partition(similarities, len(chunks) - k)[len(chunks) - k]
        among = np.flatnonzero(similarities >= least)
    else:
        among = np.arange(len(chunks))
    order = among[np.argsort(-similarities[among], kind="stable")[:k]]
    return [(int(chunks[at]), float(similarities[at])) for at in order]

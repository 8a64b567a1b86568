"""Search without an index: every vector of the catalog compared, a part of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from selfrag.index.catalog.catalog import Catalog

Found = list[list[tuple[str, float]]]
"""For each query the keys of chunks with their cosine similarity, best first."""

_PART = 10_000


def matrix(vectors: list[bytes]) -> NDArray[np.float32]:
    """Stored vectors as rows, shape (len(vectors), dimension)."""
    return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)


def parts(rows: Iterator[tuple[str, bytes]], size: int = _PART) -> Iterator[list[tuple[str, bytes]]]:
    """``rows`` in lists of ``size``; the last may be shorter."""
    while part := list(islice(rows, size)):
        yield part


def exact(catalog: Catalog, queries: NDArray[np.float32], k: int, keys: list[str] | None = None) -> Found:
    """The ``k`` nearest of all chunks, or of ``keys``, by comparing every vector of the catalog."""
    best: Found = [[] for _ in queries]
    for rows in parts(catalog.vectors(keys)):
        similarities = queries @ matrix([vector for _, vector in rows]).T
        for at, line in enumerate(similarities):
            nearest = np.argsort(-line, kind="stable")[:k]
            both = best[at] + [(rows[row][0], float(line[row])) for row in nearest]
            best[at] = sorted(both, key=lambda found: -found[1])[:k]
    return best

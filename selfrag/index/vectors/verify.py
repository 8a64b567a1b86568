"""Compares every vector in Chroma with the catalog. ``python -m selfrag.index.vectors.verify CATALOG [URL]`` prints what is
wrong.

A program of its own, because damaged index files can crash Chroma's native code, and with it the process that reads them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from selfrag.index.catalog.catalog import Catalog
from selfrag.index.vectors.matrix import parts, stacked
from selfrag.index.vectors.replica import Mirror

_BATCH = 1000
_SAMPLE = 100
_TOLERATED = 0.1
"""Share of vectors that a sound HNSW index may miss: it is approximate, and a broken one misses most."""


def compare(mirror: Mirror) -> list[str]:
    """What differs, apart from pending chunks; empty if nothing does."""
    from selfrag.index.vectors.errors import VectorError

    try:
        return _compared(mirror)
    except VectorError as error:
        return [f"Chroma cannot be read: {error}"]


def _compared(mirror: Mirror) -> list[str]:
    catalog, pending = mirror.catalog, set(mirror.catalog.pending())
    vectors = mirror.open_vectors(mirror.state()["name"], create=False)
    there: set[str] = vectors.ids() - pending
    wanted: set[str] = set()
    wrong = unfindable = asked = 0
    every = max(1, (catalog.counts().chunks - len(pending)) // _SAMPLE)
    for rows in parts(((key, vector) for key, vector in catalog.vectors() if key not in pending), _BATCH):
        stored = vectors.get([key for key, _ in rows])
        wrong += sum(key in stored and not np.allclose(stored[key], stacked([blob])[0], atol=1e-5) for key, blob in rows)
        sample = [vector for at, (_, vector) in enumerate(rows, len(wanted)) if at % every == 0]
        asked += len(sample)
        nearest = vectors.query(stacked(sample), 1) if there and sample else []
        unfindable += sum(not hit or hit[0][1] < 0.999 for hit in nearest)
        wanted.update(key for key, _ in rows)
    found = _differences(wanted, there)
    found += [f"{wrong} vectors in Chroma differ from the catalog"] if wrong else []
    if unfindable > _TOLERATED * asked:
        found.append(f"{unfindable} of {asked} vectors are not found by searching for them")
    return found


def _differences(wanted: set[str], there: set[str]) -> list[str]:
    found = []
    if lost := len(wanted - there):
        found.append(f"{lost} of {len(wanted)} vectors are missing in Chroma")
    if orphans := len(there - wanted):
        found.append(f"{orphans} vectors in Chroma belong to no chunk")
    return found


def main() -> None:
    path, url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    catalog = Catalog.open(Path(path))
    for problem in compare(Mirror(catalog, url or None)):
        print(problem)


if __name__ == "__main__":
    main()

"""What brute-force search over all vectors costs: read from the catalog, the first search ever, the first of a later process, the
next ones.

    python benchmarks/brute_force.py [--count 100000] [--out FILE]

The catalog holds ``count`` random unit vectors of 384 dimensions, 100 a source. The searches ask for 100 chunks among all, and
among those of every second source. Times are of the processor, each search in a process of its own but those of the last column,
the median of twenty. A writer has no matrix and reads every vector from the catalog, as all searches once did.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import harness
import numpy as np

from selfrag.evaluation.tables import markdown_table
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import NO_HINTS, Entry, Source
from selfrag.index.vectors.brute_force import FILE, BruteForce

DIMENSION, CHUNKS, DEPTH = 384, 100, 100


def fill(path: Path, count: int) -> None:
    drawn = np.random.default_rng(0)
    with closing(Catalog.create(path)) as catalog:
        for source in range(count // CHUNKS):
            vectors = drawn.normal(size=(CHUNKS, DIMENSION)).astype("<f4")
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            names = [f"{source}-{at}" for at in range(CHUNKS)]
            catalog.put_embeddings((name, row.tobytes()) for name, row in zip(names, vectors, strict=True))
            entries = [Entry(name, "", (), (), 0, 0, None, None, None, name, "", "") for name in names]
            catalog.put(Source(f"/{source}", "", NO_HINTS), entries)


def search(path: Path, half: bool, writable: bool, times: int) -> list[float]:
    """Milliseconds of each of ``times`` searches of this process."""
    asked = np.random.default_rng(1).normal(size=(1, DIMENSION)).astype(np.float32)
    found = []
    with closing(Catalog.open(path, writable)) as catalog:
        sources = frozenset(row[0] for row in catalog.db.execute("SELECT id FROM sources WHERE id % 2")) if half else None
        exact = BruteForce(catalog)
        for _ in range(times):
            began = time.process_time()
            with catalog.transaction():
                exact.nearest(asked, DEPTH, sources)
            found.append((time.process_time() - began) * 1000)
    return found


def apart(path: Path, half: bool, writable: bool = False, times: int = 1) -> list[float]:
    command = [sys.executable, __file__, "--search", str(path), *(str(int(each)) for each in (half, writable, times))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in json.loads(done.stdout)]


def main() -> None:
    if sys.argv[1:2] == ["--search"]:
        print(json.dumps(search(Path(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1", int(sys.argv[5]))))
        return
    options = harness.parser(__doc__, "brute_force.md")
    options.add_argument("--count", type=int, default=100_000)
    given = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalog.sqlite"
        fill(path, given.count)
        for name, half in (("all chunks", False), ("half of the sources", True)):
            path.with_name(FILE).unlink(missing_ok=True)
            read, ever, later = apart(path, half, writable=True), apart(path, half), apart(path, half, times=21)
            rows.append([name, *(f"{number:,.0f}" for number in (read[0], ever[0], later[0], median(later[1:])))])
        size = path.with_name(FILE).stat().st_size / 2**20
    head = ["CPU ms of a search among", "every vector read", "the first ever", "the first of a later process", "the next"]
    text = f"{given.count:,} vectors of {DIMENSION} dimensions; the file has {size:.0f} MiB.\n\n{markdown_table(head, rows)}"
    harness.write(given.out, "Brute-force search over one mapped matrix", text)


if __name__ == "__main__":
    main()

"""The rate of indexing against the bare embedder's, and the time of a run that finds nothing changed.

    python benchmarks/indexing.py DATA [--documents 10033] [--out FILE]
    python benchmarks/indexing.py --unchanged 1000,10000,100000 [--out FILE]

DATA is the folder with corpora/wikipedia_vital_10k.jsonl.gz. Its summaries are written as Markdown files. The embedder embeds all
their chunks, in the same windows and order as indexing does, and the folder is indexed, in turn, in one process; then `selfrag
index` runs over the unchanged folder as a command. Both wall and CPU time are told: on a machine with other work on it only
the ratio of the CPU times means much. With ``--unchanged`` folders of so many small files are indexed (hashed words of 8
dimensions, since the vectors do not count), and only the run that finds nothing changed is timed.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

from selfrag import ingest
from selfrag.config.library_env import silence_libraries
from selfrag.index import open_collection
from selfrag.index.embedders import EMBEDDED, WINDOW, open_embedder
from selfrag.index.sync.chunks import index_chunks
from selfrag.index.sync.pipeline import Options


def write_files(data: Path, folder: Path, count: int) -> None:
    with gzip.open(data / "corpora" / "wikipedia_vital_10k.jsonl.gz", "rt", encoding="utf-8") as lines:
        for number, line in zip(range(count), lines, strict=False):
            row = json.loads(line)
            name = re.sub(r"\W+", "-", row["title"])[:60]
            (folder / f"{number:05}-{name}.md").write_text(f"# {row['title']}\n\n{row['text']}\n", encoding="utf-8")


def chunk_texts(folder: Path) -> list[str]:
    texts: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        document = ingest.read(path)
        texts.update(index_chunks(str(path), document, ingest.split(document), headings=True).texts)
    return list(texts.values())


class Clock:
    """Wall and CPU seconds of a block, all threads and ended children counted."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.monotonic(), _cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.monotonic() - self._wall, _cpu() - self._cpu


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    options = harness.parser(__doc__)
    options.add_argument("data", type=Path, nargs="?")
    options.add_argument("--unchanged", default="", metavar="SIZES")
    options.add_argument("--documents", type=int, default=10_033)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    silence_libraries()
    with tempfile.TemporaryDirectory() as place:
        docs, home = Path(place) / "docs", Path(place) / "home"
        docs.mkdir()
        if given.unchanged:
            lines = unchanged_by_size(Path(place), given.unchanged)
        else:
            write_files(given.data, docs, given.documents)
            lines = measure(docs, home, given.documents)
    print("\n".join(lines))
    if given.out:
        harness.write(given.out, "Indexing", "\n".join(lines))


def measure(docs: Path, home: Path, documents: int) -> list[str]:
    embedder, load = open_embedder(EMBEDDED), os.getloadavg()[0]
    embedder.documents(["warm"] * 32)
    texts = chunk_texts(docs)
    with Clock() as bare:
        for at in range(0, len(texts), WINDOW):
            embedder.documents(sorted(texts[at : at + WINDOW], key=len))
    collection = open_collection(home / "data", create=True)
    collection.open_embedder = lambda _: embedder
    with Clock() as ours:
        report = collection.sync([docs], Options(embedder=EMBEDDED))
    again = [unchanged(home) for _ in range(3)]
    best = min(again, key=lambda clock: clock.cpu)
    return [
        f"`python benchmarks/indexing.py DATA --documents {documents}`: {report.new:,} files, {report.chunks:,} chunks,"
        f" {report.embedded:,} texts embedded; {os.cpu_count()} cores, load {load:.1f} at the start.",
        "",
        "| | wall s | CPU s | chunks per wall s | chunks per CPU s |",
        "|---|---:|---:|---:|---:|",
        _row("bare embedder, the same texts", bare, len(texts)),
        _row("indexing: read, split, embed, catalog, full text, Chroma", ours, report.chunks),
        f"| ratio of the rates | {bare.wall / ours.wall:.2f} | {bare.cpu / ours.cpu:.2f} | | |",
        "",
        f"Nothing changed, the whole process (best of 3): {best.wall:.2f} s wall, {best.cpu:.2f} s CPU.",
    ]


def _row(name: str, clock: Clock, chunks: int) -> str:
    return f"| {name} | {clock.wall:.1f} | {clock.cpu:.1f} | {chunks / clock.wall:.0f} | {chunks / clock.cpu:.0f} |"


def unchanged_by_size(place: Path, sizes: str) -> list[str]:
    lines = [
        f"`python benchmarks/indexing.py --unchanged {sizes}`, load {os.getloadavg()[0]:.1f} at the start; best of 3.",
        "",
        "| files | CPU s | wall s | CPU ms per file |",
        "|---:|---:|---:|---:|",
    ]
    for size in map(int, sizes.split(",")):
        docs, home = place / f"docs{size}", place / f"home{size}"
        for number in range(size):
            path = docs / str(number // 200) / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"Number {number} is word{number}.")
        for path in docs.rglob("*.txt"):
            os.utime(path, (1_600_000_000, 1_600_000_000))  # old enough to be trusted by its time
        open_collection(home / "data", create=True).sync([docs], Options(embedder="hashing?dimension=8"))
        best = min((unchanged(home) for _ in range(3)), key=lambda clock: clock.cpu)
        lines.append(f"| {size:,} | {best.cpu:.2f} | {best.wall:.2f} | {best.cpu / size * 1000:.3f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def unchanged(home: Path) -> Clock:
    with Clock() as clock:
        command = [sys.executable, "-m", "selfrag", "index", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SELFRAG_HOME": str(home)}, check=True)
    if (found := json.loads(done.stdout))["new"] or found["updated"]:
        raise SystemExit(f"something changed: {found}")
    return clock


if __name__ == "__main__":
    main()

"""Kills index runs with SIGKILL at every kind of boundary and at random instants, and compares what is left with a clean build.

    python -m tests.stress.kill [--kills 300] [--seed 1] [--boundaries 0.5] [--out benchmarks/results/kill.md]
    python -m tests.stress.kill --every [--seed 1] [--out FILE]

Each round changes a folder (edits, moves, copies, deletions, new files), starts one of `index`, `rm`, `repair`, `index --rebuild`
in a process of its own, and kills it: half of the time at the n-th boundary, n uniform over all of the run (before a statement of
a transaction, its COMMIT and what follows it, before and after each call into Chroma, at each rename and removal of a file), half
of the time at a random instant. Up to three of the runs that follow are killed, too. Then three things are looked at:

  reader    a search in the state that the kill left behind gives an answer, from passages that are in the catalog
  catalog   after the next undisturbed run every source, chunk, full-text entry and vector equals those of a clean build
  vectors   Chroma holds exactly the chunks, each with its vector, and nothing is pending

With ``--every`` a run of each operation is killed at every one of its commit boundaries in turn, each time from the same state:
before each BEGIN and COMMIT (so after each, too), before and after each call into Chroma, at each rename and removal of a file.

Processes are forked from one that has imported everything and opened nothing, and the check of Chroma after a kill runs in the
forked process rather than in one of its own, so that a round takes a second. Embeddings are hashed word counts: what is tested is
the program around them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import chromadb  # noqa: F401 - imported once, before the forks
import numpy  # noqa: F401

from selfrag.config.library_env import silence_libraries
from selfrag.index import generations, maintenance, open_collection, tantivy_index
from selfrag.index.catalog import sqlite
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.sync.pipeline import Options
from selfrag.index.vectors import chroma, verify
from selfrag.index.vectors.replica import Mirror

WORDS = [
    "river",
    "stone",
    "harbour",
    "engine",
    "letter",
    "garden",
    "copper",
    "signal",
    "winter",
    "market",
    "bridge",
    "violin",
    "orbit",
]
NAME = "kill"
tantivy_index.WORTH = 1  # an index of words is kept of the few chunks here, too


# --- boundaries --------------------------------------------------------------------------------------------------------------


class Boundaries:
    """Counts the places where a kill could matter, and kills this process at the one that is wanted."""

    def __init__(self, wanted: int, commits: bool = False) -> None:
        self.wanted = wanted
        self.commits = commits
        self.passed = 0

    def reach(self) -> None:
        self.passed += 1
        if self.passed == self.wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        connect = sqlite.connect

        def traced(uri: str, write: bool):  # type: ignore[no-untyped-def]
            connection = connect(uri, write)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite.connect = traced
        for name in ("upsert", "delete", "close"):
            setattr(chroma.ChromaVectors, name, self._around(getattr(chroma.ChromaVectors, name)))
        events = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
        sys.addaudithook(lambda event, _: self.reach() if event in events else None)

    def _statement(self, text: str) -> None:
        commit = text.startswith(("BEGIN", "COMMIT", "VACUUM"))
        if commit or (not self.commits and not text.startswith(("SELECT", "PRAGMA"))):
            self.reach()

    def _around(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            self.reach()
            result = method(*arguments)
            self.reach()
            return result

        return counted


def check_here(mirror: Mirror) -> list[str]:
    """`Mirror.check` without a process of its own."""
    damage = None if mirror.never_written() else mirror.damage(thorough=True)
    return [damage] if damage else [] if mirror.never_written() else verify.compare(mirror)


# --- processes ---------------------------------------------------------------------------------------------------------------


def forked(work: Callable[[], int], kill_after: float | None = None) -> int:
    """Exit status of ``work`` in a child process; negative if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)
    if kill_after is not None:
        time.sleep(kill_after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Bench:
    def __init__(self, folder: Path, seed: int) -> None:
        self.docs = folder / "docs"
        self.home = folder / "home"
        self.clean = folder / "clean"
        self.random = random.Random(seed)
        self.serial = 0
        self.docs.mkdir()
        for _ in range(30):
            self.write(self.docs / f"{self.number()}.md")

    def number(self) -> int:
        self.serial += 1
        return self.serial

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        paragraphs = [" ".join(self.random.choices(WORDS, k=70)) for _ in range(self.random.randint(1, 6))]
        path.write_text(f"# {self.random.choice(WORDS)} {self.number()}\n\n" + "\n\n".join(paragraphs) + "\n", encoding="utf-8")

    def change(self) -> None:
        """A handful of edits, new files, moves, copies and deletions."""
        for _ in range(self.random.randint(1, 8)):
            files = sorted(self.docs.rglob("*.md"))
            path = self.random.choice(files)
            action = self.random.choice(("edit", "new", "new", "move", "copy", "delete"))
            other = self.docs / self.random.choice(("", "a", "b")) / f"{self.number()}.md"
            other.parent.mkdir(exist_ok=True)
            if action == "edit":
                self.write(path)
            elif action == "new":
                self.write(other)
            elif action == "move":
                path.rename(other)
            elif action == "copy":
                shutil.copy(path, other)
            elif len(files) > 10:
                path.unlink()

    def collection(self, home: Path | None = None):  # type: ignore[no-untyped-def]
        return open_collection(home or self.home, NAME, create=True)

    def operation(self, name: str, victim: Path | None = None) -> Callable[[], int]:
        victim = victim or self.random.choice(sorted(self.docs.rglob("*.md")))

        def work() -> int:
            opened = self.collection()
            if name == "repair":
                maintenance.repair(opened)
            elif name == "rm":
                known = Catalog.open(generations.catalog_in(generations.current(opened.folder))).sources()  # type: ignore[arg-type]
                maintenance.remove(opened, [victim if str(victim) in known else next(iter(known))])
            else:
                opened.sync([self.docs], Options(embedder="hashing", rebuild=name == "rebuild"))
            return 0

        return work

    def disturbed(self, work: Callable[[], int], boundary: int | None, seconds: float | None, commits: bool = False) -> int:
        def watched() -> int:
            if boundary is not None:
                Boundaries(boundary, commits).install()
            return work()

        return forked(watched, seconds)

    def boundaries(self, name: str) -> tuple[int, float]:
        """How many boundaries a run of this operation passes on a copy of the present state, and the seconds that it takes."""
        copy = Path(tempfile.mkdtemp(dir=self.home.parent)) / "home"
        if self.home.exists():
            shutil.copytree(self.home, copy)
        kept, self.home = self.home, copy
        count = copy.parent / "count"
        work = self.operation(name)

        def counted() -> int:
            places = Boundaries(-1)
            places.install()
            status = work()
            count.write_text(str(places.passed))
            return status

        started = time.monotonic()
        status = forked(counted)
        took = time.monotonic() - started
        self.home = kept
        passed = int(count.read_text()) if status == 0 else 0
        shutil.rmtree(copy.parent)
        if status != 0:
            raise SystemExit(f"{name} fails without a kill (exit status {status})")
        return passed, took

    # --- what is compared -----------------------------------------------------------------------------------------------

    def reader_works(self) -> bool:
        def work() -> int:
            opened = self.collection()
            if opened.is_new():
                return 0
            found = asyncio.run(opened.search("copper bridge", 5))
            with closing(Catalog.open(generations.catalog_in(generations.current(opened.folder)))) as held:  # type: ignore[arg-type]
                known = {row[0] for row in held.db.execute("SELECT key FROM chunks")}
            return 0 if {passage.chunk for passage in found} <= known and (found or not known) else 1

        return forked(work) == 0

    def recovered(self) -> dict[str, int]:
        """Differences from a clean build after an undisturbed run; all zero if there are none."""
        if (status := forked(self.operation("index"))) != 0:
            return {f"recovery failed ({status})": 1}
        shutil.rmtree(self.clean, ignore_errors=True)
        opened = self.collection(self.clean)
        forked(lambda: 0 if opened.sync([self.docs], Options(embedder="hashing")) else 1)
        ours, clean = contents(self.home), contents(self.clean)
        differences = {
            "lost": len(clean["chunks"] - ours["chunks"]),
            "orphaned": len(ours["chunks"] - clean["chunks"]),
            "sources": len(ours["sources"] ^ clean["sources"]),
            "full text": len(ours["words"] ^ clean["words"]),
            "embeddings": len(clean["embeddings"] - ours["embeddings"]),
            "doubled": ours["doubled"],
        }
        differences["vectors"] = forked(self._vectors_differ)
        return {name: count for name, count in differences.items() if count}

    def _vectors_differ(self) -> int:
        found = maintenance.status(self.collection())
        if not found.consistent:
            print("status:", found.problems, file=sys.stderr)
        return 0 if found.consistent and found.pending == 0 else 1


def contents(home: Path) -> dict[str, object]:
    generation = generations.current(home / "collections" / NAME)
    assert generation is not None
    with closing(Catalog.open(generations.catalog_in(generation))) as held:
        chunks = held.db.execute(
            "SELECT key, path, ordinal, text, headings, start, stop, first_line, last_line, embedding"
            " FROM chunks JOIN sources ON sources.id = chunks.source"
        ).fetchall()
        words = held.db.execute("SELECT key, head, body FROM words LEFT JOIN chunks ON chunks.id = words.rowid").fetchall()
        return {
            "chunks": set(chunks),
            "doubled": len(chunks) - len({row[0] for row in chunks}) + len(words) - len(set(words)),
            "words": set(words),
            "sources": set(held.db.execute("SELECT path, hash, status, reason, reader, title FROM sources")),
            "embeddings": set(
                held.db.execute("SELECT hash, vector FROM embeddings WHERE hash IN (SELECT embedding FROM chunks)")
            ),
        }


# --- the run -----------------------------------------------------------------------------------------------------------------


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--boundaries", type=float, default=0.5, help="share of the kills at boundaries, not at instants")
    options.add_argument("--every", action="store_true", help="each operation at every one of its commit boundaries")
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    silence_libraries()
    Mirror.check = check_here  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.seed)
        lines = every(bench, given.seed) if given.every else run(bench, given.kills, given.seed, given.boundaries)
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(["# Recovery after kills", "", *lines, ""]), encoding="utf-8")
    sys.exit(1 if any("FAILED" in line for line in lines) else 0)


def run(bench: Bench, kills: int, seed: int, share: float) -> list[str]:
    made: Counter[tuple[str, str]] = Counter()
    survived: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    passed, points, started = 0, set(), time.monotonic()
    lengths: dict[str, tuple[int, float]] = {}
    while sum(made.values()) < kills:
        name = bench.random.choice(("index", "index", "index", "rm", "repair", "rebuild"))
        if not bench.home.exists():
            name = "index"
        bench.change()
        if name not in lengths or passed % 25 == 0:
            lengths[name] = bench.boundaries(name)
        total, took = lengths[name]
        wheres = []
        for _ in range(bench.random.randint(1, 4)):
            boundary = bench.random.randint(1, total) if bench.random.random() < share else None
            seconds = None if boundary is not None else bench.random.uniform(0, took)
            status = bench.disturbed(bench.operation(name), boundary, seconds)
            if status == -signal.SIGKILL:
                wheres.append((name, "boundary" if boundary is not None else "instant"))
                points.add((name, boundary))
            name = "index"
        if not wheres:
            continue
        passed += 1
        reader = bench.reader_works()
        differences = bench.recovered()
        for where in wheres:
            made[where] += 1
            survived[where] += reader and not differences
        if differences or not reader:
            failures.append(f"FAILED round {passed} {wheres}: reader {reader}, {differences}")
            print(failures[-1], file=sys.stderr, flush=True)
        if passed % 20 == 0:
            print(f"{sum(made.values())} kills, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    rows = [f"| {name} | {kind} | {made[name, kind]} | {survived[name, kind]} |" for name, kind in sorted(made)]
    return [
        f"`python -m tests.stress.kill --kills {kills} --seed {seed}`: {sum(survived.values())} of {sum(made.values())} kills"
        f" survived in {passed} rounds, {len({point for point in points if point[1] is not None})} different boundaries,"
        f" {time.monotonic() - started:.0f} s.",
        "",
        "| operation | killed at | kills | survived |",
        "|---|---|---:|---:|",
        *rows,
        "",
        "Survived: a search right after the kill worked, and after one undisturbed run sources, chunks, full text, embeddings and"
        " Chroma were equal to those of a clean build.",
        *failures,
    ]


def every(bench: Bench, seed: int) -> list[str]:
    """Each operation killed at every one of its commit boundaries, from one state: files indexed, then changed."""
    forked(bench.operation("index"))
    for _ in range(3):
        bench.change()
    state, started = bench.home.with_name("state"), time.monotonic()
    shutil.copytree(bench.home, state)
    rows, failures = [], []
    for name in ("index", "rm", "repair", "rebuild"):
        victim = next(path for path in sorted(bench.docs.rglob("*.md")))
        killed = survived = 0
        while True:
            shutil.rmtree(bench.home)
            shutil.copytree(state, bench.home)
            status = bench.disturbed(bench.operation(name, victim), killed + 1, None, True)
            if status == 0:
                break  # it ended before a boundary of this number: there are no more
            if status != -signal.SIGKILL:
                raise SystemExit(f"{name} fails by itself (exit status {status})")
            killed += 1
            reader, differences = bench.reader_works(), bench.recovered()
            survived += reader and not differences
            if differences or not reader:
                failures.append(f"FAILED {name} at boundary {killed}: reader {reader}, {differences}")
                print(failures[-1], file=sys.stderr, flush=True)
        rows.append(f"| {name} | {killed} | {survived} |")
        print(rows[-1], f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return [
        f"`python -m tests.stress.kill --every --seed {seed}`, {time.monotonic() - started:.0f} s:",
        "",
        "| operation | commit boundaries, each killed at once | survived |",
        "|---|---:|---:|",
        *rows,
        *failures,
    ]


if __name__ == "__main__":
    main()

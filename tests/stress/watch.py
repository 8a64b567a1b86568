"""How long it takes from the saving of a file until a search finds it, with `selfrag index --watch` at work.

    python -m tests.stress.watch [--files 1000] [--edits 20] [--embedder all-MiniLM-L6-v2]

A process watches a folder of files. Here, files are changed and made in turn, and the collection is searched, in this process,
every 20 ms until the new sentence comes first. Times are of the wall; what else the machine does counts.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from selfrag.config.library_env import silence_libraries
from selfrag.index import open_collection
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Question

WORDS = ["river", "stone", "harbour", "engine", "letter", "garden", "copper", "signal", "winter", "market", "bridge", "violin"]


def text(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS, k=words)) + "."


def found_after(collection: Collection, sentence: str, limit: float = 60) -> float:
    """Seconds until a search for ``sentence`` finds it."""
    started = time.monotonic()
    while time.monotonic() - started < limit:
        hits = collection.find_now([Question(sentence, 1)])[0]
        if hits and sentence in hits[0].passage.text:
            return time.monotonic() - started
        time.sleep(0.02)
    raise SystemExit(f"not found within {limit:g} s: {sentence}")


def measure(collection: Collection, docs: Path, edits: int) -> list[float]:
    source, times = random.Random(1), []
    collection.find_now([Question("the embedder is opened", 1)])
    for number in range(edits):
        sentence = f"Number {number} is zebra{source.randrange(10**9)}."
        path = docs / (f"{number}.md" if number % 2 else f"new{number}.md")
        path.write_text(f"# Note\n\n{text(source, 60)}\n\n{sentence}\n", encoding="utf-8")
        times.append(found_after(collection, sentence))
        print(f"{times[-1]:.2f} s", file=sys.stderr, flush=True)
        time.sleep(1.5)  # the burst is over
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--files", type=int, default=1000)
    options.add_argument("--edits", type=int, default=20)
    options.add_argument("--embedder", default="all-MiniLM-L6-v2")
    given = options.parse_args()
    silence_libraries()
    with tempfile.TemporaryDirectory() as place:
        docs, home, source = Path(place) / "docs", Path(place) / "home", random.Random(0)
        docs.mkdir()
        for number in range(given.files):
            (docs / f"{number}.md").write_text(f"# Note {number}\n\n{text(source, 30)}\n", encoding="utf-8")
        command = [sys.executable, "-m", "selfrag", "index", str(docs), "--watch", "--json", "--embedder", given.embedder]
        environment = {**os.environ, "SELFRAG_HOME": str(home)}
        watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
        assert watcher.stdout
        watcher.stdout.readline()
        time.sleep(3)
        load = os.getloadavg()[0]
        times = measure(open_collection(home / "data"), docs, given.edits)
        watcher.send_signal(signal.SIGINT)
        status = watcher.wait(60)
    print(
        f"`python -m tests.stress.watch --files {given.files} --edits {given.edits} --embedder {given.embedder}`: median"
        f" {statistics.median(times):.2f} s, longest {max(times):.2f} s of {len(times)}; {os.cpu_count()} cores, load {load:.1f};"
        f" exit status after Ctrl-C {status}."
    )


if __name__ == "__main__":
    main()

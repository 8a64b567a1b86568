"""Kills batch runs with SIGKILL at random instants, resumes them, and compares with a run that nobody disturbed.

    python -m tests.stress.kill_batch [--questions 200] [--kills 20] [--rows 100000] [--seed 7]

The agent is a cheap stand-in that answers from the question alone, so what is tested is the program around it: every id exactly
once, every row valid JSON, the rows equal to the undisturbed run's. Also measures the start and the memory of a long input.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from selfrag.batch.journal import Meta, open_journal
from selfrag.batch.rows import Row, read_jsonl, survey, unique
from selfrag.batch.run import Batch, Plan, Tally
from selfrag.types import Answer, Cited, Critique, Decision, Observer, Passage, SearchOptions, Segment, Timing, Usage


def answer(question: str, options: SearchOptions) -> Answer:
    share = int(hashlib.sha256(question.encode()).hexdigest()[:6], 16) / (1 << 24)
    passage = Passage(f"chunk-{share:.6f}", "Title", f"What is known of {question}", "notes.md", (1, 2))
    segment = Segment(f"Answer {share:.6f}", passage, Critique(share, share, 0.0, 0.5))
    return Answer(
        question, "answered", segment.text, (Cited(segment, 1, share),), (passage,), options, Decision("retrieve", share), 1, 0,
        True, "tokens", "stand-in", "stand-in", "notes", Usage(10, 5), Timing(), share,
    )  # fmt: skip


async def work(source: Path, out: Path, delay: float) -> None:
    """One run, or the rest of one. Reports its start and memory on stdout."""

    async def ask(question: str, options: SearchOptions, _observer: Observer, _instruction: str | None = None) -> Answer:
        await asyncio.sleep(delay * random.uniform(0.2, 1.8))
        return answer(question, options)

    def tell(tally: Tally) -> None:
        if tally.finished == 1 or tally.finished % 10_000 == 0:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"rows": tally.finished, "at": time.time(), "mib": round(memory, 1)}), flush=True)

    def rows() -> Iterator[Row]:
        return unique(read_jsonl(source.open("rb")))

    with open_journal(out, Meta(survey(source).sha256, {}), rows) as sink:
        await Batch(ask, SearchOptions(), sink, Plan(concurrency=8), tell=tell).run(rows())


def command(source: Path, out: Path, delay: float) -> list[str]:
    return [sys.executable, __file__, "--work", str(source), str(out), str(delay)]


def killed(source: Path, out: Path, delay: float, seconds: float) -> bool:
    """Starts a run and kills it after ``seconds``; False if it had ended by itself."""
    process = subprocess.Popen(command(source, out, delay), stdout=subprocess.PIPE)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def rows_of(path: Path) -> dict[str, str]:
    """The rows by id; raises if one is not JSON or an id comes twice."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    found = {row["id"]: json.dumps(row, sort_keys=True) for row in rows}
    if len(found) != len(rows):
        raise SystemExit(f"{path}: {len(rows) - len(found)} ids occur twice")
    return found


def questions(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            stream.write(
                json.dumps({"question": f"What is the {number}th thing?", "answers": [str(number)], "topic": number % 7}) + "\n"
            )


def kill_test(folder: Path, count: int, kills: int, seed: int) -> None:
    source, whole, delay = folder / "questions.jsonl", folder / "whole.jsonl", 0.1
    questions(source, count)
    begun = time.time()
    subprocess.run(command(source, whole, delay), check=True, stdout=subprocess.DEVNULL)
    length, expected = time.time() - begun, rows_of(whole)
    draw, found = random.Random(seed), []
    for number in range(kills):
        out = folder / f"killed-{number}.jsonl"
        while not killed(source, out, delay, draw.uniform(0.2, length)):
            out.unlink()
        found.append(out.read_bytes().count(b"\n") if out.exists() else 0)
        subprocess.run(command(source, out, delay), check=True, stdout=subprocess.DEVNULL)
        if rows_of(out) != expected:
            raise SystemExit(f"the run killed as number {number} differs from the undisturbed one")
    print(
        f"{kills} runs of {count} questions ({length:.1f} s each), each killed once and resumed: all equal to the undisturbed run"
    )
    print(f"rows that were there when it was killed: {sorted(found)}")
    out, found = folder / "often.jsonl", []
    while len(found) < kills and killed(source, out, delay, draw.uniform(0.2, 0.2 + length / 12)):
        found.append(out.read_bytes().count(b"\n") if out.exists() else 0)
    subprocess.run(command(source, out, delay), check=True, stdout=subprocess.DEVNULL)
    if rows_of(out) != expected:
        raise SystemExit("the run killed again and again differs from the undisturbed one")
    print(f"one run killed {len(found)} times over, with {found} rows, and resumed: {len(expected)} ids, each once, all equal")


def long_input(folder: Path, count: int) -> None:
    source = folder / "long.jsonl"
    questions(source, count)
    begun = time.time()
    done = subprocess.run(command(source, folder / "long-out.jsonl", 0.0), check=True, stdout=subprocess.PIPE)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    first = reports[0]["at"] - begun
    print(f"{count:,} rows in {time.time() - begun:.1f} s; first row written after {first:.2f} s, interpreter included")
    print("peak memory (MiB) after n rows: " + ", ".join(f"{r['rows']:,}: {r['mib']}" for r in reports))
    begun = time.time()
    subprocess.run(command(source, folder / "long-out.jsonl", 0.0), check=True, stdout=subprocess.PIPE)
    print(f"resuming the finished file, nothing to do: {time.time() - begun:.1f} s")


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(work(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("questions", 200), ("kills", 20), ("rows", 100_000), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kill_test(Path(folder), options.questions, options.kills, options.seed)
        long_input(Path(folder), options.rows)


if __name__ == "__main__":
    main()

"""Whole commands as a person runs them, each a process of its own: wall and CPU seconds, peak memory. Ratios of one run.

    python benchmarks/commands.py cold -c COLLECTION [--old CHECKOUT --old-home HOME] [--rounds 3] [--out FILE.md]
    python benchmarks/commands.py warm -c COLLECTION [--rounds 3]
    python benchmarks/commands.py chat -c COLLECTION [--old CHECKOUT --old-home HOME]
    python benchmarks/commands.py batch QUESTIONS.jsonl -c COLLECTION [--limits 50 500] [--old CHECKOUT --old-home HOME]

`cold` times `search` and `ask` for the same questions. `warm` times `ask` through a running `selfrag api`, in turns with `ask`
without it, and counts the CPU seconds of the service to the question. `chat` is what a further question costs once everything is
in memory: a chat of four questions less one of the first alone. `batch` times `batch` over the first N questions, for each N.
``--old`` is a checkout of another version, run with the same Python, whose collection COLLECTION is in ``--old-home``.
Versions take turns.

Wall seconds on a machine with other work say little; CPU seconds of the process and its children stand beside them.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import harness
import psutil

QUESTIONS = ("When was the Eiffel Tower built?", "Who discovered the element selenium?", "What is the capital of Nepal?")
CHAT = (*QUESTIONS, "Which phylum do earthworms belong to?")
HERE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process: seconds, and MiB."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True, slots=True)
class Version:
    """A checkout with its SELFRAG_HOME."""

    name: str
    checkout: Path
    home: Path

    def run(self, *arguments: str, typed: str = "") -> Cost:
        """``typed`` is its standard input. Raises SystemExit when the command fails; an abstention is an answer, too."""
        env = {**os.environ, "PYTHONPATH": str(self.checkout), "SELFRAG_HOME": str(self.home), "NO_COLOR": "1"}
        started = time.perf_counter()
        process = subprocess.Popen(  # -P: without it the present folder's selfrag would be taken, whichever checkout is meant
            [sys.executable, "-P", "-m", "selfrag", *arguments],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        with process.stdin:
            process.stdin.write(typed)
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        if process.returncode not in (0, 3):
            raise SystemExit(f"{self.name}: selfrag {' '.join(arguments)}: exit status {process.returncode}\n{said[-2000:]}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "peak")))


def cold(versions: Sequence[Version], collection: str, rounds: int) -> dict[str, Cost]:
    found: dict[str, list[Cost]] = {}
    for version in versions:
        for command in ("search", "ask"):
            version.run(command, QUESTIONS[0], "-c", collection)  # files into the page cache, once
    for number in range(rounds):
        question = QUESTIONS[number % len(QUESTIONS)]
        for version in versions:
            for command in ("search", "ask"):
                cost = version.run(command, question, "-c", collection)
                found.setdefault(f"{version.name} {command}", []).append(cost)
    return {name: median(costs) for name, costs in found.items()}


@contextmanager
def serving(version: Version, collection: str) -> Iterator[psutil.Process]:
    """`selfrag api`, once it listens."""
    command = [sys.executable, "-P", "-m", "selfrag", "api", "-c", collection, "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(version.checkout), "SELFRAG_HOME": str(version.home)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        if not any(line.startswith("serving") for line in process.stderr):
            raise SystemExit("the service did not start")
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def warm(version: Version, collection: str, rounds: int) -> dict[str, Cost]:
    """Each question alone and through the service, in turns; the first one through it, which opens the collection, by itself."""
    found: dict[str, list[Cost]] = {}
    version.run("ask", QUESTIONS[0], "-c", collection, "--no-service")  # files into the page cache
    with serving(version, collection) as service:

        def through(question: str) -> Cost:
            before = service.cpu_times()
            cost = version.run("ask", question, "-c", collection)
            after = service.cpu_times()
            spent = after.user + after.system - before.user - before.system
            return Cost(cost.wall, cost.cpu + spent, cost.peak)

        first = through(QUESTIONS[0])
        for number in range(rounds):
            question = QUESTIONS[number % len(QUESTIONS)]
            found.setdefault("ask, cold", []).append(version.run("ask", question, "-c", collection, "--no-service"))
            found.setdefault("ask, through the service", []).append(through(question))
        memory = service.memory_info().rss / 2**20
    service_row = Cost(float("nan"), float("nan"), memory)
    return {name: median(costs) for name, costs in found.items()} | {"first through it": first, "the service": service_row}


def chat(versions: Sequence[Version], collection: str) -> dict[str, Cost]:
    found = {}
    for version in versions:
        first, every = (version.run("chat", "-c", collection, typed="".join(f"{q}\n" for q in some)) for some in (CHAT[:1], CHAT))
        further = len(CHAT) - 1
        cost = Cost((every.wall - first.wall) / further, (every.cpu - first.cpu) / further, every.peak)
        found[f"{version.name}, a further question"] = cost
    return found


def batch(versions: Sequence[Version], collection: str, questions: Path, limits: Sequence[int]) -> dict[str, Cost]:
    found = {}
    for limit in limits:
        for version in versions:
            with tempfile.TemporaryDirectory() as folder:
                arguments = (str(questions), "-o", f"{folder}/out.jsonl", "-c", collection, "--limit", str(limit), "--quiet")
                found[f"{version.name} batch of {limit}"] = version.run("batch", *arguments)
    return found


def table(found: Mapping[str, Cost]) -> list[str]:
    lines = ["| command | wall s | CPU s | peak MiB |", "|---|---:|---:|---:|"]
    rows = [(name, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.peak:,.0f}") for name, cost in found.items()]
    return lines + [f"| {' | '.join(row)} |".replace("nan", "–") for row in rows]


def ratios(found: Mapping[str, Cost], pairs: Sequence[tuple[str, str]]) -> list[str]:
    lines = ["| ratio | wall | CPU | peak |", "|---|---:|---:|---:|"]
    for upper, lower in pairs:
        if upper in found and lower in found:
            a, b = found[upper], found[lower]
            lines.append(f"| {upper} / {lower} | {a.wall / b.wall:.2f} | {a.cpu / b.cpu:.2f} | {a.peak / b.peak:.2f} |")
    return lines


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("what", choices=["cold", "warm", "chat", "batch"])
    parser.add_argument("questions", nargs="?", type=Path)
    parser.add_argument("-c", "--collection", required=True)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--old-home", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limits", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    versions = [Version("new", HERE, Path(os.environ["SELFRAG_HOME"]))]
    if options.old:
        versions.append(Version("old", options.old, options.old_home or options.old / ".home"))
    if options.what == "cold":
        found = cold(versions, options.collection, options.rounds)
        pairs = [("new ask", "new search"), ("old ask", "old search"), ("new ask", "old ask"), ("new search", "old search")]
    elif options.what == "warm":
        found = warm(versions[0], options.collection, options.rounds)
        pairs = [("ask, through the service", "ask, cold")]
    elif options.what == "chat":
        found = chat(versions, options.collection)
        pairs = [("new, a further question", "old, a further question")]
    else:
        if options.questions is None:
            parser.error("batch wants a file of questions")
        found = batch(versions, options.collection, options.questions, options.limits)
        few, many = f"batch of {min(options.limits)}", f"batch of {max(options.limits)}"
        pairs = [(f"{name} {many}", f"{name} {few}") for name in ("new", "old") if many != few]
        pairs += [(f"new {size}", f"old {size}") for size in dict.fromkeys((few, many))]
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    lines = [f"`python benchmarks/commands.py {' '.join(sys.argv[1:2])}`, {load}", "", *table(found), "", *ratios(found, pairs)]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

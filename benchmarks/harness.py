"""What every benchmark shares: its arguments, the head of its results file, and how that file is written.

Tables come from `selfrag.evaluation.tables`, intervals from `selfrag.evaluation.intervals`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from selfrag.types import Passage

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "corpora" / "wikipedia"
RESULTS = ROOT / "benchmarks" / "results"


def _described() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


COMMIT = _described()
"""The state that this process loaded; "-dirty" where files differ from it. At the end of a long run there may be another one."""


@dataclass(slots=True)
class Given:
    """A retriever that knows the passages of every question beforehand."""

    passages: dict[str, list[Passage]]
    name: str = "given"
    warnings: tuple[str, ...] = ()

    def describe(self) -> dict[str, object]:
        return {}

    async def search(self, query: str, k: int) -> list[Passage]:
        return self.passages[query][:k]

    async def close(self) -> None:
        """Nothing is open."""


def parser(doc: str | None, out: str | None = None) -> argparse.ArgumentParser:
    """The arguments of a benchmark, described by its docstring; with ``out``, ``--out FILE`` names its results file."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if out is not None:
        made.add_argument("--out", type=Path, default=RESULTS / out, help=f"where the results go  [benchmarks/results/{out}]")
    return made


def machine() -> str:
    """The processor and the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name or platform.machine()}, {cores} cores"


def command() -> str:
    """How this benchmark was called, without this machine's folders."""
    shown = [Path(argument).name if Path(argument).is_absolute() else argument for argument in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])


def provenance(*more: str) -> str:
    """The head of a results file: command, commit, machine, date, load, and whatever else decides the figures."""
    load = f"load average {os.getloadavg()[0]:.1f} when written" if hasattr(os, "getloadavg") else ""
    parts = (f"`{command()}`", f"commit {COMMIT}", machine(), date.today().isoformat(), load, *more)
    return " · ".join(part for part in parts if part)


def write(out: Path, title: str, *blocks: str, head: str | None = None) -> None:
    """Writes a results file in Markdown: its title, `provenance` (or ``head``), its blocks."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n\n".join((f"# {title}", head or provenance(), *blocks)) + "\n", encoding="utf-8")


def write_json(out: Path, document: Any) -> None:
    """Writes results as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

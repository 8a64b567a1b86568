"""What `batch`, `eval` and `calibrate` have in common: their options, their progress on stderr, and how a run ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.errors import ANSWERED, FAILED, INTERRUPTED, SOME_FAILED, UsageError

if TYPE_CHECKING:
    from selfrag.agent import Agent
    from selfrag.batch.journal import OnChange, Sink
    from selfrag.batch.questions import Questions
    from selfrag.batch.run import Plan, Tally
    from selfrag.types import SearchOptions

EVERY = 10.0
"""Seconds between two lines of progress where stderr is not a terminal."""


@dataclass(frozen=True, slots=True)
class RunFlags:
    """Which questions, how many at once, what to do about failures and about an existing output."""

    task: Annotated[
        str | None,
        typer.Option(metavar="T", help="Format: jsonl, csv, squad, nq_open, popqa, arc, pubhealth, fever, asqa.  [detected]"),
    ] = None
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N questions.")] = None
    sample: Annotated[int | None, typer.Option(metavar="N", min=1, help="N questions drawn at random, by --seed.")] = None
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of --sample.")] = 0
    concurrency: Annotated[int, typer.Option("--concurrency", "-j", metavar="N", min=1, help="Questions at once.")] = 8
    retry: Annotated[int, typer.Option(metavar="N", min=0, help="Retries after an engine failure.")] = 2
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Limit for one question, retries included.")] = None
    fail_on_error: Annotated[
        float | None,
        typer.Option(metavar="SHARE|COUNT", min=0, help="Stop when more than this share (0.1) or number (5) has failed."),
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Overwrite an output of another run.")] = False
    append: Annotated[bool, typer.Option("--append", help="Resume even if input or settings changed.")] = False

    def questions(self, source: str) -> Questions:
        """The questions of ``source``. Raises InputError and UsageError."""
        from selfrag.batch.questions import open_questions

        return open_questions(source, self.task, self.limit, self.sample, self.seed)

    def plan(self, keep_passages: bool) -> Plan:
        from selfrag.batch.run import Plan

        if self.timeout is not None and self.timeout <= 0:
            raise UsageError(f"--timeout is {self.timeout:g}, but a time is needed", "--timeout 60")
        return Plan(self.concurrency, self.retry, self.timeout, self.fail_on_error, keep_passages)

    def on_change(self) -> OnChange:
        if self.restart and self.append:
            raise UsageError("--restart and --append exclude each other", "--append keeps what is there, --restart does not")
        return "restart" if self.restart else "append" if self.append else "refuse"


async def run_questions(
    agent: Agent, options: SearchOptions, questions: Questions, sink: Sink, plan: Plan, quiet: bool, name: str = ""
) -> Tally:
    """Answers the questions into ``sink``, with progress on stderr."""
    from selfrag.batch.resume import answer_all

    with progress(questions.total, quiet, name) as show:
        tally = await answer_all(agent, options, questions, sink, plan, show)
    terminal.say(summary(tally, name), quiet)
    return tally


async def rows_of(
    agent: Agent, options: SearchOptions, questions: Questions, flags: RunFlags, out: Path | None, quiet: bool, name: str = ""
) -> tuple[list[dict[str, Any]], Tally]:
    """The rows of a run, including those already in ``out``; if ``out`` is None they stay in memory."""
    from selfrag.batch.journal import MemorySink
    from selfrag.batch.resume import open_sink
    from selfrag.evaluation.report import read_run

    with open_sink(out, agent, options, questions, flags.on_change()) as sink:
        tally = await run_questions(agent, options, questions, sink, flags.plan(keep_passages=True), quiet, name)
    return (sink.rows if isinstance(sink, MemorySink) else read_run(out) if out else []), tally


def exit_code(tally: Tally) -> int:
    if tally.stopped == "interrupted":
        return INTERRUPTED
    if tally.stopped == "failures":
        return FAILED
    return SOME_FAILED if tally.failed else ANSWERED


# --- progress ------------------------------------------------------------------------------------------------------------------


@contextmanager
def progress(total: int | None, quiet: bool, name: str = "") -> Iterator[Callable[[Tally], None]]:
    """A bar on a terminal, a line every `EVERY` seconds elsewhere, nothing if ``quiet``."""
    if quiet:
        yield lambda _: None
        return
    if terminal.is_plain(sys.stderr):
        yield Lines(name)
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=terminal.err(), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda tally: bar.update(task, completed=tally.resumed + tally.finished, description=status(tally, name))


class Lines:
    """Progress where stderr is not a terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() - self.shown >= EVERY:
            self.shown = time.monotonic()
            terminal.say(status(tally, self.name))


def status(tally: Tally, name: str = "") -> str:
    """For example "120/200  60%  0.8/s  1:40 left  abstained 12%  failed 2"."""
    done = tally.resumed + tally.finished
    parts = ["finishing what is in flight; Ctrl-C again stops now"] if tally.stopped == "interrupted" else []
    parts += [name] if name else []
    parts += [f"{done:,}/{tally.total:,}", f"{done / max(1, tally.total):.0%}"] if tally.total is not None else [f"{done:,}"]
    parts.append(f"{tally.rate:.1f}/s" if tally.rate >= 0.1 else f"{60 * tally.rate:.1f}/min")
    if tally.seconds_left is not None:
        parts.append(f"{clock(tally.seconds_left)} left")
    parts.append(f"abstained {tally.abstained / max(1, tally.finished):.0%}")
    parts.append(f"failed {tally.failed:,}")
    return "  ".join(parts)


def summary(tally: Tally, name: str = "") -> str:
    """One line on how a run ended, and why its first failed row failed."""
    from selfrag.evaluation.tables import shortened

    counts = f"{tally.answered:,} answered, {tally.abstained:,} abstained, {tally.failed:,} failed"
    first = f"\n  → the first failure: {shortened(tally.why, 200)}" if tally.why else ""
    before = f", {tally.resumed:,} done before" if tally.resumed else ""
    why = {"interrupted": "; interrupted, the same command resumes", "failures": "; stopped: too many failed"}
    return (f"{name}: " if name else "") + counts + before + why.get(tally.stopped, "") + first


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

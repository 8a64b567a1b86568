"""What `batch`, `eval` and `calibrate` have in common: their options, their progress on stderr, and how a run ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.errors import ANSWERED, FAILED, INTERRUPTED, SOME_FAILED, UsageError

if TYPE_CHECKING:
    from selfrag.algorithm.search import Agent
    from selfrag.batch.journal import OnChange, Sink
    from selfrag.batch.questions import Questions
    from selfrag.batch.run import Plan, Tally
    from selfrag.types import SearchOptions

EVERY = 10.0
"""Seconds between two lines of progress where stderr is not a terminal."""


@dataclass(frozen=True, slots=True)
class RunFlags:
    """Which questions, how many at once, what to do about failures and about an output that is there already."""

    task: Annotated[
        str | None,
        typer.Option(metavar="T", help="Format: jsonl, csv, squad, nq_open, popqa, arc, pubhealth, fever, asqa.  [detected]"),
    ] = None
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N questions.")] = None
    sample: Annotated[int | None, typer.Option(metavar="N", min=1, help="N questions drawn at random, by --seed.")] = None
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of --sample.")] = 0
    concurrency: Annotated[int, typer.Option("--concurrency", "-j", metavar="N", min=1, help="Questions at once.")] = 8
    retry: Annotated[int, typer.Option(metavar="N", min=0, help="Tries after the first where the engine fails.")] = 2
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Limit for one question, retries included.")] = None
    fail_on_error: Annotated[
        float | None,
        typer.Option(metavar="SHARE|COUNT", min=0, help="Stop when more than this share (0.1) or number (5) has failed."),
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="Overwrite an output of another run.")] = False
    append: Annotated[bool, typer.Option("--append", help="Go on with it although the input or the settings changed.")] = False

    def questions(self, source: str) -> Questions:
        """What is asked, of ``source``. Raises InputError and UsageError."""
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


def meaning(agent: Agent, options: SearchOptions, flags: RunFlags, questions: Questions) -> dict[str, Any]:
    """The settings that change answers, by name: those that a resumed run must share with the run before."""
    found = asdict(options)
    weights = {f"w_{name}": value for name, value in found.pop("weights").items()}
    drawn = {"sample": flags.sample, "seed": flags.seed} if flags.sample else {}
    return {
        "model": agent.reflector.engine.model,
        **agent.reflector.describe(),
        **(agent.retriever.describe() if agent.retriever else {}),
        "task": questions.task,
        **drawn,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in found.items()},
        **weights,
    }


@contextmanager
def opened(out: Path | None, agent: Agent, options: SearchOptions, flags: RunFlags, questions: Questions) -> Iterator[Sink]:
    """Where rows go: ``out``, locked and resumed, or memory."""
    from selfrag.batch.journal import Collected, Meta, open_journal

    if out is None:
        yield Collected()
        return
    if questions.fingerprint and out.exists() and out.samefile(questions.name):
        raise UsageError(f"{out} is the file of questions", "name another file with -o")
    meta = Meta(questions.fingerprint, meaning(agent, options, flags, questions))
    with open_journal(out, meta, questions.rows, flags.on_change()) as journal:
        yield journal


async def run(
    agent: Agent, options: SearchOptions, questions: Questions, sink: Sink, plan: Plan, quiet: bool, name: str = ""
) -> Tally:
    """Answers the questions, with progress on stderr; Ctrl-C stops in an orderly way."""
    from selfrag.batch.run import Batch, interruptible

    with ExitStack() as stack:
        tell = stack.enter_context(progress(quiet, name))
        batch = Batch(agent.ask, options, sink, plan, questions.total, tell)
        stack.enter_context(interruptible(batch))
        tally = await batch.run(questions.rows())
    terminal.say(summary(tally, name), quiet)
    return tally


def exit_code(tally: Tally) -> int:
    if tally.stopped == "interrupted":
        return INTERRUPTED
    if tally.stopped == "failures":
        return FAILED
    return SOME_FAILED if tally.failed else ANSWERED


# --- what is said --------------------------------------------------------------------------------------------------------------


@contextmanager
def progress(quiet: bool, name: str = "") -> Iterator[Callable[[Tally], None]]:
    """One line that is written over on a terminal, a line now and then elsewhere, nothing if ``quiet``."""
    live = not terminal.is_plain(sys.stderr)
    shown = time.monotonic() - (EVERY if live else 0)
    told = False

    def tell(tally: Tally) -> None:
        nonlocal shown, told
        if tally.stopped == "interrupted" and not told:
            told = True
            print(f"{clear}finishing what is in flight; Ctrl-C again gives it up", file=sys.stderr, flush=True)
        if time.monotonic() - shown >= (0.1 if live else EVERY):
            shown = time.monotonic()
            print(f"{clear}{status(tally, name)}", end="" if live else "\n", file=sys.stderr, flush=True)

    clear = "\r\x1b[K" if live else ""
    yield (lambda _: None) if quiet else tell
    if live and not quiet:
        print(clear, end="", file=sys.stderr, flush=True)


def status(tally: Tally, name: str = "") -> str:
    """For example "120/200  60 %  0.8/s  1:40 left  abstained 12 %  failed 2"."""
    done = tally.resumed + tally.finished
    parts = [name] if name else []
    parts += [f"{done:,}/{tally.total:,}", f"{done / max(1, tally.total):.0%}"] if tally.total is not None else [f"{done:,}"]
    parts.append(f"{tally.rate:.1f}/s" if tally.rate >= 0.1 else f"{60 * tally.rate:.1f}/min")
    if tally.seconds_left is not None:
        parts.append(f"{clock(tally.seconds_left)} left")
    parts.append(f"abstained {tally.abstained / max(1, tally.finished):.0%}")
    parts.append(f"failed {tally.failed:,}")
    return "  ".join(parts)


def summary(tally: Tally, name: str = "") -> str:
    from selfrag.evaluation.tables import shortened

    said = f"{tally.answered:,} answered, {tally.abstained:,} abstained, {tally.failed:,} failed"
    first = f"\n  → the first: {shortened(tally.why, 200)}" if tally.why else ""
    before = f", {tally.resumed:,} were there before" if tally.resumed else ""
    why = {"interrupted": "; interrupted, the same command goes on", "failures": "; stopped: too many failed"}
    return (f"{name}: " if name else "") + said + before + why.get(tally.stopped, "") + first


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

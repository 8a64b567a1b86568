"""A run of an agent over questions: where its rows go, which settings a resumed run must share, and the run itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfrag.agent import Agent
from selfrag.batch.journal import MemorySink, Meta, OnChange, Sink, open_journal
from selfrag.batch.questions import Questions
from selfrag.batch.run import Batch, Plan, Tally, interruptible
from selfrag.errors import UsageError
from selfrag.types import SearchOptions


def settings_of(agent: Agent, options: SearchOptions, questions: Questions) -> dict[str, Any]:
    """The settings that change answers, by name; a resumed run must share them with the run before."""
    found = asdict(options)
    weights = {f"w_{name}": value for name, value in found.pop("weights").items()}
    return {
        "model": agent.reflector.engine.model,
        **agent.reflector.describe(),
        **(agent.retriever.describe() if agent.retriever else {}),
        **questions.describe(),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in found.items()},
        **weights,
    }


@contextmanager
def open_sink(
    out: Path | None, agent: Agent, options: SearchOptions, questions: Questions, on_change: OnChange
) -> Iterator[Sink]:
    """Where rows go: ``out``, locked and resumed, or memory where it is None."""
    if out is None:
        yield MemorySink()
        return
    if questions.fingerprint and out.exists() and out.samefile(questions.name):
        raise UsageError(f"{out} is the file of questions", "name another file with -o")
    meta = Meta(questions.fingerprint, settings_of(agent, options, questions))
    with open_journal(out, meta, questions.rows, on_change) as journal:
        yield journal


async def answer_all(
    agent: Agent,
    options: SearchOptions,
    questions: Questions,
    sink: Sink,
    plan: Plan,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Answers the questions that ``sink`` does not have yet. Ctrl-C finishes those in flight; a second one cancels them."""
    batch = Batch(agent.ask, options, sink, plan, questions.total, on_progress)
    with interruptible(batch):
        return await batch.run(questions.rows())

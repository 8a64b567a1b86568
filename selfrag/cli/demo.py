"""`selfrag demo`: everything from a folder of documents to a cited and critiqued answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag.cli import terminal
from selfrag.cli.options import AgentFlags, Quiet
from selfrag.errors import InputError

if TYPE_CHECKING:
    from selfrag.cli.asking import Asked
    from selfrag.config.settings import Settings

COLLECTION = "demo"
QUESTION = "Who discovered the element selenium?"
SECOND = "What is the capital and largest city of Nepal?"


def demo(
    question: Annotated[str, typer.Argument(metavar="[QUESTION]", help="Question to the example documents.")] = QUESTION,
    quiet: Quiet = False,
) -> None:
    """Index the example documents, ask them a question, show the answer.

    Fetches the bundled model if it is missing, brings the collection `demo` up to date with 411 Wikipedia summaries, and
    asks twice: once cold, once with everything in memory. Delete the collection with `selfrag rm -c demo --yes`.

    \b
    Examples:
      selfrag demo
      selfrag demo "Which phylum do earthworms belong to?"
    """
    import asyncio

    from selfrag.config import settings

    now = settings.load()
    fetch_model(now, quiet)
    index_examples(now, quiet)
    asyncio.run(ask_twice(question, quiet))


def documents() -> Path:
    """The folder of the example documents: in the source tree, or installed with the package."""
    package = Path(__file__).parents[1]
    for folder in (package.parent / "corpora" / "wikipedia", package / "_corpora" / "wikipedia"):
        if folder.is_dir():
            return folder
    raise InputError(f"the example documents are not in {package}", "pip install --force-reinstall selfrag")


def fetch_model(now: Settings, quiet: bool) -> None:
    from selfrag import models
    from selfrag.config.settings import DEFAULT_MODEL

    terminal.say(f"1. the model {DEFAULT_MODEL}", quiet)
    models.pull(DEFAULT_MODEL, now.paths.cache, lambda line: terminal.say(f"   {line}", quiet))


def index_examples(now: Settings, quiet: bool) -> None:
    from selfrag import index
    from selfrag.cli.index import progress

    folder = documents()
    terminal.say(f"2. the documents in {folder}", quiet)
    collection = index.open_collection(now.paths.data, COLLECTION, create=True)
    with progress(quiet) as observer:
        report = collection.sync([folder], observer=observer)
    changed = report.new + report.updated + report.moved + report.removed
    terminal.say(f"   {changed} changed, {report.unchanged} unchanged, {report.chunks} chunks, {report.seconds:.1f} s", quiet)
    collection.close()


async def ask_twice(question: str, quiet: bool) -> None:
    """Prints both answers with their times; the first includes the loading of libraries and model."""
    from selfrag.cli.asking import ask_agent
    from selfrag.config.settings import DEFAULT_MODEL

    started = time.perf_counter()
    terminal.say("3. a question, with everything still to be loaded", quiet)
    async with AgentFlags(collection=[COLLECTION], given={"model": DEFAULT_MODEL}).open(quiet=quiet) as agent:
        show(question, await ask_agent(agent, question, quiet), time.perf_counter() - started)
        started = time.perf_counter()
        terminal.say("4. another one, with everything in memory", quiet)
        show(SECOND, await ask_agent(agent, SECOND, quiet), time.perf_counter() - started)


def show(question: str, asked: Asked, seconds: float) -> None:
    from rich.text import Text

    from selfrag.cli.ask import show_answer

    terminal.show("", Text(question, style="bold"))
    show_answer(asked.answer, asked.recorder, "evidence", quiet=False)
    terminal.show(Text(f"{seconds:.1f} s in all", style="dim"), "")

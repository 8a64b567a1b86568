"""`selfrag history` and `selfrag feedback`: earlier questions and answers, and their ratings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json, group
from selfrag.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from selfrag.conversation.history import Entry, History
    from selfrag.types import SearchOptions

Id = Annotated[str, typer.Argument(metavar="ID", help="Number of an answer, as `selfrag history` lists it, or last.")]

HISTORY = """List earlier questions, newest first.

`ask` and `chat` keep every answer in one file on this machine, which only its owner may read; --no-history stores nothing.

\b
Examples:
  selfrag history
  selfrag history --search "tower 1889" --json
  selfrag history show 12 --json | jq .citations
  selfrag history rm 12 13
"""


def open_history() -> History:
    """The history of this SELFRAG_HOME."""
    from selfrag.config import settings
    from selfrag.conversation.history import History

    now = settings.load()
    return History.open(now.paths.conversations, now.history_mb * 2**20)


def found(history: History, id: str) -> Entry:
    """The answer with this number, or the last one. Raises InputError and UsageError."""
    if id == "last":
        if entry := history.last():
            return entry
        raise UsageError("nothing has been asked yet", 'selfrag ask "When was the Eiffel Tower built?"')
    if not id.isascii() or not id.isdigit():
        raise UsageError(f"{id!r} is not the number of an answer", "`selfrag history` lists them; the newest is `last`")
    return history.get(int(id))


# --- commands ------------------------------------------------------------------------------------------------------------------


def listed(
    context: typer.Context,
    search: Annotated[str, typer.Option(metavar="WORDS", help="Only answers that contain all of these words.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Maximum number of answers.")] = 20,
    json: Json = False,
) -> None:
    if context.invoked_subcommand:
        return
    from selfrag.conversation.history import entry_json

    with open_history() as history:
        entries = history.find(search, limit)
    if json:
        terminal.print_json([entry_json(entry) for entry in entries])
        return
    if not entries:
        terminal.say("nothing found" if search else "nothing has been asked yet")
    for entry in entries:
        terminal.show(line(entry))


def line(entry: Entry) -> Text:
    """An answer in one line: number, time, verdict, question, and how the answer begins."""
    from rich.text import Text

    from selfrag._util import clean

    marks = {"good": ("+", "green"), "bad": ("-", "red"), None: (" ", "")}
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.asked))
    answer = clean(entry.document["answer"]) or "(no answer)"
    shown = answer if len(answer) <= 80 else answer[:79] + "…"
    question = (clean(entry.document["question"]), "bold")
    return Text.assemble(f"{entry.id:>4} ", (when, "dim"), " ", marks[entry.verdict], " ", question, "  ", (shown, "dim"))


def show(id: Id, json: Json = False) -> None:
    """Show an answer again; with --json the document that `ask --json` printed.

    \b
    Examples:
      selfrag history show last
      selfrag history show 12 --json | jq .segments
    """
    with open_history() as history:
        entry = found(history, id)
    if json:
        terminal.print_json(entry.document)
        return
    from selfrag._util import clean
    from selfrag.answers import render

    terminal.show(line(entry), "")
    if entry.typed != entry.document["question"]:
        terminal.show(f"typed: {clean(entry.typed)}", "")
    terminal.show(render.answer(entry.document, options_of(entry), Path.cwd(), evidence=True))
    if entry.note:
        terminal.show(f"note: {clean(entry.note)}")


def options_of(entry: Entry) -> SearchOptions | None:
    """The search options of the answer, None if they were not stored."""
    from selfrag.answers.trace import options_from

    kept = entry.conditions.get("options")
    return options_from(kept) if kept else None


def rm(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Numbers of answers.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove every answer.")] = False,
) -> None:
    """Remove answers from the history, and their text from the file.

    \b
    Examples:
      selfrag history rm 12 13
      selfrag history rm --all
    """
    if bool(ids) == everything:
        raise UsageError("name answers to remove, or --all", "selfrag history rm 12")
    with open_history() as history:
        count = history.clear() if everything else history.remove([found(history, id).id for id in ids or ()])
    terminal.say(f"{count} {'answer' if count == 1 else 'answers'} removed")


def feedback(
    id: Id,
    verdict: Annotated[Literal["good", "bad"], typer.Argument(help="Whether answering, or abstaining, was right.")],
    note: Annotated[str, typer.Option(metavar="TEXT", help="A note to store with it.")] = "",
) -> None:
    """Rate an answer, for `selfrag calibrate --from-history`.

    For an answer, good means that it is right. For an abstention, good means that the documents do not contain the answer.

    \b
    Examples:
      selfrag feedback last good
      selfrag feedback 12 bad --note "the wrong year"
    """
    with open_history() as history:
        entry = history.rate(found(history, id).id, verdict, note)
    terminal.say(f"{entry.id}: {verdict}")


history = group(HISTORY, show, rm, otherwise=listed)

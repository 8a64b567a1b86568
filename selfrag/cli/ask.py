"""`selfrag ask`: one question, one answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfrag.cli import terminal
from selfrag.cli.conversation import Conversation, Keep, Rewrite, open_conversation
from selfrag.cli.options import AgentFlags, Json, Quiet, Service, with_flags
from selfrag.errors import ABSTAINED, InputError, UsageError

if TYPE_CHECKING:
    from selfrag.answers.trace import Recorder
    from selfrag.cli.stream import Stream
    from selfrag.types import Answer


Show = Literal["answer", "evidence", "tree"]
"""How much of a search is printed."""


@with_flags
def ask(
    flags: AgentFlags,
    question: Annotated[str | None, typer.Argument(metavar="[QUESTION|-]", help="The question; - reads it from stdin.")] = None,
    choices: Annotated[list[str] | None, typer.Option(metavar="A,B", help="Answer with one of these (a closed set).")] = None,
    resume: Annotated[bool, typer.Option("--continue", help="Treat the question as a follow-up to the last one.")] = False,
    rewrite: Rewrite = None,
    history: Keep = None,
    service: Service = True,
    show: Annotated[Show, typer.Option(help="Print the answer, also its evidence in full, or the whole search.")] = "answer",
    save_trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the search for `selfrag trace`.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write answer and search as an HTML page.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write answer and sources as Markdown.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a question; every sentence of the answer is cited and critiqued.

    The model scores each sentence: ISREL, is the passage relevant (0 to 1); ISSUP, does it support the sentence (0 to 1);
    ISUSE, is the answer useful (-1 to 1). The exit status is 0 if answered, 3 if the program abstains.

    \b
    Examples:
      selfrag ask "When was the Eiffel Tower built?"
      selfrag ask "Who proved it?" -c papers -c notes --show evidence
      selfrag ask "What was decided?" --source 'minutes/2026-*.md'
      selfrag ask "What is the notice period?" -f lease.docx
      journalctl -b | selfrag ask "Why did the disk fail?" -f -
      selfrag ask "Is it prime?" --choices yes,no --mode never
      echo "Why is the sky blue?" | selfrag ask - --json | jq .answer
      selfrag ask "and when was she born?" --continue
      selfrag ask "What is a quark?" --save-trace quark.json --show tree
      selfrag ask "What is a quark?" --html quark.html --markdown quark.md
    """
    import asyncio

    from_stdin = "-" in (flags.files or ())
    if from_stdin and question in (None, "-"):
        raise UsageError("stdin cannot be both the question and a file", 'cat log | selfrag ask "What failed?" -f -')
    asked = read_question(question)
    if question not in (None, "-") and not from_stdin and _unread():
        terminal.say("warning: the text on stdin is not read, since the question is an argument", quiet)
    conversation, chosen = open_conversation(history, resume, quiet), split_choices(choices)
    stream = open_stream(show) if not json else None
    answer, recorder = asyncio.run(answered(asked, flags, chosen, conversation, rewrite, service, stream, quiet))
    if save_trace:
        keep(save_trace, answer, recorder)
    if html or markdown:
        export(answer, recorder, html, markdown)
    if json:
        from selfrag.answers.schema import answer_json

        terminal.print_json(answer_json(answer))
    else:
        show_answer(answer, recorder, show, quiet, stream)
    if answer.status == "abstained":
        raise typer.Exit(ABSTAINED)


def read_question(given: str | None) -> str:
    """The question from the command line, or from stdin for ``-`` and for a pipe."""
    if given is None and sys.stdin.isatty():
        raise UsageError("there is no question", 'selfrag ask "When was the Eiffel Tower built?"')
    text = sys.stdin.read() if given in (None, "-") else given
    if not text or not text.strip():
        raise UsageError("the question is empty", 'selfrag ask "When was the Eiffel Tower built?"')
    return checked(text.strip())


def _unread() -> bool:
    """Whether stdin holds text. Consumes none of it and does not wait for an idle pipe."""
    import array
    import fcntl
    import os
    import stat
    import termios

    try:
        number = sys.stdin.fileno()
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode):
            return found.st_size > os.lseek(number, 0, os.SEEK_CUR)
        waiting = array.array("i", [0])
        return stat.S_ISFIFO(found.st_mode) and fcntl.ioctl(number, termios.FIONREAD, waiting) == 0 and waiting[0] > 0
    except (OSError, ValueError):  # no stdin at all
        return False


def checked(question: str) -> str:
    """``question``. Raises UsageError if it is not valid UTF-8, which no tokenizer can encode."""
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the question is not valid UTF-8 at character {error.start + 1}", "iconv -f LATIN1 -t UTF-8") from None
    return question


def split_choices(given: list[str] | None) -> tuple[str, ...]:
    """The choices, separated by commas or given one by one. Raises UsageError if none are left."""
    choices = tuple(choice.strip() for part in given or () for choice in part.split(",") if choice.strip())
    if given and not choices:
        raise UsageError("--choices names no answer", "--choices yes,no")
    return choices


async def answered(
    typed: str,
    flags: AgentFlags,
    choices: tuple[str, ...],
    conversation: Conversation,
    rewriter: str | None,
    service: bool,
    stream: Stream | None,
    quiet: bool,
) -> tuple[Answer, Recorder]:
    """Asks a running service, or the agent that ``flags`` describe. The answer is in the history before all of it is printed."""
    from selfrag.cli.asking import Asker

    async with Asker(flags, choices, rewriter, quiet, service) as asker:
        question = await asker.understood(typed, conversation)
        asked = await asker.ask(question, stream)
    conversation.remember(typed, asked.answer, asked.described, quiet)
    return asked.answer, asked.recorder


def keep(file: Path, answer: Answer, recorder: Recorder) -> None:
    """Writes the trace. Raises InputError if it cannot be written."""
    from selfrag.answers import trace

    try:
        trace.save(file, answer, recorder.events)
    except OSError as error:
        raise InputError(
            f"the trace cannot be written to {file}: {error.strerror}", "name another file with --save-trace"
        ) from error


def export(answer: Answer, recorder: Recorder, html: Path | None, markdown: Path | None) -> None:
    """Writes the answer as an HTML page and as Markdown, if requested. Raises InputError if one cannot be written."""
    from selfrag.answers import html as pages
    from selfrag.answers import markdown as notes
    from selfrag.answers import trace

    found = trace.read(trace.trace_json(answer, recorder.events))
    if html:
        terminal.write_file(html, pages.page(found, Path.cwd()), "--html")
    if markdown:
        terminal.write_file(markdown, notes.document(found.answer, found.options, Path.cwd()), "--markdown")


def open_stream(show: Show) -> Stream | None:
    """Prints the answer during the search; None if the search tree is printed first."""
    from selfrag.cli.stream import Stream

    return None if show == "tree" else Stream(evidence=show == "evidence")


def show_answer(answer: Answer, recorder: Recorder, show: Show, quiet: bool, stream: Stream | None = None) -> None:
    """Prints the answer, or the rest of it after ``stream``; warnings go to stderr."""
    from selfrag.cli.stream import Stream

    if show == "tree":
        from selfrag.answers import render, trace

        document = trace.trace_json(answer, recorder.events)
        terminal.show(render.tree(document["answer"], document["events"], document["passages"], Path.cwd()), "")
    (stream or Stream(evidence=show != "answer")).finish(answer)
    for warning in answer.warnings:
        terminal.say(f"warning: {warning}", quiet)

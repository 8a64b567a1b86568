"""`selfrag ask`: one question, one answer."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag.cli import terminal
from selfrag.cli.options import AgentFlags, Json, Quiet, with_flags
from selfrag.cli.talk import Keep, Rewrite, Talk, open_rewriter, open_talk, show_rewriting, standalone
from selfrag.errors import ABSTAINED, InputError, UsageError

if TYPE_CHECKING:
    from selfrag.agent import Agent
    from selfrag.answers.trace import Recorder
    from selfrag.types import Answer, Event, Observer


class Show(StrEnum):
    """How much of a search is printed."""

    answer = "answer"
    evidence = "evidence"
    tree = "tree"


def register(app: typer.Typer) -> None:
    app.command()(ask)


@with_flags
def ask(
    flags: AgentFlags,
    question: Annotated[str | None, typer.Argument(metavar="[QUESTION|-]", help="The question; - reads it from stdin.")] = None,
    choices: Annotated[list[str] | None, typer.Option(metavar="A,B", help="Closed set: the answer is one of these.")] = None,
    resume: Annotated[bool, typer.Option("--continue", help="A follow-up to what was asked last.")] = False,
    rewrite: Rewrite = None,
    history: Keep = None,
    service: Annotated[
        bool, typer.Option("--service/--no-service", help="Use a running `selfrag api` with the same settings.  [on]")
    ] = True,
    show: Annotated[Show, typer.Option(help="The answer; with its evidence in full; or the whole search.")] = Show.answer,
    save_trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the search, for `selfrag trace`.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write answer and search as a page, too.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write answer and sources as Markdown, too.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask a question; every sentence of the answer is cited and critiqued.

    Behind each sentence stand three judgements of the model: ISREL, is the passage relevant (0 to 1); ISSUP, does it support
    the sentence (0 to 1); ISUSE, is the answer useful (-1 to 1). The exit status is 0 if answered, 3 if the program abstains.

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
    talk, chosen = open_talk(history, resume, quiet), split_choices(choices)
    found = ask_service(asked, flags, chosen, talk, rewrite, quiet) if service else None
    answer, recorder = found or asyncio.run(answered(asked, flags, chosen, talk, rewrite, quiet))
    if save_trace:
        keep(save_trace, answer, recorder)
    if html or markdown:
        export(answer, recorder, html, markdown)
    if json:
        from selfrag.answers.schema import answer_json

        terminal.print_json(answer_json(answer))
    else:
        show_answer(answer, recorder, show, quiet)
    if answer.status == "abstained":
        raise typer.Exit(ABSTAINED)


def read_question(given: str | None) -> str:
    """The question of the command line, or of stdin for ``-`` and for a pipe. Text on stdin beside a question is not read."""
    if given is None and sys.stdin.isatty():
        raise UsageError("there is no question", 'selfrag ask "When was the Eiffel Tower built?"')
    text = sys.stdin.read() if given in (None, "-") else given
    if not text or not text.strip():
        raise UsageError("the question is empty", 'selfrag ask "When was the Eiffel Tower built?"')
    return checked(text.strip())


def _unread() -> bool:
    """Whether text waits on stdin; nothing of it is consumed, and an idle pipe is not waited for."""
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
    """``question``, unless it came as invalid UTF-8, which no tokenizer can encode."""
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the question is not valid UTF-8 at character {error.start + 1}", "iconv -f LATIN1 -t UTF-8") from None
    return question


def split_choices(given: list[str] | None) -> tuple[str, ...]:
    """Choices may be joined by commas or be given one by one. UsageError if that leaves none."""
    choices = tuple(choice.strip() for part in given or () for choice in part.split(",") if choice.strip())
    if given and not choices:
        raise UsageError("--choices names no answer", "--choices yes,no")
    return choices


def ask_service(
    typed: str, flags: AgentFlags, choices: tuple[str, ...], talk: Talk, rewriter: str | None, quiet: bool
) -> tuple[Answer, Recorder] | None:
    """Asks a running service that answers as this process would; None if none is running or the connection was lost."""
    from selfrag.config import settings

    now = settings.load(**flags.given)
    if flags.hyde or flags.files or (talk.turns and (rewriter not in (None, "rule") or now.reflection == "prompted")):
        return None
    if not (now.paths.data / "services").is_dir():
        return None
    from selfrag.answers.trace import Recorder
    from selfrag.cli.live import watching
    from selfrag.conversation.followup import rewrite
    from selfrag.service import client, registry

    running = registry.find(now)
    if running is None:
        return None
    question, recorder = rewrite(typed, talk.turns), Recorder()
    show_rewriting(typed, question, quiet)
    body = {
        "question": question,
        "collections": flags.collection or [now.collection],
        "source": flags.source,
        "where": flags.where,
    }
    try:
        with watching(quiet) as watcher:
            found = client.ask(
                running, {**body, "choices": choices, "options": now.search, "only": True}, both(recorder, watcher)
            )
    except client.Lost as error:
        terminal.say(f"note: the running service could not answer ({error}); loading the model", quiet)
        return None
    for warning in found.warnings:
        terminal.say(f"warning: {warning}", quiet)
    talk.remember(typed, found.answer, found.described, quiet)
    return found.answer, recorder


async def answered(
    typed: str, flags: AgentFlags, choices: tuple[str, ...], talk: Talk, rewriter: str | None, quiet: bool
) -> tuple[Answer, Recorder]:
    """Opens what ``flags`` name and asks it."""
    async with flags.open(choices, quiet) as agent:
        question = typed
        if talk.turns and rewriter != "off":
            async with open_rewriter(rewriter, agent) as engine:
                question = await standalone(typed, talk, engine, quiet)
        answer, recorder = await ask_agent(agent, question, quiet)
        talk.remember(typed, answer, agent.describe(), quiet)
        return answer, recorder


async def ask_agent(agent: Agent, question: str, quiet: bool) -> tuple[Answer, Recorder]:
    """The answer and the events that led to it; shows the search on stderr while it runs."""
    from selfrag.answers.trace import Recorder
    from selfrag.cli.live import watching

    recorder = Recorder()
    with watching(quiet) as watcher:
        answer = await agent.ask(question, observer=both(recorder, watcher))
    for warning in agent.retriever.warnings if agent.retriever else ():
        terminal.say(f"warning: {warning}", quiet)
    return answer, recorder


def both(first: Observer, second: Observer) -> Observer:
    """An observer that passes every event to two."""

    def observe(event: Event) -> None:
        first(event)
        second(event)

    return observe


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


def show_answer(answer: Answer, recorder: Recorder, show: Show, quiet: bool) -> None:
    """Prints the answer for a person; its warnings go to stderr."""
    from selfrag.answers import render
    from selfrag.answers.schema import answer_json

    base = Path.cwd()
    if show is Show.tree:
        from selfrag.answers import trace

        document = trace.trace_json(answer, recorder.events)
        terminal.show(render.tree(document["answer"], document["events"], document["passages"], base), "")
    evidence = show is not Show.answer
    terminal.show(render.answer(answer_json(answer), answer.options, base, evidence, terminal.links()))
    for warning in answer.warnings:
        terminal.say(f"warning: {warning}", quiet)

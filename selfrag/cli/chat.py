"""`selfrag chat`: one question after another, the model loaded once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from selfrag.cli import terminal
from selfrag.cli.options import AgentFlags, Quiet, with_flags
from selfrag.errors import ABSTAINED, SelfragError

if TYPE_CHECKING:
    from selfrag.agent import Agent
    from selfrag.answers.trace import Recorder
    from selfrag.types import Answer

T = TypeVar("T")

COMMANDS = """/show     the whole search behind the last answer
/sources  the passages behind the last answer, in full
/help     this list
/quit     leave (or Ctrl-D); Ctrl-C stops an answer"""


def register(app: typer.Typer) -> None:
    app.command()(chat)


@with_flags
def chat(
    flags: AgentFlags,
    history: Annotated[bool, typer.Option("--history/--no-history", help="Remember what is typed, for the arrow keys.")] = True,
    quiet: Quiet = False,
) -> None:
    """Ask one question after another.

    Every question stands for itself: the model is not told the ones before it, so ask "When was Ada Lovelace born?" and not
    "When was she born?". /show, /sources, /help and /quit are commands. Questions may come through a pipe, one a line; the exit
    status is then 3 if the program abstained from the last one.

    \b
    Examples:
      selfrag chat
      selfrag chat -c papers -k 8
      printf 'Who built it?\\nWhen was it built?\\n' | selfrag chat -c castles --quiet
    """
    import asyncio

    asyncio.run(converse(flags, history, quiet))


async def converse(flags: AgentFlags, history: bool, quiet: bool) -> None:
    """Answers until the questions end."""
    talking = sys.stdin.isatty()
    last: tuple[Answer, Recorder] | None = None
    from selfrag.config.settings import find_paths

    async with flags.open(quiet=quiet) as agent:
        terminal.say("Every question stands for itself. /help lists the commands.", quiet or not talking)
        async for line in typed(find_paths().history if history else None) if talking else piped():
            if line in ("/quit", "/exit"):
                break
            if line.startswith("/"):
                obey(line, last)
            elif line:
                last = await reply(agent, line, quiet, talking) or last
    if last and last[0].status == "abstained" and not talking:
        raise typer.Exit(ABSTAINED)


async def piped() -> AsyncIterator[str]:
    """The lines of stdin, without the white space around them."""
    for line in sys.stdin:
        yield line.strip()


async def typed(history: Path | None) -> AsyncIterator[str]:
    """What a person types, line by line, until Ctrl-D; Ctrl-C clears the line."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if history:
        history.parent.mkdir(parents=True, exist_ok=True)
    session: PromptSession[str] = PromptSession(history=FileHistory(str(history)) if history else InMemoryHistory())
    while True:
        try:
            yield (await session.prompt_async("? ")).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def obey(line: str, last: tuple[Answer, Recorder] | None) -> None:
    """A line that begins with a slash."""
    from selfrag.cli.ask import Show, show_answer

    shows = {"/show": Show.tree, "/sources": Show.evidence}
    if line in shows and last:
        show_answer(*last, shows[line], quiet=True)
    elif line in shows:
        terminal.say("nothing has been asked yet")
    else:
        terminal.say(COMMANDS if line == "/help" else f"unknown command {line}\n{COMMANDS}")


async def reply(agent: Agent, question: str, quiet: bool, talking: bool) -> tuple[Answer, Recorder] | None:
    """Asks and prints; None where that failed, or was stopped by a person at the terminal."""
    from selfrag.cli.ask import Show, ask_agent, checked, show_answer

    try:
        asking = ask_agent(agent, checked(question), quiet)
        found = await stoppable(asking) if talking else await asking
    except SelfragError as error:
        terminal.complain(error)
        return None
    if found:
        show_answer(*found, Show.answer, quiet)
    return found


async def stoppable(asking: Coroutine[Any, Any, T]) -> T | None:
    """What ``asking`` gives, or None if Ctrl-C was pressed meanwhile."""
    import asyncio
    import signal

    task, loop = asyncio.ensure_future(asking), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        terminal.say("stopped")
        return None
    finally:
        loop.remove_signal_handler(signal.SIGINT)

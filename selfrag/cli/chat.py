"""`selfrag chat`: a conversation, the model loaded once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from selfrag.cli import terminal
from selfrag.cli.conversation import Conversation, Keep, Rewrite, open_conversation
from selfrag.cli.options import AgentFlags, Quiet, Service, with_flags
from selfrag.errors import ABSTAINED, SelfragError, UsageError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from selfrag.answers.trace import Recorder
    from selfrag.cli.asking import Asker
    from selfrag.cli.stream import Stream
    from selfrag.types import Answer

T = TypeVar("T")

COMMANDS = """/show          the whole search behind the last answer
/sources       the passages behind the last answer, in full
/plain         ask the last question again, as it was typed
/good, /bad    rate the last answer; a note may follow
/new           forget the conversation so far
/history       list earlier questions; add words to search for
/open N        continue from answer N of the history
/save FILE.md  write the conversation to a file
/help          this list
/quit          leave (or Ctrl-D, or Ctrl-C twice)
Ctrl-C         stop an answer; a rewritten question is put on the line to be corrected"""


@with_flags
def chat(
    flags: AgentFlags,
    rewrite: Rewrite = None,
    history: Keep = None,
    service: Service = True,
    quiet: Quiet = False,
) -> None:
    """Ask one question after another.

    A follow-up such as "and when was she born?" is understood from the previous question and answer: the rewritten question is
    shown dimmed above the answer, and Ctrl-C lets you correct it. If its meaning is unclear, it is asked as typed. /help lists
    the commands. Questions may come through a pipe, one per line; the exit status is then 3 if the last answer is an abstention.

    \b
    Examples:
      selfrag chat
      selfrag chat -c papers -k 8 --no-history
      printf 'Who was Ada Lovelace?\\nWhen was she born?\\n' | selfrag chat -c people --quiet
    """
    import asyncio

    asyncio.run(converse(flags, rewrite, history, service, quiet))


async def converse(flags: AgentFlags, rewrite: str | None, history: bool | None, service: bool, quiet: bool) -> None:
    """Answers until the questions end."""
    from selfrag.cli.asking import Asker

    talking = sys.stdin.isatty()
    conversation = open_conversation(history, quiet=quiet)
    async with Asker(flags, rewriter=rewrite, quiet=quiet, service=service) as asker:
        if asker.running(follow_up=True) is None:
            await asker.open()  # an error here ends the command
        chat = Chat(asker, conversation, quiet, Keyboard(_typed_before(conversation)) if talking else None)
        terminal.say("/help lists the commands.", quiet or not talking)
        async for line in chat.keyboard.lines() if chat.keyboard else piped():
            if line in ("/quit", "/exit"):
                break
            await chat.take(line)
    if chat.last and chat.last[0].status == "abstained" and not talking:
        raise typer.Exit(ABSTAINED)


def _typed_before(conversation: Conversation) -> Path | None:
    """Where typed lines are stored for the arrow keys; None for a conversation that is not kept."""
    from selfrag.config.settings import find_paths

    return find_paths().history if conversation.history else None


async def piped() -> AsyncIterator[str]:
    """The lines of stdin, without the white space around them."""
    for line in sys.stdin:
        yield line.strip()


class Keyboard:
    """The lines that the user types. ``offered`` prefills the next line for correction."""

    def __init__(self, history: Path | None) -> None:
        self.history = history
        self.offered = ""

    async def lines(self) -> AsyncIterator[str]:
        """Line by line, until Ctrl-D. Ctrl-C clears the line; on an empty line, the second one is raised."""
        session, leaving = self._session(), False
        while True:
            offered, self.offered = self.offered, ""
            try:
                line = await session.prompt_async("? ", default=offered)
            except KeyboardInterrupt:
                empty = not session.default_buffer.text
                if leaving and empty:
                    raise
                if leaving := empty:
                    terminal.say("Ctrl-C again leaves, and so does Ctrl-D")
                continue
            except EOFError:
                return
            leaving = False
            yield line.strip()

    def _session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        if self.history is None:
            return PromptSession(history=InMemoryHistory())
        self.history.parent.mkdir(parents=True, exist_ok=True)
        self.history.touch(mode=0o600)
        return PromptSession(history=FileHistory(str(self.history)))


class Chat:
    """A running conversation. ``keyboard`` is None if the lines come through a pipe."""

    def __init__(self, asker: Asker, conversation: Conversation, quiet: bool, keyboard: Keyboard | None) -> None:
        self.asker, self.conversation, self.quiet, self.keyboard = asker, conversation, quiet, keyboard
        self.last: tuple[Answer, Recorder] | None = None
        self.typed = ""

    async def take(self, line: str) -> None:
        """One line: a command, or a question. Errors go to stderr, and the conversation continues."""
        try:
            if line.startswith("/"):
                await self.obey(*line.split(maxsplit=1))
            elif line:
                await self.ask(line)
        except SelfragError as error:
            terminal.complain(error)

    async def ask(self, typed: str, plain: bool = False) -> None:
        """Asks and prints, unless a person at the terminal stops it."""
        from selfrag.cli.ask import checked, show_answer
        from selfrag.cli.stream import Stream

        self.typed, stream = checked(typed), Stream()
        asking = self.answered(typed, plain, stream)
        found = await stoppable(asking) if self.keyboard else await asking
        if found:
            self.last = found
            show_answer(*found, "answer", self.quiet, stream)

    async def answered(self, typed: str, plain: bool, stream: Stream) -> tuple[Answer, Recorder]:
        question = typed if plain else await self.asker.understood(typed, self.conversation)
        if self.keyboard and question != typed:
            self.keyboard.offered = question  # if this is stopped
        asked = await self.asker.ask(question, stream)
        if self.keyboard:
            self.keyboard.offered = ""
        self.conversation.remember(typed, asked.answer, asked.described, self.quiet)
        return asked.answer, asked.recorder

    # --- commands ---------------------------------------------------------------------------------------------------------

    async def obey(self, command: str, rest: str = "") -> None:
        """A line that begins with a slash. Raises UsageError and InputError."""
        from selfrag.cli.ask import show_answer

        match command:
            case "/show" | "/sources":
                if self.last is None:
                    raise UsageError("nothing has been asked yet")
                show_answer(*self.last, "tree" if command == "/show" else "evidence", quiet=True)
            case "/plain":
                if not self.typed:
                    raise UsageError("nothing has been asked yet")
                await self.ask(self.typed, plain=True)
            case "/good" | "/bad":
                self.rate(command, rest)
            case "/new":
                self.conversation.begin()
                self.last = None
                terminal.say("a new conversation", self.quiet)
            case "/history":
                self.list(rest)
            case "/open":
                self.open(rest)
            case "/save":
                self.save(rest)
            case "/help":
                terminal.say(COMMANDS)
            case _:
                raise UsageError(f"unknown command {command}", "/help lists the commands")

    def rate(self, command: str, note: str) -> None:
        if self.conversation.last is None or self.conversation.history is None:
            raise UsageError("there is no kept answer to rate", "ask first, without --no-history")
        entry = self.conversation.history.rate(self.conversation.last.id, "good" if command == "/good" else "bad", note)
        terminal.say(f"{entry.id}: {entry.verdict}", self.quiet)

    def list(self, words: str) -> None:
        from selfrag.cli.history import line

        if self.conversation.history is None:
            raise UsageError("this conversation is not kept", "start without --no-history")
        for entry in self.conversation.history.find(words, 20):
            terminal.show(line(entry))

    def open(self, id: str) -> None:
        from selfrag._util import clean
        from selfrag.answers import render
        from selfrag.cli.history import found, options_of

        if self.conversation.history is None:
            raise UsageError("this conversation is not kept", "start without --no-history")
        entry = found(self.conversation.history, id)
        self.conversation.resume([each for each in self.conversation.history.session(entry.session) if each.id <= entry.id])
        self.last = None
        terminal.say(f"→ {clean(entry.document['question'])}", self.quiet)
        terminal.show(render.answer(entry.document, options_of(entry), Path.cwd()))

    def save(self, name: str) -> None:
        from selfrag.answers import markdown

        if not name:
            raise UsageError("/save needs the name of a file", "/save conversation.md")
        if not self.conversation.documents:
            raise UsageError("nothing has been asked yet")
        text = "\n".join(markdown.document(answer, None, Path.cwd()) for answer in self.conversation.documents)
        terminal.write_file(Path(name).expanduser(), text, "/save")
        terminal.say(f"written to {name}", self.quiet)


async def stoppable(asking: Coroutine[Any, Any, T]) -> T | None:
    """The result of ``asking``, or None if Ctrl-C stopped it."""
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

"""`selfrag chat` on a terminal of its own (a pty): Ctrl-C, Ctrl-D, and a follow-up that is corrected."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cli.process import COMMAND, environment
from tests.engines.fake_server import FakeServer, serving
from tests.engines.http.test_chat import said

WAIT = 60.0
QUESTION = "How tall is the Eiffel Tower?"
CTRL_C, CTRL_D = "\x03", "\x04"
PROMPT = "<prompt>"


def reply(body: dict[str, Any]) -> dict[str, Any]:
    """The last choice of every set that is asked for ("yes", "relevant" …), or a sentence."""
    if schema := body.get("response_format"):
        choices = schema["json_schema"]["schema"]["properties"]
        return said(json.dumps({name: each["enum"][-1] for name, each in choices.items()}))
    return said("It is 330 m tall.")


class Terminal:
    """A command on a pty."""

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        self.pid, self.pty = pty.fork()
        if self.pid == 0:
            os.execvpe(COMMAND[0], [*COMMAND, *arguments], env)
        self.seen = ""

    async def type(self, keys: str) -> None:
        """Presses keys; what `until` looks for comes after this."""
        self.seen = ""
        os.write(self.pty, keys.encode())

    async def until(self, pattern: str) -> None:
        """Waits until this stands on the terminal."""
        assert await asyncio.to_thread(self._until, pattern), f"{pattern!r} is not in {self.text!r}"

    @property
    def text(self) -> str:
        """What came, with the sequence that begins a prompt as a word, and without those that move the cursor."""
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self.seen.replace("\x1b[?2004h", PROMPT))

    def _until(self, pattern: str) -> bool:
        end = time.monotonic() + WAIT
        while time.monotonic() < end:
            if re.search(pattern, self.text):
                return True
            if select.select([self.pty], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.pty, 4096).decode("utf-8", "replace")
                except OSError:  # it has ended
                    return False
        return False

    async def ended(self) -> int:
        """The exit status."""
        return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, self.pid, 0))[1])


@asynccontextmanager
async def chatting(indexed: Path) -> AsyncIterator[tuple[Terminal, FakeServer]]:
    """`selfrag chat` at its first prompt, and the server of its model, which a test may slow down."""
    fake = FakeServer(lambda ids: 0, model="m", reply=reply)
    async with serving(fake) as [url]:
        words = ["chat", "--engine", url, "--model", "m", "--rewrite", "rule", "--no-history", "-k", "1", "--mode", "always"]
        env = environment(indexed, LOOPBACK="1", TERM="xterm", NO_COLOR="1", PROMPT_TOOLKIT_NO_CPR="1")
        terminal = Terminal(words, env)
        await terminal.until(PROMPT)
        try:
            yield terminal, fake
        finally:
            os.close(terminal.pty)


async def working(fake: FakeServer, before: int) -> None:
    """Waits until the server has been asked."""
    end = time.monotonic() + WAIT
    while len(fake.requests) <= before:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_ctrl_c_stops_the_answer_and_not_the_conversation(indexed: Path) -> None:
    """An answer is given up and is no turn of the conversation, the next question is answered, and Ctrl-D ends with 0."""
    async with chatting(indexed) as (terminal, fake):
        fake.delay = 3600
        await terminal.type(f"{QUESTION}\r")
        await working(fake, 0)
        await terminal.type(CTRL_C)
        await terminal.until(rf"stopped\r\n(?s:.*){PROMPT}")
        fake.delay = 0
        await terminal.type("who built it?\r")
        await terminal.until(rf"It is 330 m tall\.(?s:.*){PROMPT}")
        assert "→" not in terminal.seen  # there is nothing to understand it from
        await terminal.type(CTRL_D)
        assert await terminal.ended() == 0


async def test_a_follow_up_is_corrected(indexed: Path) -> None:
    """Stopped with Ctrl-C, the rewritten question stands in the next line; Ctrl-C clears it; /plain asks what was typed."""
    async with chatting(indexed) as (terminal, fake):
        await terminal.type(f"{QUESTION}\r")
        await terminal.until(rf"It is 330 m tall\.(?s:.*){PROMPT}")
        fake.delay, before = 3600, len(fake.requests)
        await terminal.type("and who built it?\r")
        await terminal.until(r"→ Who built the Eiffel Tower\?")
        await working(fake, before)
        await terminal.type(CTRL_C)
        await terminal.until(rf"stopped\r\n(?s:.*){PROMPT}(?s:.*)Who built the Eiffel Tower\?")
        await terminal.type(CTRL_C)
        await terminal.until(PROMPT)
        assert "leaves" not in terminal.seen
        fake.delay = 0
        await terminal.type("/plain\r")
        await terminal.until(rf"It is 330 m tall\.(?s:.*){PROMPT}")
        assert "and who built it?" in json.dumps(fake.requests[-1])
        await terminal.type("/quit\r")
        assert await terminal.ended() == 0


async def test_ctrl_c_twice_leaves(indexed: Path) -> None:
    """On an empty line Ctrl-C says that a second one leaves, and it does, with 130; what is typed between them counts anew."""
    async with chatting(indexed) as (terminal, _):
        await terminal.type(CTRL_C)
        await terminal.until(rf"Ctrl-C again leaves(?s:.*){PROMPT}")
        await terminal.type("/new\r")
        await terminal.until(rf"a new conversation(?s:.*){PROMPT}")
        await terminal.type(CTRL_C)
        await terminal.until(rf"Ctrl-C again leaves(?s:.*){PROMPT}")
        await terminal.type(CTRL_C)
        assert await terminal.ended() == 130

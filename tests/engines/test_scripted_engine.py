from __future__ import annotations

from collections.abc import Sequence

import pytest_asyncio

from selfrag.types import Control, Generated, Message, Request, Text, Token
from tests.engines.contract import PROMPT, EngineContract
from tests.engines.tiny import KOREAN
from tests.scripted_engine import END, ScriptedEngine, control, prompt_text, words


def answer(_: Request) -> Sequence[Token]:
    return [control("[Relevant]"), *words(KOREAN), control("[Fully supported]"), control("[Utility:5]"), END]


class TestScripted(EngineContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls) -> ScriptedEngine:
        return ScriptedEngine(answer)


async def test_requests_are_recorded() -> None:
    """A test can read what was asked."""
    engine = ScriptedEngine(answer)
    await engine.complete(Request(PROMPT, 1))
    assert [request.prompt for request in engine.requests] == [PROMPT]


async def test_a_script_may_run_out() -> None:
    """A script without an end-of-sequence token ends there all the same."""
    done = await ScriptedEngine(lambda _: words("two words")).complete(Request(PROMPT, 9))
    assert ("".join(token.text for token in done.tokens), done.finish) == ("two words", "end")


async def test_close_is_noticed() -> None:
    """The fake remembers that it was closed."""
    engine = ScriptedEngine(answer)
    await engine.close()
    assert engine.closed


def test_prompts_read_as_text() -> None:
    """Every part of a prompt shows: control by its literal text, messages by their contents."""
    parts = (
        Message("user", "Why?"),
        Text("Because"),
        Control("[Relevant]"),
        Generated((control("[Retrieval]"), *words("so it is"))),
    )
    assert prompt_text(parts) == "Why?\nBecause[Relevant][Retrieval]so it is"

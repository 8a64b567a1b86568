"""An answer is printed while it is searched for, and reads as if it had been printed at once."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from selfrag.agent import Agent
from selfrag.answers import render
from selfrag.answers.schema import answer_json
from selfrag.cli import terminal
from selfrag.cli.live import watching
from selfrag.cli.stream import Stream
from selfrag.service import completions
from selfrag.service.requests import Answered, Question
from selfrag.types import Answer, Event, Expanded, SearchOptions
from tests.algorithm.test_certain import chain
from tests.algorithm.test_search import LONG, Shelf, passage

OPTIONS = replace(LONG, beam_width=1)


async def asked(options: SearchOptions, *observers: object) -> Answer:
    """The answer "one two1" of two passages, told to ``observers``."""

    def observe(event: Event) -> None:
        for each in observers:
            each(event)  # type: ignore[operator]

    agent = Agent(chain(0.9, 0.8), Shelf(passage(1), passage(2)), options)
    return await agent.ask("q?", observer=observe)


class Order:
    """What stood on stdout when each segment had been written."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.text, self.seen = capsys, "", []

    def __call__(self, event: Event) -> None:
        self.text += self.capsys.readouterr().out
        if isinstance(event, Expanded):
            self.seen.append((event.segment.text, self.text))


@pytest.mark.parametrize("evidence", [False, True])
async def test_a_pipe_gets_the_same_bytes(capsys: pytest.CaptureFixture[str], evidence: bool) -> None:
    """The first sentence is on stdout before the second is written, and all together is what is printed at once at the end."""
    order, stream = Order(capsys), Stream(evidence)
    stream.begin("q?", OPTIONS)
    answer = await asked(OPTIONS, order, stream)
    stream.finish(answer)
    streamed = order.text + capsys.readouterr().out
    assert answer.text == "one two1"
    second = next(text for segment, text in order.seen if segment == "two1")
    assert "one [1]" in second
    assert "two1" not in second

    terminal.show(render.answer(answer_json(answer), OPTIONS, Path.cwd(), evidence))
    assert streamed == capsys.readouterr().out


async def test_what_may_be_withheld_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the program may still abstain, nothing is printed before the end; an abstention is printed as always."""
    options = replace(OPTIONS, abstain_isuse=1.0)
    order, stream = Order(capsys), Stream()
    stream.begin("q?", options)
    answer = await asked(options, order, stream)
    assert (answer.status, order.text) == ("abstained", "")
    stream.finish(answer)
    assert capsys.readouterr().out.startswith("No answer: ")


async def test_a_search_that_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A search that another process begins anew goes on where the first one stopped; if it says something else, all."""
    stream = Stream()
    for _ in range(2):
        stream.begin("q?", OPTIONS)
        answer = await asked(OPTIONS, stream)
    stream.finish(answer)
    assert capsys.readouterr().out.count("one [1]") == 1
    other = replace(answer, segments=answer.segments[1:])
    stream.finish(other)
    assert capsys.readouterr().out.startswith("ISREL")


@contextmanager
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """One pseudo-terminal as stdout and stderr; yields its other end."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(f"sys.{name}", stream)
        yield ours
    os.close(ours)


async def test_on_a_terminal_the_display_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the display of the search is erased while a sentence is printed, and drawn again below it."""
    with screen(monkeypatch) as ours:
        stream = Stream()
        with watching() as watcher:
            stream.aside = watcher.aside
            stream.begin("q?", OPTIONS)
            answer = await asked(OPTIONS, watcher, stream)
        stream.finish(answer)
        terminal.out().file.flush()
        text = os.read(ours, 1 << 20).decode()
    hidden, shown = "\x1b[?25l", "\x1b[?25h"  # the cursor, while the display is there
    head = text.index("ISUSE")  # the display does not name it
    below = text.index(hidden, head)
    assert text.rindex(shown, 0, head) > text.rindex(hidden, 0, head)
    assert "one" in text[head:below]
    assert "two1" not in text[head:below]
    assert "two1" in text[below:]


def chat(text: str = "q?") -> completions.Chat:
    return completions.Chat("selfrag", Question(text), text, True, True, ())


async def test_chat_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    """A chat front end gets the first sentence before the second is written; the pieces join to the message as a whole."""
    stream = completions.Stream(chat(), OPTIONS)
    sent: list[str] = []
    when: dict[str, list[str]] = {}

    def observe(event: Event) -> None:
        if isinstance(event, Expanded):
            when[event.segment.text] = list(sent)
        sent.extend(chunk["choices"][0]["delta"]["content"] for chunk in stream.more(event))

    answer = await asked(OPTIONS, observe)
    assert sent == ["one [1]", " two1 [1]"]
    assert when["two1"] == ["one [1]"]
    rest = [chunk["choices"][0]["delta"].get("content", "") for chunk in stream.last(Answered(answer)) if chunk["choices"]]
    assert "".join([*sent, *rest]) == "".join(completions.pieces(answer))

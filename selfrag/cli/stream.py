"""Prints an answer sentence by sentence, each as soon as it is certain (`algorithm.certain`); the rest when the search is over.

A pipe receives exactly the bytes that it would get if everything were printed at the end.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from selfrag.algorithm.certain import Certain
from selfrag.answers import render
from selfrag.answers.schema import answer_json, segments_json
from selfrag.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfrag.answers.schema import SegmentJson
    from selfrag.types import Answer, Event, SearchOptions


class Stream:
    """Prints the answer to one question. If the search is repeated because a service was lost, printing continues where it was.

    ``aside`` clears space on the terminal while something is printed.
    """

    def __init__(self, evidence: bool = False) -> None:
        self.evidence = evidence
        self.aside: Callable[[], AbstractContextManager[None]] = nullcontext
        self._certain: Certain | None = None
        self._question = ""
        self._printed: list[SegmentJson] = []

    def begin(self, question: str, options: SearchOptions) -> None:
        """To be called when a search starts."""
        self._question, self._certain = question, Certain(options)

    def __call__(self, event: Event) -> None:
        if self._certain is None:
            return
        self._certain(event)
        if self._certain.firm and len(self._certain.segments) > len(self._printed):
            self._print(segments_json(self._certain.segments, self._question, self._certain.options))

    def _print(self, segments: list[SegmentJson]) -> None:
        if not _same(segments, self._printed):  # rounded differently by another process: the whole answer is printed at the end
            self._certain = None
            return
        with self.aside():
            terminal.show(render.sentences(segments, len(self._printed)))
        self._printed = segments

    def finish(self, answer: Answer) -> None:
        """Prints the rest of the answer."""
        document = answer_json(answer)
        first = len(self._printed) if _same(document["segments"], self._printed) else 0
        terminal.show(render.answer(document, answer.options, Path.cwd(), self.evidence, terminal.links(), first))


def _same(segments: list[SegmentJson], printed: list[SegmentJson]) -> bool:
    """Whether ``segments`` begin with what is printed already."""
    return [(s["text"], s["citation"]) for s in segments[: len(printed)]] == [(s["text"], s["citation"]) for s in printed]

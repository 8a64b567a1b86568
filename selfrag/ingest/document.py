"""The results of reading and splitting. Offsets count characters of ``Document.text``; lines and pages are 1-based.

Where a text stands has three forms, each only where the format has it: ``lines`` of the source file (text, Markdown, code, HTML,
mark-up), a ``page`` (PDF), and a ``place``, the format's own name for it: ``¶12`` (Word), ``slide 3`` (slides), ``Tariffs!A2:C9``
(sheets), ``Arrival ¶4`` (a chapter), ``message 2``, ``cell 5`` (notebooks), ``00:01:05`` (subtitles). A citation shows the place
if there is one, else the page, else the line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from selfrag.types import Header

Ocr = Literal["auto", "never", "always"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for reading one file: ``bytes`` of file, ``characters`` of text, and for parsers in a process of their own
    ``seconds`` (for small files, see ``time``) and bytes of ``memory``. ``ocr`` selects the pages for OCR: none, those without
    text, or all.
    """

    bytes: int = 64 * 2**20
    characters: int = 32 * 2**20
    seconds: float = 8.0
    memory: int = 3 * 2**30
    ocr: Ocr = "auto"

    def time(self, size: int) -> float:
        """Time limit in seconds for a file of ``size`` bytes: short for small files, so that hangs show soon; enough for long
        books.
        """
        return self.seconds + 4 * size / 2**20


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of ``level`` 1 to 6. It begins at ``start``; the text below it begins at ``end``."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Place:
    """From the offset ``start`` on, the text stands at ``group + first``; through ``group + last`` where it is itself a range.

    A text over several places of one ``group`` is cited from the first to the last, with ``joint`` between:
    ``Place(0, "¶", "12")`` to ``Place(80, "¶", "14")`` is ``¶12–14``.
    """

    start: int
    group: str
    first: str
    last: str = ""
    joint: str = "–"

    def to(self, end: Place) -> str:
        """The range from here to ``end``; only this place where ``end`` belongs to another group."""
        last = (end.last or end.first) if end.group == self.group else (self.last or self.first)
        return self.group + (self.first if last == self.first else f"{self.first}{self.joint}{last}")


@dataclass(frozen=True, slots=True)
class Span:
    """A part ``text[start:end]`` that is kept whole if it fits into a chunk: a table, a row, a list, an item, a code
    block, a record. Spans nest. ``header`` is the context that a part of it needs, such as a table's first row: chunks that begin
    inside the span carry it. The span begins with it, mark-up aside."""

    start: int
    end: int
    header: str = ""


@dataclass(frozen=True)
class Document:
    """The text of a file and where it lies in the file.

    For text files, Markdown and source code ``text`` is the file's text itself (newlines as ``\\n``, no byte-order mark), so
    ``text[chunk.start:chunk.end] == chunk.text`` holds for the source, too. Other readers extract their text; ``anchors`` then
    holds pairs (offset, line), ascending: from this offset on, the text comes from this line of the source. ``pages`` holds the
    offset at which each page begins, if the file has pages; ``places`` the natural places, ascending, if the format has them.
    ``sections`` are further offsets that no chunk crosses: slides, sheets, chapters, messages; the first is 0. ``body`` is where
    the text to be searched begins; ``metadata`` what the front matter says, each key with its values as text.

    ``spans`` are the parts to keep whole, see Span. ``notes`` say what a reader guessed, ``lost`` which parts of the file it
    could not read ("line 2 is left out: not JSON").
    """

    text: str
    title: str
    reader: str
    body: int = 0
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()
    anchors: tuple[tuple[int, int], ...] = ()
    places: tuple[Place, ...] = ()
    sections: tuple[int, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def lines(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last line of the source file, or of its page, that ``text[start:end]`` comes from, inclusive; None where the
        format has places and no lines."""
        if self.places and not self.anchors:
            return None
        before = self._line(self.pages[bisect_right(self.pages, start) - 1]) - 1 if self.pages else 0
        return self._line(start) - before, self._line(max(start, end - 1)) - before

    def page(self, offset: int) -> int | None:
        return bisect_right(self.pages, offset) or None

    def place(self, start: int, end: int) -> str | None:
        """The place of ``text[start:end]`` in the format's own terms; None if the format has none."""
        if not self.places:
            return None
        first, last = (max(0, bisect_right(self._place_offsets, offset) - 1) for offset in (start, max(start, end - 1)))
        return self.places[first].to(self.places[last])

    @property
    def bounds(self) -> tuple[int, ...]:
        """The offsets that no chunk crosses."""
        return self.pages or self.sections or (self.body,)

    def _line(self, offset: int) -> int:
        if not self.anchors:
            return bisect_right(self._newlines, offset - 1) + 1
        return self.anchors[max(0, bisect_right(self._anchor_offsets, offset) - 1)][1]

    @cached_property
    def _newlines(self) -> list[int]:
        return [newline.start() for newline in re.finditer("\n", self.text)]

    @cached_property
    def _anchor_offsets(self) -> list[int]:
        return [offset for offset, _ in self.anchors]

    @cached_property
    def _place_offsets(self) -> list[int]:
        return [place.start for place in self.places]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, ``document.text[start:end] == text``. ``headings`` is the path of headings over it, outermost first,
    without the document's title; ``headers`` are those of the tables and records in it, those that it begins inside of first;
    ``lines`` are of the source file, inclusive; ``place`` is the format's own name for where it is."""

    text: str
    headings: tuple[str, ...]
    start: int
    end: int
    lines: tuple[int, int] | None
    page: int | None = None
    place: str | None = None
    headers: tuple[Header, ...] = ()

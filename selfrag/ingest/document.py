"""What reading and splitting produce. Offsets count characters of ``Document.text``; lines and pages are 1-based."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one file may cost: ``bytes`` of file, ``characters`` of text, and for parsers that run in a process of their
    own ``seconds`` (for small files, see ``time``) and bytes of ``memory``."""

    bytes: int = 64 * 2**20
    characters: int = 32 * 2**20
    seconds: float = 8.0
    memory: int = 3 * 2**30

    def time(self, size: int) -> float:
        """Seconds that a file of ``size`` bytes gets: a hang in a small file shows soon, a thick book is read to its end."""
        return self.seconds + 4 * size / 2**20


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of ``level`` 1 to 6. It begins at ``start``; the text that it is over begins at ``end``."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """The text of a file and where it lies in the file.

    For text files, Markdown and source code ``text`` is the file's text itself (newlines as ``\\n``, no byte-order mark), so
    ``text[chunk.start:chunk.end] == chunk.text`` holds for the source, too. Other readers extract their text; ``anchors`` then
    holds pairs (offset, line), ascending: from this offset on, the text comes from this line of the source (a paragraph's
    number, in .docx). ``pages`` holds the offset at which each page begins, if the file has pages. ``body`` is where the text
    begins after the front matter; ``metadata`` what the front matter says, each key with its values as text.
    """

    text: str
    title: str
    reader: str
    body: int = 0
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()
    anchors: tuple[tuple[int, int], ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def lines(self, start: int, end: int) -> tuple[int, int]:
        """First and last line of the source file, or of its page, that ``text[start:end]`` comes from, inclusive."""
        before = self._line(self.pages[bisect_right(self.pages, start) - 1]) - 1 if self.pages else 0
        return self._line(start) - before, self._line(max(start, end - 1)) - before

    def page(self, offset: int) -> int | None:
        return bisect_right(self.pages, offset) or None

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


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, ``document.text[start:end] == text``. ``headings`` is the path of headings over it, outermost first,
    without the document's title; ``lines`` are of the source file, inclusive."""

    text: str
    headings: tuple[str, ...]
    start: int
    end: int
    lines: tuple[int, int]
    page: int | None = None

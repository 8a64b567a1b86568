"""A document put together block by block, for formats whose text is extracted: offsets, headings and places come with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from selfrag.errors import InputError
from selfrag.ingest.document import Document, Heading, Limits, Place, Span

_DEEPEST = 6
_MADE_UP = (
    "powerpoint presentation",
    "presentation",
    "powerpoint-präsentation",
    "présentation powerpoint",
    "untitled",
)
"""Titles that programs write by themselves."""


class Draft:
    """Blocks are parted by an empty line, or by one newline where they follow ``tight``. One of several lines, and the rows of a
    table, are `Span`s: not cut apart where they fit into a chunk, a table with its first row as the header."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pieces: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._places: list[Place] = []
        self._sections: list[int] = []
        self._anchors: list[tuple[int, int]] = []
        self._spans: list[Span] = []
        self._notes: list[str] = []
        self._lost: list[str] = []
        self._table: tuple[int, int, str] | None = None  # number, start and first row of the table that is being added
        self._cut = False

    def section(self) -> None:
        """No chunk holds text from before and after this point."""
        self._cut = True

    def add(
        self,
        text: str,
        group: str,
        first: str,
        last: str = "",
        joint: str = "–",
        level: int = 0,
        tight: bool = False,
        table: int = 0,
    ) -> None:
        """A block that stands at `Place` (``group``, ``first``, ``last``), a heading if it has a ``level``. Empty ones are left
        out. Rows of one ``table`` have its number, other blocks 0. Raises InputError when the text becomes too long."""
        if not text.strip():
            return
        self._close_table(table)
        start = self._begin(len(text), tight)
        self._pieces.append(text)
        self._length = start + len(text)
        self._places.append(Place(start, group, first, last, joint))
        if table:
            self._table = self._table or (table, start, text)
            self._spans.append(Span(start, self._length))
        elif "\n" in text:
            self._spans.append(Span(start, self._length))
        if level:
            self._headings.append(Heading(start, self._length, min(level, _DEEPEST), " ".join(text.split())))

    def line(self, text: str, line: int, level: int = 0, tight: bool = False, time: tuple[str, str] | None = None) -> None:
        """A block that is from this line of the source, and that has a place only if it is said from one ``time`` to another."""
        if not text.strip():
            return
        start = self._begin(len(text), tight)
        self._pieces.append(text)
        self._length = start + len(text)
        self._anchors.append((start, line))
        if time:
            self._places.append(Place(start, "", *time))
        if level:
            self._headings.append(Heading(start, self._length, min(level, _DEEPEST), " ".join(text.split())))

    def include(self, document: Document, label: str, below: int = 0, numbered: bool = False) -> None:
        """All of another document, its places under ``label`` (`report.pdf p.3`), its headings ``below`` levels deeper.
        ``numbered``: its blocks are counted as paragraphs, since the lines of a packed file say nothing."""
        text = document.text[document.body :].rstrip()
        if not text.strip():
            return
        self._close_table(0)
        start = self._begin(len(text), tight=False)
        shift = start - document.body
        self._pieces.append(text)
        self._length = start + len(text)
        self._places += [
            Place(max(start, each.start + shift), each.group, each.first, each.last, each.joint)
            for each in _places(document, label, numbered)
        ]
        self._headings += [
            Heading(each.start + shift, min(each.end + shift, self._length), min(each.level + below, _DEEPEST), each.title)
            for each in document.headings
        ]
        self._spans += [Span(each.start + shift, min(each.end + shift, self._length), each.header) for each in document.spans]
        self._notes += document.notes
        self._lost += [f"{label}: {each}" if label else each for each in document.lost]
        self._sections += [bound + shift for bound in document.bounds if start < bound + shift < self._length]

    def document(
        self, path: PurePath, reader: str, title: str = "", metadata: Mapping[str, tuple[str, ...]] | None = None
    ) -> Document:
        """The title is ``title``, the first heading of the first level, or the file's name."""
        self._close_table(0)
        named = "" if title.lower() in _MADE_UP else title
        found = named or next((each.title for each in self._headings if each.level == 1), "") or path.stem
        return Document(
            "".join([*self._pieces, "\n"]),
            found,
            reader,
            headings=tuple(self._headings),
            anchors=tuple(self._anchors),
            places=tuple(self._places),
            sections=(0, *self._sections) if self._sections else (),
            metadata=metadata or {},
            spans=tuple(sorted(self._spans, key=lambda span: (span.start, -span.end))),
            notes=tuple(dict.fromkeys(self._notes)),
            lost=tuple(self._lost),
        )

    def lose(self, reason: str) -> None:
        """Something of the file cannot be read, and why."""
        self._lost.append(reason)

    def _close_table(self, number: int) -> None:
        if self._table and self._table[0] != number:
            _, start, header = self._table
            self._spans.append(Span(start, self._length, header))
            self._table = None

    def _begin(self, length: int, tight: bool) -> int:
        if self._length + length > self._limits.characters:
            raise InputError(f"too much text: more than {self._limits.characters:,} characters")
        if self._pieces:
            self._pieces.append("\n" if tight and not self._cut else "\n\n")
            self._length += len(self._pieces[-1])
            if self._cut:
                self._sections.append(self._length)
        self._cut = False
        return self._length


def _places(document: Document, label: str, numbered: bool) -> list[Place]:
    prefix = f"{label} " if label else ""
    if document.places:
        return [Place(p.start, prefix + p.group, p.first, p.last, p.joint) for p in document.places]
    if document.pages:
        return [Place(start, f"{prefix}p.", str(number)) for number, start in enumerate(document.pages, 1)]
    if numbered:
        starts = [offset for offset, _ in document.anchors] or [document.body]
        return [Place(start, f"{prefix}¶", str(number)) for number, start in enumerate(starts, 1)]
    if document.anchors:
        return [Place(start, f"{label}:", str(line)) for start, line in document.anchors]
    offset, found = 0, []
    for number, line in enumerate(document.text.split("\n"), 1):
        if offset + len(line) >= document.body:
            found.append(Place(offset, f"{label}:", str(number)))
        offset += len(line) + 1
    return found

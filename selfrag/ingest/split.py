"""Splits documents into chunks at natural boundaries, with exact offsets.

A section, a table, a list, an item, a code block, a record or a paragraph that fits into a chunk is never cut apart; neighbours
are joined while they fit. Anything larger than a chunk is split into its parts, and a paragraph into sentences, by
semantic-text-splitter. No chunk continues from the end of a section into the next one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from semantic_text_splitter import TextSplitter

from selfrag.ingest.document import Chunk, Document, Heading, Span
from selfrag.types import Header

WORDS = 160
"""English words of a chunk, about 230 tokens: what the default embedder reads whole."""

WIDE = 2.5
"""A Chinese, Japanese or Korean character says about as much as this many letters, and takes as many tokens."""

_LETTERS = 6.25  # characters of an English word with the space behind it
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]")
_SAMPLE = 20_000
_BLOCK = 32_768
_DEEP = 40
_HEADER = 300
_BLANK = re.compile(r"\n[ \t]*\n\s*")
_RULE_FIRST = re.compile(r"\s+|([-*_=+])[ \t]*(?:\1[ \t]*){2,}(?:\n|\Z)")
_RULE_LAST = re.compile(r"\s+\Z|\n[ \t]*([-*_=+])[ \t]*(?:\1[ \t]*){2,}\Z")
_AROUND = frozenset("-*_=+" + "".join(filter(str.isspace, map(chr, range(0x3001)))))
_WORD = re.compile(r"\w")


def capacity_of(words: int) -> int:
    """Characters of a chunk of this many English words."""
    return max(1, round(words * _LETTERS))


CAPACITY = capacity_of(WORDS)


def split(document: Document, capacity: int = CAPACITY) -> list[Chunk]:
    """The chunks of a document, of at most ``capacity`` characters of alphabetic text. Headings that a chunk begins with go to
    its heading path; no chunk crosses a page or a section."""
    capacity = _fitted(document.text[document.body :][:_SAMPLE], capacity)
    outline = _Outline(document)
    found = [
        outline.chunk(start, end)
        for page in _pages(document)
        for start, end in _joined(document.text, _pieces(document.text, page, capacity), capacity)
    ]
    return [chunk for chunk in found if _WORD.search(chunk.text)] or found


# --- what is not to be cut -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A section (``level`` above 0), a span, or a page. ``body`` is where its text begins, after the heading."""

    start: int
    end: int
    level: int = 0
    body: int = 0
    inner: list[_Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text that goes into one chunk; ``level`` is that of the heading it begins with, 0 for none."""

    start: int
    end: int
    level: int = 0


def _pages(document: Document) -> Iterator[_Node]:
    """Pages, sections, or the whole text, with the sections and spans in them as a tree."""
    starts = document.bounds
    pages = [_Node(start, end, body=start) for start, end in zip(starts, (*starts[1:], len(document.text)), strict=True)]
    parts = [*_sections(document), *(_Node(span.start, span.end, body=span.start) for span in document.spans)]
    open_nodes: list[_Node] = []
    for part in sorted(parts, key=lambda node: (node.start, -node.end, -node.level)):
        page = pages[max(0, bisect_right(starts, part.start) - 1)]
        while open_nodes and open_nodes[-1].end <= part.start:
            open_nodes.pop()
        open_nodes = open_nodes or [page]
        above = open_nodes[-1]
        part.end = min(part.end, above.end)
        if part.start < max(page.start, above.body if above.level else 0) or len(open_nodes) > _DEEP or part.end <= part.start:
            continue
        above.inner.append(part)
        open_nodes.append(part)
    return iter(pages)


def _sections(document: Document) -> Iterator[_Node]:
    """A heading with all below it, up to the next one of its level or a higher one."""
    waiting: list[tuple[Heading, _Node]] = []
    for heading in document.headings:
        while waiting and waiting[-1][0].level >= heading.level:
            waiting.pop()[1].end = heading.start
        section = _Node(heading.start, len(document.text), heading.level, heading.end)
        waiting.append((heading, section))
        yield section
    for _, section in waiting:
        section.end = len(document.text)


def _pieces(text: str, node: _Node, capacity: int) -> Iterator[_Piece]:
    """``node`` whole if it fits, or else its parts."""
    if node.end - node.start <= capacity:
        yield _Piece(node.start, node.end, node.level)
        return
    begun = False
    for piece in _parts(text, node, capacity):
        # A heading stays with the first text below it.
        yield piece if begun or not node.level else _Piece(node.start, piece.end, node.level)
        begun = True
    if not begun and node.level:
        yield _Piece(node.start, node.end, node.level)


def _parts(text: str, node: _Node, capacity: int) -> Iterator[_Piece]:
    at = node.body
    for inner in node.inner:
        if not text[at : inner.start].isspace():
            yield from _paragraphs(text, at, inner.start, capacity)
        yield from _pieces(text, inner, capacity)
        at = inner.end
    yield from _paragraphs(text, at, node.end, capacity)


def _paragraphs(text: str, start: int, end: int, capacity: int) -> Iterator[_Piece]:
    ends = (found.start() for found in _BLANK.finditer(text, start, end))
    for begin, stop in pairwise((start, *ends, end)):
        if stop - begin <= capacity:
            yield _Piece(begin, stop)
            continue
        for first, last in _blocks(text, begin, stop):
            for offset, piece in _splitter(capacity).chunk_indices(text[first:last]):
                yield _Piece(first + offset, first + offset + len(piece))


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Short parts of a long paragraph, since the splitter scans all of its text for each chunk."""
    while end - start > _BLOCK:
        cut = _cut(text, start)
        yield start, cut
        start = cut
    yield start, end


def _cut(text: str, start: int) -> int:
    """The last good cut position in the second half of a block: before a line, else before a word."""
    for boundary in ("\n", " "):
        found = text.rfind(boundary, start + _BLOCK // 2, start + _BLOCK)
        if found >= 0:
            return found + len(boundary)
    return start + _BLOCK


@cache
def _splitter(capacity: int) -> TextSplitter:
    return TextSplitter(capacity)


def _fitted(sample: str, capacity: int) -> int:
    """Characters of a chunk for text like ``sample``."""
    share = len(_WIDE.findall(sample)) / max(1, len(sample))
    return max(1, round(capacity / (1 + share * (WIDE - 1))))


# --- together again ------------------------------------------------------------------------------------------------------------


def _joined(text: str, pieces: Iterable[_Piece], capacity: int) -> Iterator[tuple[int, int]]:
    """Neighbours joined while they fit; ranges without surrounding white space."""
    held: list[_Piece] = []
    for piece in (trimmed for each in pieces if (trimmed := _trimmed(text, each))):
        if held and not _fits(held[0], piece, capacity):
            # A line that ends in a colon stays with what it introduces.
            ahead = held.pop() if len(held) > 1 and _announces(text, held[-1], piece, capacity) else None
            yield held[0].start, held[-1].end
            held = [ahead] if ahead else []
        held.append(piece)
    if held:
        yield held[0].start, held[-1].end


def _fits(first: _Piece, piece: _Piece, capacity: int) -> bool:
    """Whether ``piece`` goes into the chunk that ``first`` began. Sections of one level share a chunk only while they are short:
    a chunk has only the headings that it begins with."""
    size = piece.end - first.start
    return size <= capacity if piece.level == 0 else 0 < first.level <= piece.level and size * 3 <= capacity


def _announces(text: str, last: _Piece, piece: _Piece, capacity: int) -> bool:
    return piece.level == last.level == 0 and text[last.end - 1] in ":：" and piece.end - last.start <= capacity


def _trimmed(text: str, piece: _Piece) -> _Piece | None:
    """``piece`` without white space and rules around it; None if nothing is left."""
    start, end = piece.start, piece.end
    if start < end and text[start] not in _AROUND and text[end - 1] not in _AROUND:
        return piece
    while rule := _RULE_FIRST.match(text, start, end):
        start = rule.end()
    while rule := _RULE_LAST.search(text, max(start, end - 200), end):
        end = rule.start()
    return _Piece(start, end, piece.level) if start < end else None


def _letters(line: str) -> str:
    return "".join(filter(str.isalnum, line))


def _shortened(header: str) -> str:
    return header if len(header) <= _HEADER else header[:_HEADER] + "…"


class _Outline:
    """The headings and spans of a document, walked once in parallel with its chunks, whose starts ascend."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._next = 0
        self._path: list[Heading] = []
        self._headed = sorted((span for span in document.spans if span.header), key=lambda span: (span.start, -span.end))
        self._next_span = 0
        self._inside: list[Span] = []

    def chunk(self, start: int, end: int) -> Chunk:
        self._walk(start)
        body = self._below_headings(start, end)
        if body < end:
            start = body
        titles = [heading.title for heading in self._path if heading.title]
        if titles and titles[0] == self._document.title:
            del titles[0]
        document = self._document
        lines, page, place = document.lines(start, end), document.page(start), document.place(start, end)
        return Chunk(document.text[start:end], tuple(titles), start, end, lines, page, place, tuple(self._headers(start, end)))

    def _headers(self, start: int, end: int) -> Iterator[Header]:
        """The headers for parts of a chunk: first those of the spans that it begins inside, outermost first."""
        while self._next_span < len(self._headed) and self._headed[self._next_span].start < end:
            self._inside.append(self._headed[self._next_span])
            self._next_span += 1
        self._inside = [span for span in self._inside if start < span.end]
        for span in self._inside:
            below = max(0, self._below_header(span) - start)
            last = min(span.end, end)
            if below < last - start:
                yield Header(below, last - start, _shortened(span.header), self._document.place(max(span.start, start), last))

    def _below_header(self, span: Span) -> int:
        """The start of the text below a span's header: after its lines, unless the span is the rest of a table."""
        text, at = self._document.text, span.start + len(span.header)
        if text.startswith(span.header, span.start) and text[at : at + 1] == "\n":
            return at + 1
        wanted, seen, at = _letters(span.header), "", span.start
        while at < span.end and wanted.startswith(seen):
            stop = text.find("\n", at, span.end)
            seen += _letters(text[at : span.end if stop < 0 else stop])
            at = span.end if stop < 0 else stop + 1
            if seen.startswith(wanted):
                return at
        return span.start

    def _walk(self, offset: int) -> None:
        """Advances the path of headings to ``offset``."""
        headings = self._document.headings
        while self._next < len(headings) and headings[self._next].start <= offset:
            heading = headings[self._next]
            while self._path and self._path[-1].level >= heading.level:
                self._path.pop()
            self._path.append(heading)
            self._next += 1

    def _below_headings(self, start: int, end: int) -> int:
        """The start of the text after a chunk's leading headings; ``end`` if there is nothing else."""
        text = self._document.text
        while self._path and self._path[-1].start <= start < self._path[-1].end:
            below = self._path[-1].end
            while below < end and text[below].isspace():
                below += 1
            if below >= end:
                return end
            start = below
            self._walk(start)
        return start

"""Documents to chunks: pieces of about 100 to 200 words that end where the structure ends, with exact offsets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from selfrag.ingest.document import Chunk, Document, Heading

CAPACITY = 1000
"""Characters of a chunk of alphabetic text, about 160 English words and 230 tokens: what the default embedder reads whole."""

WIDE = 2.5
"""A Chinese, Japanese or Korean character says about as much as this many letters, and takes as many tokens."""

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]")
_SAMPLE = 20_000
_BLOCK = 32_768


def split(document: Document, capacity: int = CAPACITY) -> list[Chunk]:
    """The chunks of a document, in order. Headings that a chunk begins with go to its heading path; no chunk crosses a page or a
    section."""
    fitted = _fitted(document.text[document.body :][:_SAMPLE], capacity)
    splitter = _markdown(fitted) if document.reader == "markdown" else _plain(fitted)
    outline = _Outline(document)
    return [
        outline.chunk(begin + offset, begin + offset + len(text))
        for begin, end in _blocks(document)
        for offset, text in splitter.chunk_indices(document.text[begin:end])
    ]


class _Outline:
    """The headings of a document, walked once beside its chunks, whose starts only grow."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._next = 0
        self._path: list[Heading] = []

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
        return Chunk(document.text[start:end], tuple(titles), start, end, lines, page, place)

    def _walk(self, offset: int) -> None:
        """Brings the path of headings to ``offset``."""
        headings = self._document.headings
        while self._next < len(headings) and headings[self._next].start <= offset:
            heading = headings[self._next]
            while self._path and self._path[-1].level >= heading.level:
                self._path.pop()
            self._path.append(heading)
            self._next += 1

    def _below_headings(self, start: int, end: int) -> int:
        """Where the text begins after the headings that a chunk begins with; ``end`` if it holds nothing else."""
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


def _fitted(sample: str, capacity: int) -> int:
    share = len(_WIDE.findall(sample)) / max(1, len(sample))
    return max(1, round(capacity / (1 + share * (WIDE - 1))))


@cache
def _markdown(capacity: int) -> MarkdownSplitter:
    return MarkdownSplitter(capacity)


@cache
def _plain(capacity: int) -> TextSplitter:
    return TextSplitter(capacity)


def _blocks(document: Document) -> Iterator[tuple[int, int]]:
    """Pages, sections or the whole text, in short parts: a splitter looks through all the text that it has for each chunk."""
    starts = document.bounds
    for start, end in zip(starts, (*starts[1:], len(document.text)), strict=True):
        while end - start > _BLOCK:
            cut = _cut(document.text, start)
            yield start, cut
            start = cut
        yield start, end


def _cut(text: str, start: int) -> int:
    """The last good place to cut in the second half of a block: before a paragraph, a line, a word."""
    for boundary in ("\n\n", "\n", " "):
        found = text.rfind(boundary, start + _BLOCK // 2, start + _BLOCK)
        if found >= 0:
            return found + len(boundary)
    return start + _BLOCK

"""Documents to chunks: pieces of about 100 to 200 words that end where the structure ends, with exact offsets."""

from __future__ import annotations

import re
from bisect import bisect_right
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


def split(document: Document, capacity: int = CAPACITY) -> list[Chunk]:
    """The chunks of a document, in order. Headings that a chunk begins with go to its heading path; no chunk crosses a page."""
    fitted = _fitted(document.text[document.body :][:_SAMPLE], capacity)
    splitter = _markdown(fitted) if document.reader == "markdown" else _plain(fitted)
    starts = [heading.start for heading in document.headings]
    chunks = []
    for begin, end in _pages(document):
        for offset, text in splitter.chunk_indices(document.text[begin:end]):
            chunks.append(_chunk(document, starts, begin + offset, begin + offset + len(text)))
    return chunks


def _fitted(sample: str, capacity: int) -> int:
    share = len(_WIDE.findall(sample)) / max(1, len(sample))
    return max(1, round(capacity / (1 + share * (WIDE - 1))))


@cache
def _markdown(capacity: int) -> MarkdownSplitter:
    return MarkdownSplitter(capacity)


@cache
def _plain(capacity: int) -> TextSplitter:
    return TextSplitter(capacity)


def _pages(document: Document) -> Iterator[tuple[int, int]]:
    starts = document.pages or (document.body,)
    yield from zip(starts, (*starts[1:], len(document.text)), strict=True)


def _chunk(document: Document, starts: list[int], start: int, end: int) -> Chunk:
    path: tuple[Heading, ...] = _path(document, starts, start)
    body = _below_headings(document, starts, start, end)
    if body < end:
        start, path = body, _path(document, starts, body)
    titles = tuple(heading.title for heading in path if heading.title)
    if titles and titles[0] == document.title:
        titles = titles[1:]
    return Chunk(document.text[start:end], titles, start, end, document.lines(start, end), document.page(start))


def _below_headings(document: Document, starts: list[int], start: int, end: int) -> int:
    """Where the text begins after the headings that the chunk begins with; ``end`` if it holds nothing else."""
    index = bisect_right(starts, start) - 1
    while 0 <= index < len(starts) and starts[index] <= start < document.headings[index].end:
        start = document.headings[index].end
        while start < end and document.text[start].isspace():
            start += 1
        index += 1
    return min(start, end)


def _path(document: Document, starts: list[int], offset: int) -> tuple[Heading, ...]:
    path: list[Heading] = []
    for heading in document.headings[: bisect_right(starts, offset)]:
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
    return tuple(path)

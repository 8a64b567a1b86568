"""Org and AsciiDoc: the unchanged text, with its headings and the metadata of its head."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePath

from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Heading, Limits, Span
from selfrag.ingest.formats import plain_tables

_ORG = re.compile(r"(\*{1,6})[ \t]+(?:(?:TODO|DONE|NEXT|WAITING)[ \t]+)?(.*?)(?:[ \t]+:[\w@:]+:)?[ \t]*\Z")
_ADOC = re.compile(r"(={1,6})[ \t]+(\S.*?)[ \t]*=*[ \t]*\Z")
_KEYWORD = re.compile(r"#\+(title|author|date|filetags):[ \t]*(.*)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r":([\w-]+):[ \t]+(.*)")
_ORG_BLOCK = re.compile(r"[ \t]*#\+(begin|end)_", re.IGNORECASE)
_ADOC_BLOCK = re.compile(r"(-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|/{4,}|\+{4,}|```)[ \t]*\Z")


def read_org(path: PurePath, data: bytes, _: Limits) -> Document:
    text = decode(data)
    headings: list[Heading] = []
    metadata: dict[str, tuple[str, ...]] = {}
    closed = False
    for start, line in _lines(text):
        if block := _ORG_BLOCK.match(line):
            closed = block[1].lower() == "begin"
        elif not closed and (found := _ORG.match(line)) and found[2]:
            headings.append(Heading(start, min(start + len(line) + 1, len(text)), len(found[1]), found[2]))
        elif keyword := _KEYWORD.match(line):
            metadata[keyword[1].lower()] = (keyword[2].strip(),)
    return _marked(path, text, "org", headings, metadata, plain_tables.org)


def read_adoc(path: PurePath, data: bytes, _: Limits) -> Document:
    text = decode(data)
    headings: list[Heading] = []
    metadata: dict[str, tuple[str, ...]] = {}
    block = ""
    for start, line in _lines(text):
        if fence := _ADOC_BLOCK.match(line):
            block = "" if block == fence[1] else block or fence[1]
        elif not block and (found := _ADOC.match(line)):
            headings.append(Heading(start, min(start + len(line) + 1, len(text)), len(found[1]), found[2]))
        elif not block and len(headings) <= 1 and (attribute := _ATTRIBUTE.match(line)):
            metadata[attribute[1].lower()] = (attribute[2].strip(),)
    return _marked(path, text, "adoc", headings, metadata, plain_tables.adoc)


def _marked(
    path: PurePath,
    text: str,
    reader: str,
    headings: list[Heading],
    metadata: dict[str, tuple[str, ...]],
    tables: Callable[[plain_tables.Lines], Iterator[Span]],
) -> Document:
    first = headings[0].title if headings and headings[0].level == 1 else ""
    title = next(iter(metadata.get("title", ())), "") or first or path.stem
    said = {key: values for key, values in metadata.items() if values[0]}
    spans = tuple(tables(list(_lines(text))))
    return Document(text, title, reader, headings=tuple(headings), metadata=said, spans=spans)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1

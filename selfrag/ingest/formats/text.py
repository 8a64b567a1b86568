"""Readers of text whose characters are kept as they are: plain text, source code, Markdown, reStructuredText."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from typing import Any

import pyromark
import yaml

from selfrag.ingest.decode import decoded
from selfrag.ingest.document import Document, Heading, Limits, Span
from selfrag.ingest.formats import plain_tables

_FRONT = re.compile(r"\A(---|\+\+\+)[ \t]*\n(.*?\n)??(?:\1|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_KEY = re.compile(r"\s*(?:#.*\n\s*)*[\"']?[\w.-]+[\"']?\s*[:=]", re.ASCII)
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*\Z")
# fmt: off
_HOUSEKEEPING = frozenset((
    "title", "date", "lastmod", "updated", "draft", "published", "weight", "layout", "slug", "url", "permalink", "aliases", "id",
    "toc", "toc_depth", "template", "nav_order", "sidebar_position", "sidebar_label", "has_children", "parent", "hide_title",
    "hide_table_of_contents", "outline", "editLink", "format", "output",
))
LABELS = frozenset((
    "tags", "tag", "topic", "topics", "category", "categories", "keyword", "keywords", "kind", "type", "lang", "language",
    "status",
))
# fmt: on
"""Keys of front matter that steer a site and say nothing, or that are in every chunk's context anyway (the title); and those
that sort documents: they are matched with every chunk, and make no chunk of their own."""
_MOST = 500  # values of front matter: aliases of YAML multiply


def read_text(path: PurePath, data: bytes, _: Limits) -> Document:
    found = decoded(data)
    return Document(text=found.text, title=path.stem, reader="text", notes=found.notes)


def read_code(path: PurePath, data: bytes, _: Limits) -> Document:
    found = decoded(data)
    return Document(text=found.text, title=path.name, reader="code", notes=found.notes)


def read_markdown(path: PurePath, data: bytes, _: Limits) -> Document:
    """Markdown with its front matter (YAML between ``---``, TOML between ``+++``), headings, tables, lists and code blocks.

    The front matter is also searchable, unless it only configures a site.
    """
    found = decoded(data)
    front = front_matter(found.text)
    headings, spans = _outline(found.text, front.end)
    steers = front.readable and front.metadata.keys() <= _HOUSEKEEPING | LABELS and bool(found.text[front.end :].strip())
    title = next(iter(front.metadata.get("title", ())), "") or first_title(headings) or path.stem
    return Document(
        text=found.text,
        title=title,
        reader="markdown",
        body=front.end if steers else front.start,
        headings=headings,
        metadata=front.metadata,
        spans=tuple(spans),
        sections=(front.start, front.end) if front.end and not steers else (),
        notes=found.notes,
    )


def read_rst(path: PurePath, data: bytes, _: Limits) -> Document:
    """reStructuredText with its section titles; levels in the order in which their adornments first appear."""
    found = decoded(data)
    headings = tuple(_rst_headings(found.text))
    spans = tuple(plain_tables.rst(list(_lines(found.text))))
    title = first_title(headings) or path.stem
    return Document(text=found.text, title=title, reader="rst", headings=headings, spans=spans, notes=found.notes)


def first_title(headings: Sequence[Heading]) -> str:
    """The first heading, if it has the highest level in the document and so is its title."""
    return headings[0].title if headings and headings[0].level == min(each.level for each in headings) else ""


# --- front matter --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """``start`` is where it begins after its fence and ``end`` where the text after it begins, both 0 without front matter.
    ``metadata`` holds each key with its values as text, those of nested tables under ``outer.inner``; it is empty if the block is
    not ``readable``."""

    start: int = 0
    end: int = 0
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readable: bool = True


def front_matter(text: str) -> FrontMatter:
    """The front matter at the beginning of the text, if it is a block of keys: a rule in the first line is not."""
    block = _FRONT.match(text)
    if block is None:
        return FrontMatter()
    inner = block.group(2) or ""
    loaded = _toml(inner) if block.group(1) == "+++" else _yaml(inner)
    start = block.start(2) if inner else block.end()
    if isinstance(loaded, Mapping):
        metadata: dict[str, tuple[str, ...]] = {}
        _flatten("", loaded, metadata, 0)
        return FrontMatter(start, block.end(), metadata)
    if loaded is None and (not inner.strip() or _KEY.match(inner)):
        return FrontMatter(start, block.end(), readable=not inner.strip())
    return FrontMatter()


def _yaml(block: str) -> Any:
    try:
        return yaml.load(block, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _toml(block: str) -> Any:
    try:
        return tomllib.loads(block)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


class _Loader(yaml.SafeLoader):
    """Safe YAML that keeps the spelling of dates and numbers."""


_Loader.yaml_implicit_resolvers = {}


def _flatten(prefix: str, table: Mapping[Any, Any], into: dict[str, tuple[str, ...]], depth: int) -> None:
    for key, value in table.items():
        if len(into) >= _MOST or depth > 8:
            return
        name = f"{prefix}{key}"
        for each in value[:_MOST] if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                _flatten(f"{name}.", each, into, depth + 1)
            elif not isinstance(each, list | None) and (text := _written(each)):
                into[name] = (*into.get(name, ()), text)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Markdown ------------------------------------------------------------------------------------------------------------------


_CONTAINERS = frozenset(("List", "Item", "BlockQuote"))
_WHOLE = _CONTAINERS | {"Table", "TableHead", "TableRow", "CodeBlock", "HtmlBlock", "Paragraph"}
_MARKS = re.compile(r"\A[ ]{0,3}#{1,6}(?=[ \t]|\Z)|(?:(?<=[ \t])|\A)#+[ \t]*\Z")


def _outline(text: str, body: int) -> tuple[tuple[Heading, ...], list[Span]]:
    """The headings, and the lists, items, tables, rows, code blocks and quotations, of ``text`` from ``body`` on."""
    headings: list[Heading] = []
    spans: list[Span] = []
    header: list[str] = []
    blocks = list(_blocks(text[body:]))
    at = _offsets(text, body, blocks)
    for name, level, first, last in blocks:
        start, end = at[first], at[last]
        if name == "Heading":
            headings.append(Heading(start, end, level, _title(text[start:end])))
        elif name == "HeadCell":
            header.append(text[start:end].strip(" \t|"))
        elif name == "Table":
            spans.append(Span(start, end, " | ".join(filter(None, header))))
            header = []
        else:
            spans.append(Span(start, end))
    return tuple(headings), spans


def _blocks(text: str) -> Iterator[tuple[str, int, int, int]]:
    """The blocks of Markdown as they end: name, level of a heading, and where it begins and ends, in bytes of UTF-8. Headings
    inside of lists and quotations are left out."""
    depth, in_head = 0, False
    event: Any
    for event, place in pyromark.events_with_range(text, options=pyromark.Options.ENABLE_TABLES):
        if not isinstance(event, dict):
            continue
        tag = event.get("Start")
        if tag is not None:
            name = tag if isinstance(tag, str) else next(iter(tag))
            depth += name in _CONTAINERS
            in_head = in_head or name == "TableHead"
        elif (tag := event.get("End")) is not None:
            name = tag if isinstance(tag, str) else next(iter(tag))
            depth -= name in _CONTAINERS
            in_head = in_head and name != "TableHead"
            if name in _WHOLE or (name == "Heading" and not depth) or (name == "TableCell" and in_head):
                level = int(tag["Heading"][1]) if name == "Heading" else 0
                yield "HeadCell" if name == "TableCell" else name, level, place["start"], place["end"]


def _offsets(text: str, body: int, blocks: Sequence[tuple[str, int, int, int]]) -> dict[int, int]:
    """Converts byte offsets in the part from ``body`` on to offsets in ``text``."""
    places = sorted({place for _, _, *both in blocks for place in both})
    if text.isascii():
        return {place: body + place for place in places}
    data = text[body:].encode()
    found, last, offset = {}, 0, body
    for place in places:
        offset += len(data[last:place].decode())
        found[place], last = offset, place
    return found


def _title(heading: str) -> str:
    """The text of a heading without its marks, or its underline."""
    line = heading.strip("\n")
    return " ".join((_MARKS.sub("", line) if line.lstrip().startswith("#") else line.rpartition("\n")[0]).split())


# --- reStructuredText ----------------------------------------------------------------------------------------------------------


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _rst_headings(text: str) -> Iterator[Heading]:
    levels: dict[tuple[str, bool], int] = {}
    overlined = False
    before = ""
    for (start, line), (under_start, under) in pairwise(_lines(text)):
        mark = _ADORNMENT.match(under)
        title = line.strip()
        if mark and title and not _ADORNMENT.match(line) and len(under.rstrip()) >= len(line.rstrip()):
            overlined = bool(_ADORNMENT.match(before)) and before.rstrip() == under.rstrip()
            level = levels.setdefault((mark.group(1), overlined), min(len(levels) + 1, 6))
            first = start - len(before) - 1 if overlined else start
            yield Heading(first, min(under_start + len(under) + 1, len(text)), level, title)
        before = line

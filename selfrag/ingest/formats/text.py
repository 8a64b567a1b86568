"""Readers of text whose characters are kept as they are: plain text, source code, Markdown, reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import PurePath

import yaml

from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Heading, Limits

_FRONT = re.compile(r"\A---[ \t]*\n(.*?\n)??(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*\Z")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*\Z")


def read_text(path: PurePath, data: bytes, _: Limits) -> Document:
    return Document(text=decode(data), title=path.stem, reader="text")


def read_code(path: PurePath, data: bytes, _: Limits) -> Document:
    return Document(text=decode(data), title=path.name, reader="code")


def read_markdown(path: PurePath, data: bytes, _: Limits) -> Document:
    """Markdown with its front matter (YAML between ``---`` lines) and headings, ``#`` and underlined."""
    text = decode(data)
    front = _FRONT.match(text)
    body = front.end() if front else 0
    metadata = front_matter(front.group(1) or "") if front else {}
    headings = tuple(_markdown_headings(text, body))
    title = next(iter(metadata.get("title", ())), "") or first_title(headings) or path.stem
    return Document(text=text, title=title, reader="markdown", body=body, headings=headings, metadata=metadata)


def read_rst(path: PurePath, data: bytes, _: Limits) -> Document:
    """reStructuredText with its section titles; levels in the order in which the adornments come up."""
    text = decode(data)
    headings = tuple(_rst_headings(text))
    return Document(text=text, title=first_title(headings) or path.stem, reader="rst", headings=headings)


def first_title(headings: tuple[Heading, ...]) -> str:
    """The first heading, if it is of the highest level there is and so names the document."""
    return headings[0].title if headings and headings[0].level == min(each.level for each in headings) else ""


def front_matter(block: str) -> dict[str, tuple[str, ...]]:
    """Keys of a YAML block with their values as text; what is not a scalar or a list of scalars is left out, and broken YAML
    is no front matter."""
    try:
        loaded = yaml.load(block, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    if not isinstance(loaded, Mapping):
        return {}
    return {str(key): values for key, value in loaded.items() if _scalar(key) and (values := _values(value))}


class _Loader(yaml.SafeLoader):
    """Safe YAML whose dates and numbers stay as they are written."""


_Loader.yaml_implicit_resolvers = {}


def _scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _values(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(str(each) for each in values if _scalar(each) and str(each))


def _lines(text: str, start: int) -> Iterator[tuple[int, str]]:
    for line in text[start:].split("\n"):
        yield start, line
        start += len(line) + 1


def _markdown_headings(text: str, body: int) -> Iterator[Heading]:
    fence = ""
    before, previous = body, ""  # the line above, if it may be underlined
    for start, line in _lines(text, body):
        end = min(start + len(line) + 1, len(text))
        mark = _FENCE.match(line)
        if fence:
            if mark and mark.group(1).startswith(fence) and not line.strip(" `~"):
                fence = ""
            continue
        if mark:
            fence = mark.group(1)
        elif atx := _ATX.match(line):
            yield Heading(start, end, len(atx.group(1)), (atx.group(2) or "").strip())
        elif previous.strip() and (underline := _SETEXT.match(line)):
            yield Heading(before, end, 1 if underline.group(1)[0] == "=" else 2, previous.strip())
        else:
            before, previous = start, "" if line.startswith(("    ", "\t", ">", "- ", "* ", "|")) else line
            continue
        previous = ""


def _rst_headings(text: str) -> Iterator[Heading]:
    levels: dict[tuple[str, bool], int] = {}
    overlined = False
    before = ""
    for (start, line), (under_start, under) in pairwise(_lines(text, 0)):
        mark = _ADORNMENT.match(under)
        title = line.strip()
        if mark and title and not _ADORNMENT.match(line) and len(under.rstrip()) >= len(line.rstrip()):
            overlined = bool(_ADORNMENT.match(before)) and before.rstrip() == under.rstrip()
            level = levels.setdefault((mark.group(1), overlined), min(len(levels) + 1, 6))
            first = start - len(before) - 1 if overlined else start
            yield Heading(first, min(under_start + len(under) + 1, len(text)), level, title)
        before = line

"""HTML pages: the text of their blocks with the source line each begins in. Runs in the worker process.

lxml, since it knows the source line of an element; extractors that rewrite the page do not, and a citation needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Heading, Limits

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
# fmt: off
_SKIPPED = frozenset((
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "canvas", "head", "nav", "header",
    "footer", "aside", "form", "button", "select", "textarea",
))
_INLINE = frozenset((
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "input",
    "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
    "wbr", "td", "th",
))
_TIGHT = frozenset(("li", "br", "tr", "dt", "dd", "option"))
# fmt: on
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_SPACE = re.compile(r"\s+")


def read_html(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Text of <main> or the only <article> if there is one, else of the body without navigation and other furniture."""
    root = _parsed(data)
    pieces: list[str] = []
    headings: list[Heading] = []
    anchors: list[tuple[int, int]] = []
    offset = 0
    for block in _blocks(_content(root)):
        if offset > limits.characters:
            raise InputError(f"too much text: more than {limits.characters:,} characters")
        gap = "" if not pieces else "\n" if block.tight else "\n\n"
        start = offset + len(gap)
        offset = start + len(block.text)
        if block.level:
            headings.append(Heading(start, offset, block.level, block.text))
        anchors.append((start, max(block.line, anchors[-1][1] if anchors else 1)))
        pieces += (gap, block.text)
    title = _tidy(root.findtext(".//title") or "") or next((each.title for each in headings), "") or path.stem
    return Document("".join(pieces), title, "html", headings=tuple(headings), anchors=tuple(anchors))


def _parsed(data: bytes) -> etree._Element:
    declared = _CHARSET.search(data[:4096])
    text = _declared(data, declared.group(1).decode()) if declared else decode(data)
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError as error:
        raise InputError(f"not HTML: {str(error)[:200]}") from None
    if root is None:
        raise InputError("no text in it")
    return root


def _declared(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    except (LookupError, UnicodeDecodeError):
        return decode(data)  # pages lie about it


def _content(root: etree._Element) -> etree._Element:
    mains = root.findall(".//main") or root.xpath('.//*[@role="main"]') or root.findall(".//article")
    if len(mains) == 1 and len("".join(mains[0].itertext()).strip()) > 200:
        return mains[0]
    body = root.find(".//body")
    return root if body is None else body


@dataclass(frozen=True, slots=True)
class _Block:
    """The text of a block, its source line, its heading level (0: none), and whether it follows as an item, not a paragraph."""

    text: str
    line: int
    level: int
    tight: bool


def _blocks(root: etree._Element) -> Iterator[_Block]:
    """Blocks that have text, in order. A block ends where another begins or ends. Iterative: pages may nest very deep."""
    pieces: list[str] = []
    line, level, tight = root.sourceline or 1, 0, False
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
        name = element.tag if isinstance(element.tag, str) else ""
        skipped = event == "start" and name in _SKIPPED and element is not root
        if skipped:
            walk.skip_subtree()
        if name not in _INLINE:
            if found := _tidy("".join(pieces)):
                yield _Block(found, line, level, tight)
                tight = False
            pieces, line = [], element.sourceline or line
            level = _HEADINGS.get(name, 0) if event == "start" else 0
            tight = name in _TIGHT
        elif event == "end" and name in ("td", "th") and element.getnext() is not None:
            pieces.append(" | ")
        if event == "start":
            pieces.append("" if skipped else element.text or "")
        elif element is not root:
            pieces.append(element.tail or "")
    if found := _tidy("".join(pieces)):
        yield _Block(found, line, level, tight)


def _tidy(text: str) -> str:
    return _SPACE.sub(" ", readable(text)).strip()

"""OpenDocument texts and slides (.odt, .odp, .odg, .fodt): paragraphs, lists, tables, notes, frames. Runs in the worker process.

Tracked changes are accepted: the format keeps deleted text in a separate part, which is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import PurePath

from lxml import etree

from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.numbering import written
from selfrag.ingest.formats.package import Package, attribute, below, child, children, local
from selfrag.ingest.formats.superscripts import marked, resolved

_NUMBER = "number"
"""The attribute that numbers the tables of a document."""
# fmt: off
_UNSEEN = frozenset((
    "tracked-changes", "annotation-end", "sequence-decls", "forms", "variable-decls", "desc", "title", "change", "hidden-text",
    "hidden-paragraph",
))
# fmt: on


def read_odt(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Citations have the number of the paragraph or table row: ``¶12``. Headers and footers are read once, separately."""
    package = Package(data, "an OpenDocument text")
    draft = Draft(limits)
    number = 0
    margins = _margins(package)
    for text in margins.get("header", ()):
        draft.add(text, "header", "")
    draft.section()
    root = _content(package)
    _embed(package, root)
    _mark_raised(package, root)
    _Numbers(package, root).write(root)
    body = child(root, "body")
    for text, level, tight, counted, table, heads in _blocks(body) if body is not None else ():
        if text.strip():
            number += counted
            draft.add(text.strip(), "¶", str(max(number, 1)), level=level, tight=tight, table=table, heads=heads)
    draft.section()
    for text in margins.get("footer", ()):
        draft.add(text, "footer", "")
    return draft.document(path, "odt", _title(package))


def read_odp(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Slides in their order, each with its notes; a citation is ``slide 3``. Programs write all text of slides as lists, with or
    without bullets, so no bullets are shown."""
    package = Package(data, "an OpenDocument presentation")
    draft = Draft(limits)
    root = _content(package)
    _mark_raised(package, root)
    for number, page in enumerate(below(root, "page"), 1):
        draft.section()
        for frame in page:
            kind = attribute(frame, "class")
            note = local(frame) == "notes"
            blocks = [block for block in _blocks(frame) if block[0].strip()]
            before = "Notes: " if note else ""
            for table, same in groupby(blocks, key=lambda block: block[4]):
                texts = [text for text, *_ in same]
                for at, text in enumerate(texts if table else ["\n".join(texts)]):
                    level = 1 if kind == "title" else 0
                    draft.add(before + text, "slide ", str(number), level=level, tight=bool(table and at), table=table)
                    before = ""
    draft.section()
    used = {attribute(page, "master-page-name") for page in below(root, "page")}
    masters = below(package.xml("styles.xml"), "master-page") if "styles.xml" in package else ()
    for master in (each for each in masters if attribute(each, "name") in used):
        for frame in (each for each in master if not attribute(each, "class") and local(each) != "notes"):
            draft.add("\n".join(text for text, *_ in _blocks(frame) if any(map(str.isalpha, text))), "every slide", "")
    return draft.document(path, "odp", _title(package))


def _content(package: Package) -> etree._Element:
    """The document's content, its tables numbered from 1."""
    root = package.xml("content.xml")
    for number, table in enumerate(below(root, "table"), 1):
        table.set(_NUMBER, str(number))
    return root


def _embed(package: Package, root: etree._Element) -> None:
    """Inserts embedded formulas, which are separate parts, at their positions."""
    for element in list(below(root, "object")):
        part = f"{attribute(element, 'href').removeprefix('./')}/content.xml"
        if part in package and local(formula := package.xml(part)) == "math":
            for annotation in list(below(formula, "annotation")):
                annotation.getparent().remove(annotation)
            element.append(formula)


def _mark_raised(package: Package, root: etree._Element) -> None:
    """Marks the words of spans whose style raises them."""
    parts = [root, *([package.xml("styles.xml")] if "styles.xml" in package else [])]
    raising = {
        attribute(style, "name")
        for part in parts
        for style in below(part, "style")
        if re.match(r"super|[1-9]", attribute(child(style, "text-properties"), "text-position"))
    }
    for span in list(below(root, "span")) if raising else ():
        if attribute(span, "style-name") in raising and not len(span):
            span.text = marked(span.text or "")


_FORMS = {"a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman", "1": "decimal"}


class _Numbers:
    """The numbers and bullets of list items and headings, which the format does not store."""

    def __init__(self, package: Package, root: etree._Element) -> None:
        parts = [*([package.xml("styles.xml")] if "styles.xml" in package else []), root]
        self._levels = {
            attribute(style, "name"): {attribute(level, "level"): level for level in style}
            for part in parts
            for style in below(part, "list-style")
        }
        outlines = [style for part in parts for style in below(part, "outline-style")]
        self._outline = {attribute(level, "level"): level for style in outlines[:1] for level in style}
        self._headings: list[int] = []
        self._last: dict[str, list[int]] = {}

    def write(self, parent: Iterable[etree._Element]) -> None:
        """Writes each number before its text."""
        for element in parent:
            name = local(element)
            if name == "list":
                style = attribute(element, "style-name")
                goes_on = attribute(element, "continue-numbering") == "true" or attribute(element, "continue-list") != ""
                self._list(element, style, self._last.get(style, []) if goes_on else [], 1)
            elif name == "h":
                level = attribute(element, "outline-level", "1")
                if level.isdigit() and attribute(element, "is-list-header") != "true":
                    _put(element, _label(self._outline, self._headings, min(int(level), 10)))
            elif name not in _UNSEEN and len(element):
                self.write(element)

    def _list(self, element: etree._Element, style: str, counts: list[int], depth: int) -> None:
        self._last[style] = counts
        levels = self._levels.get(style, {})
        for item in children(element, "list-item"):
            start = attribute(item, "start-value")
            if start.isdigit() and len(start) < 9:
                counts[:] = [*counts[: depth - 1], int(start) - 1]
            first = next(iter(item), None)
            if first is not None and local(first) in ("p", "h"):
                _put(first, _label(levels, counts, depth))
            for inner in item:
                if local(inner) == "list":
                    self._list(inner, attribute(inner, "style-name") or style, counts, min(depth + 1, 10))
                elif local(inner) not in ("p", "h"):
                    self.write(_only(inner))


def _label(levels: dict[str, etree._Element], counts: list[int], depth: int) -> str:
    """Counts at ``depth``, from 1; returns the label, with as many of the outer numbers as the level shows."""
    level = levels.get(str(depth))
    del counts[depth:]
    while len(counts) < depth:
        start = attribute(levels.get(str(len(counts) + 1)), "start-value", "1")
        counts.append(int(start) - (len(counts) + 1 == depth) if start.isdigit() and len(start) < 9 else 0)
    counts[-1] += 1
    if level is None or local(level) == "list-level-style-bullet":
        return "" if level is None else "•"
    if not attribute(level, "num-format"):
        return ""
    shown = attribute(level, "display-levels", "1")
    first = max(0, depth - (int(shown) if shown.isdigit() else 1))
    numbers = [
        written(count, _FORMS.get(attribute(levels.get(str(at)), "num-format"), "decimal"))
        for at, count in enumerate(counts[first:], first + 1)
    ]
    return attribute(level, "num-prefix") + ".".join(numbers) + attribute(level, "num-suffix")


def _put(paragraph: etree._Element, label: str) -> None:
    if label and "".join(paragraph.itertext()).strip():
        paragraph.text = f"{label} {paragraph.text or ''}"


def _title(package: Package) -> str:
    if "meta.xml" not in package:
        return ""
    return readable(" ".join(next((each.text or "" for each in below(package.xml("meta.xml"), "title")), "").split()))


def _margins(package: Package) -> dict[str, list[str]]:
    """Headers and footers of the page styles, each text once; not those of a page number alone."""
    found: dict[str, list[str]] = {}
    for element in below(package.xml("styles.xml"), "header", "footer") if "styles.xml" in package else ():
        text = "\n".join(text for text, *_ in _blocks(element) if text.strip())
        known = found.setdefault(local(element), [])
        if any(map(str.isalpha, text)) and text not in known:
            known.append(text)
    return found


_Block = tuple[str, int, bool, int, int, bool]
"""Text, level of heading (0: none), whether it follows tightly, whether it counts as a paragraph (1) or belongs to the one before
(0), a number that rows of one table share (0: none), and whether it is a row of the table's header."""


def _blocks(parent: etree._Element, item: bool = False) -> Iterator[_Block]:
    for element in parent:
        name = local(element)
        if name in ("p", "h"):
            level = attribute(element, "outline-level", "1") if name == "h" else "0"
            beside: list[etree._Element] = []
            text = readable(resolved("".join(_pieces(element, beside))))
            yield text, int(level) if level.isdigit() else 1, item, 1, 0, False
            for each in beside:
                if local(each) == "text-box":
                    yield from _blocks(each)
                else:
                    yield _note(each), 0, True, 0, 0, False
        elif attribute(element, "display") == "none":
            continue
        elif name == "table":
            yield from _rows(element)
        elif name == "list-item":
            yield from _blocks(element, item=True)
        elif name not in _UNSEEN and len(element):
            yield from _blocks(element, item)


def _pieces(element: etree._Element, beside: list[etree._Element]) -> Iterator[str]:
    yield element.text or ""
    for each in element:
        name = local(each)
        if name == "s":
            count = attribute(each, "c", "1")
            yield " " * (min(int(count), 100) if count.isdigit() else 1)
        elif name == "tab":
            yield "\t"
        elif name == "line-break":
            yield "\n"
        elif name == "note":
            beside.append(each)
            yield f"[{_citation(each)}]"
        elif name in ("annotation", "text-box"):
            beside.append(each)
        elif name == "ruby":
            base = child(each, "ruby-base")
            yield from _pieces(base, beside) if base is not None else ()
        elif name == "math":
            yield " ".join("".join(each.itertext()).split())
        elif name not in _UNSEEN:
            yield from _pieces(each, beside)
        yield each.tail or ""


def _citation(note: etree._Element) -> str:
    mark = child(note, "note-citation")
    return "".join(mark.itertext()).strip() if mark is not None else "*"


def _note(note: etree._Element) -> str:
    if local(note) == "annotation":
        words = " ".join("".join(each.itertext()) for each in below(note, "p"))
        return f"[Comment] {readable(words)}" if words.strip() else ""
    body = child(note, "note-body")
    text = " ".join(text for text, *_ in _blocks(body)) if body is not None else ""
    return f"[{_citation(note)}] {text}"


def _rows(table: etree._Element) -> Iterator[_Block]:
    """Each row in one line, its cells in their columns; a cell that spans rows says its text in each of them, one that spans
    columns in a header. A table inside a cell follows its row."""
    number = int(table.get(_NUMBER, "1"))
    first = True
    spans: dict[int, tuple[int, str]] = {}  # by column, the rows that a cell goes on for, and its text
    for row in _own(table, "table-row"):
        parent = row.getparent()
        heads = parent is not None and local(parent) == "table-header-rows"
        cells: list[str] = []
        inner: list[_Block] = []
        for cell in children(row, "table-cell", "covered-table-cell"):
            nested = list(_own(cell, "table"))
            blocks = (
                _blocks(cell) if not nested else (block for part in children(cell, "p", "h") for block in _blocks(_only(part)))
            )
            repeated = attribute(cell, "number-columns-repeated", "1")
            text = " ".join(" ".join(text.split()) for text, *_ in blocks if text.strip())
            left, above = spans.pop(len(cells), (0, ""))
            if local(cell) == "covered-table-cell" and left:
                text, spans[len(cells)] = above, (left - 1, above)
            elif local(cell) == "covered-table-cell" and heads and cells:
                text = cells[-1]
            elif (down := attribute(cell, "number-rows-spanned", "1")).isdigit() and int(down) > 1:
                spans[len(cells)] = (int(down) - 1, text)
            cells += [text] * (min(int(repeated), 64) if repeated.isdigit() else 1)
            inner += [block for each in nested for block in _rows(each)]
        if any(cells):
            yield " | ".join(cells).rstrip(" |") if not cells[-1] else " | ".join(cells), 0, not first, 1, number, heads
            first = False
        yield from inner


def _only(element: etree._Element) -> list[etree._Element]:
    return [element]


def _own(parent: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """The elements of this name in ``parent``, without those in nested tables."""
    for element in parent:
        name = local(element)
        if name == wanted:
            yield element
        elif name not in ("table", "table-row"):
            yield from _own(element, wanted)

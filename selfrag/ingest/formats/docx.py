"""Word documents (.docx, .docm, .dotx): the visible text of the finished document, in order. Runs in the worker process.

Tracked changes are accepted, hidden text is left out, content controls, text boxes, fields, equations, comments and notes are
read where they stand, headers and footers once each. Written on lxml: of the libraries that were compared
(benchmarks/results/readers.md), none keeps cells, changes, controls, headers and notes, and gives the paragraph of a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats import drawing, equations
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.numbering import Numbering
from selfrag.ingest.formats.package import Package, attribute, below, child, children, local, relation
from selfrag.ingest.formats.superscripts import marked, resolved
from selfrag.ingest.formats.symbols import SYMBOL

# fmt: off
_UNSEEN = frozenset((
    "del", "moveFrom", "delText", "delInstrText", "instrText", "pPr", "rPr", "sdtPr", "sdtEndPr", "tblPr", "tcPr", "trPr", "rt",
    "smartTagPr", "customXmlPr",
))
# fmt: on
_OFF = ("0", "false", "off")
_SYMBOLS = {0xF0FE: "☒", 0xF0FD: "☒", 0xF0A8: "☐", 0xF06F: "☐", 0xF0FC: "✓", 0xF0FB: "✗", 0xF0B7: "•", 0xF0E0: "→", 0xF0B0: "°"}


def read_docx(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Citations have the number of the paragraph or table row, counted without empty ones: ``¶12``."""
    reader = _Reader(Package(data, "a Word document"))
    draft = Draft(limits)
    number, margin = 0, ""
    for block in reader.document():
        text = readable(block.text).strip()
        if block.place != margin:
            draft.section()
            margin = block.place
        if block.place:
            draft.add(text, block.place, "")
        elif text:
            number += block.counted
            draft.add(text, "¶", str(number), level=block.level, tight=block.tight, table=block.table, heads=block.heads)
    return draft.document(path, "docx", readable(reader.package.property("title")))


@dataclass(frozen=True, slots=True)
class _Block:
    """A paragraph, a table row, a note. ``counted`` is 0 where it belongs to the paragraph before; ``place`` names a header;
    rows of one table have its number in ``table``, those that Word repeats on each page are ``heads``."""

    text: str
    level: int = 0
    tight: bool = False
    counted: int = 1
    place: str = ""
    table: int = 0
    heads: bool = False


class _Reader:
    def __init__(self, package: Package) -> None:
        self.package = package
        self.main = package.main("word/document.xml")
        self.related = package.related(self.main)
        by_kind = dict(self.related.values())
        self.styles = _styles(package, by_kind.get("styles", ""))
        self.numbering = Numbering(package, by_kind.get("numbering", ""))
        self.notes = {kind: _notes(package, by_kind.get(f"{kind}s", "")) for kind in ("footnote", "endnote", "comment")}
        self.boxes: list[etree._Element] = []  # text boxes and notes met in the paragraph that is being read
        self.noted: list[tuple[str, etree._Element]] = []
        self.fields: list[bool] = []  # of each field that is open whether its instruction goes on
        self.before = ""  # a paragraph whose end was deleted
        self.count = 0
        self.tables = 0

    def document(self) -> Iterator[_Block]:
        root = self.package.xml(self.main)
        body = child(root, "body")
        yield from self.margins(root, "header")
        yield from self.blocks(root if body is None else body)
        yield from self.margins(root, "footer")

    def margins(self, root: etree._Element, kind: str) -> Iterator[_Block]:
        """The headers or the footers of all sections, each text once, except bare page numbers."""
        seen = set()
        for reference in below(root, f"{kind}Reference"):
            _, name = self.related.get(attribute(reference, "id"), ("", ""))
            text = "\n".join(block.text for block in self.blocks(self.package.xml(name))) if name in self.package else ""
            key = " ".join(text.split())
            if key not in seen and any(map(str.isalpha, key)):
                seen.add(key)
                yield _Block(text, place=kind)

    def blocks(self, parent: etree._Element) -> Iterator[_Block]:
        for element in parent:
            name = local(element)
            if name == "p":
                yield from self.paragraph(element)
            elif name == "tbl":
                yield from self.table(element)
            elif name == "AlternateContent":
                yield from self.blocks(_chosen(element))
            elif name == "sdt":
                yield from self.blocks(found) if (found := child(element, "sdtContent")) is not None else ()
            elif name in ("oMathPara", "oMath"):
                yield _Block(equations.text(element))
            elif name == "altChunk":
                yield from self.imported(relation(element))
            elif name not in _UNSEEN and len(element):
                yield from self.blocks(element)

    def imported(self, number: str) -> Iterator[_Block]:
        """A whole embedded document of another format: HTML, RTF, a saved page."""
        from selfrag.ingest.readers import parse  # it knows this reader, too

        _, name = self.related.get(number, ("", ""))
        if name in self.package:
            try:
                text = parse(PurePath(name), self.package.read(name)).text
            except InputError as error:
                yield _Block(f"[{PurePath(name).name}: {error.message}]")
                return
            yield from (_Block(part.strip()) for part in text.split("\n\n"))

    # --- paragraphs -------------------------------------------------------------------------------------------------------

    def paragraph(self, element: etree._Element) -> Iterator[_Block]:
        kept = self.boxes, self.noted
        self.boxes, self.noted = [], []
        properties = child(element, "pPr")
        style = self.styles.get(attribute(child(properties, "pStyle"), "val", "Normal"), _Style())
        text = "" if style.hidden else resolved(self.inline(element))
        boxes, noted = self.boxes, self.noted
        self.boxes, self.noted = kept
        self.fields = []
        text, self.before = self.before + text, ""
        following = element.getnext()
        if child(properties, "rPr", "del") is not None and not noted and following is not None and local(following) == "p":
            self.before = text
        elif text.strip():
            outline = attribute(child(properties, "outlineLvl"), "val")
            level = int(outline) + 1 if outline.isdigit() and int(outline) < 9 else style.level
            label = self.numbering.label(
                child(properties, "numPr") if child(properties, "numPr") is not None else style.numbering
            )
            yield _Block(f"{label} {text}" if label else text, level, tight=bool(label) and not level)
        for box in boxes:
            yield from self.blocks(box)
        for mark, note in noted:
            yield _Block(f"{mark} {' '.join(block.text for block in self.blocks(note))}", tight=True, counted=0)

    def inline(self, parent: etree._Element) -> str:
        return "".join(self.pieces(parent))

    def pieces(self, parent: etree._Element) -> Iterator[str]:
        for element in parent:
            name = local(element)
            if name in _UNSEEN:
                continue
            if name == "t":
                yield "" if any(self.fields[:-1]) else element.text or ""  # within an instruction is nothing to be seen
            elif name == "r":
                yield self.run(element)
            elif name in ("tab", "ptab"):
                yield "\t"
            elif name in ("br", "cr"):
                yield "\n"
            elif name == "noBreakHyphen":
                yield "-"
            elif name == "sym":
                yield _symbol(element)
            elif name == "fldChar":
                self.field(attribute(element, "fldCharType"))
                yield self.inline(element)
            elif name == "ddList":
                yield _chosen_entry(element)
            elif name == "checkBox":
                yield "☒ " if _ticked(element) else "☐ "
            elif name in ("footnoteReference", "endnoteReference", "commentReference"):
                yield self.note(name.removesuffix("Reference"), element)
            elif name in ("oMath", "oMathPara"):
                yield equations.text(element)
            elif name == "txbxContent":
                self.boxes.append(element)
            elif name == "AlternateContent":
                yield from self.pieces(_chosen(element))
            elif name == "OLEObject":
                yield "\n".join(drawing.embedded(self.package, element, self.related))
            elif name == "docPr":
                yield f" {said} " if (said := drawing.alternative(element)) else ""
            elif name == "graphicData":
                yield from self.pieces(element)
                yield "\n".join(drawing.charts(self.package, element, self.related))
            elif len(element):
                yield from self.pieces(element)

    def field(self, kind: str) -> None:
        if kind == "begin":
            self.fields.append(True)
        elif self.fields and kind == "separate":
            self.fields[-1] = False
        elif self.fields and kind == "end":
            self.fields.pop()

    def run(self, element: etree._Element) -> str:
        properties = child(element, "rPr")
        style = self.styles.get(attribute(child(properties, "rStyle"), "val"), _Style())
        hidden = child(properties, "vanish")
        if style.hidden if hidden is None else _is_on(hidden):
            return ""
        text = self.inline(element)
        if "Symbol" in (attribute(child(properties, "rFonts"), "ascii"), attribute(child(properties, "rFonts"), "hAnsi")):
            text = text.translate(SYMBOL)
        place = child(properties, "vertAlign")
        above = attribute(child(properties, "position"), "val").isdigit() and text.strip().isdigit()
        raised = style.raised or above if place is None else attribute(place, "val") == "superscript"
        return marked(text) if raised else text

    def note(self, kind: str, reference: etree._Element) -> str:
        """The mark in the text; the note itself follows its paragraph."""
        note = self.notes[kind].get(attribute(reference, "id"))
        if note is None:
            return ""
        if kind == "comment":
            author = attribute(note, "author")
            self.noted.append((f"[Comment by {author}]" if author else "[Comment]", note))
            return ""
        self.count += 1
        self.noted.append((f"[{self.count}]", note))
        return f"[{self.count}]"

    # --- tables -----------------------------------------------------------------------------------------------------------

    def table(self, element: etree._Element) -> Iterator[_Block]:
        """Each row in one line, its cells in their columns; a cell that spans rows repeats its text in each of them. A table
        inside a cell follows the row."""
        above: dict[int, str] = {}
        first = True
        self.tables += 1
        number = self.tables
        for row in _rows(element):
            heads = child(row, "trPr", "tblHeader") is not None
            cells: list[str] = []
            inner: list[_Block] = []
            single = len(list(_cells(row))) == 1
            before = attribute(child(row, "trPr", "gridBefore"), "val")
            cells += [""] * (int(before) if before.isdigit() and int(before) < 64 else 0)
            for cell in _cells(row):
                blocks = list(self.blocks(cell))
                if single:
                    inner = blocks
                    break
                tables = [block for table in below(cell, "tbl") for block in self.table(table)] if _nested(cell) else []
                text = " ".join(" ".join(b.text.split()) for b in (self.own(cell) if tables else blocks) if b.text.strip())
                inner += tables
                merge = child(cell, "tcPr", "vMerge")
                if merge is not None and attribute(merge, "val") != "restart":
                    text = text or above.get(len(cells), "")
                above[len(cells)] = text
                span = attribute(child(cell, "tcPr", "gridSpan"), "val")
                cells += [text, *[text if heads else ""] * (min(int(span), 64) - 1 if span.isdigit() else 0)]
            if any(cells):
                yield _Block(" | ".join(cells), tight=not first, table=number, heads=heads)
                first = False
            yield from inner

    def own(self, cell: etree._Element) -> Iterator[_Block]:
        """The paragraphs of a cell, without the tables in it."""
        for paragraph in children(cell, "p"):
            yield from self.paragraph(paragraph)


def _nested(cell: etree._Element) -> bool:
    return next(below(cell, "tbl"), None) is not None


def _rows(table: etree._Element) -> Iterator[etree._Element]:
    for element in table:
        name = local(element)
        if name == "tr" and child(element, "trPr", "del") is None:
            yield element
        elif name in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _rows(element)


def _cells(row: etree._Element) -> Iterator[etree._Element]:
    for element in row:
        name = local(element)
        if name == "tc":
            if child(element, "tcPr", "cellDel") is None:
                yield element
        elif name in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _cells(element)


def _chosen(alternatives: etree._Element) -> etree._Element:
    """One of the alternative forms of the same content."""
    return next(children(alternatives, "Choice"), next(children(alternatives, "Fallback"), alternatives))


def _symbol(element: etree._Element) -> str:
    try:
        code = int(attribute(element, "char"), 16)
    except ValueError:
        return ""
    if attribute(element, "font") == "Symbol":
        return SYMBOL.get(code, "")
    return _SYMBOLS.get(code, chr(code) if code < 0xE000 else "")


def _chosen_entry(element: etree._Element) -> str:
    """What is chosen from a list of an old form."""
    entries = [attribute(each, "val") for each in children(element, "listEntry")]
    number = attribute(child(element, "result"), "val") or attribute(child(element, "default"), "val") or "0"
    return entries[int(number)] if number.isdigit() and int(number) < len(entries) else ""


def _ticked(element: etree._Element) -> bool:
    state = child(element, "checked") if child(element, "checked") is not None else child(element, "default")
    return _is_on(state)


def _is_on(switch: etree._Element | None) -> bool:
    """Whether a switch is there and not off; it need not say that it is on."""
    return switch is not None and attribute(switch, "val", "1") not in _OFF


# --- the other parts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Style:
    level: int = 0
    numbering: etree._Element | None = None
    hidden: bool = False
    raised: bool = False


def _styles(package: Package, name: str) -> dict[str, _Style]:
    """Styles by id: which level of heading they are, 0 for none, their numbering, and how their letters look, inherited too."""
    if name not in package:
        return {}
    found = {attribute(each, "styleId"): each for each in children(package.xml(name), "style")}
    return {key: _style(key, found) for key in found}


def _style(key: str, styles: dict[str, etree._Element]) -> _Style:
    level, numbering, hidden, raised = 0, None, False, False
    seen: set[str] = set()
    while key in styles and key not in seen:
        seen.add(key)
        own = child(styles[key], "pPr")
        name = attribute(child(styles[key], "name"), "val").lower()
        outline = attribute(child(own, "outlineLvl"), "val")
        if not level and name.startswith("heading ") and name[8:].isdigit():
            level = int(name[8:])
        elif not level and outline.isdigit() and int(outline) < 9:
            level = int(outline) + 1
        elif not level and name == "title":
            level = 1
        numbering = numbering if numbering is not None else child(own, "numPr")
        letters = child(styles[key], "rPr")
        hidden = hidden or _is_on(child(letters, "vanish"))
        raised = raised or attribute(child(letters, "vertAlign"), "val") == "superscript"
        key = attribute(child(styles[key], "basedOn"), "val")
    return _Style(level, numbering, hidden, raised)


def _notes(package: Package, name: str) -> dict[str, etree._Element]:
    """Notes by id, without the lines that Word draws above them."""
    notes: Iterable[etree._Element] = package.xml(name) if name in package else ()
    return {attribute(each, "id"): each for each in notes if "eparat" not in attribute(each, "type")}

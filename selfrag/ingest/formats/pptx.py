"""Slides (.pptx, .pptm, .ppsx): title, text, tables, charts, diagrams, notes and comments of each. Runs in the worker process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats import drawing, equations
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.numbering import written
from selfrag.ingest.formats.package import Package, attribute, below, child, children, local, relation
from selfrag.ingest.formats.superscripts import marked, resolved
from selfrag.ingest.formats.symbols import SYMBOL

_TITLES = ("title", "ctrTitle")
_FORMS = {"alphaLc": "lowerLetter", "alphaUc": "upperLetter", "romanLc": "lowerRoman", "romanUc": "upperRoman"}
_MARKS = {"Period": ("", "."), "ParenR": ("", ")"), "ParenBoth": ("(", ")"), "Plain": ("", ""), "Minus": ("", " -")}
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
_ONLY_PICTURES = "only pictures; if they show text, install selfrag[ocr] (OCR)"
_REPEATED = ("sldNum", "dt")
_ON = ("1", "true")


def read_pptx(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Slides in the order in which they are shown, hidden ones too; no chunk crosses one, a citation is ``slide 3``."""
    package = Package(data, "a PowerPoint presentation")
    draft = Draft(limits)
    tables = 0
    behind: dict[str, None] = {}
    for number, name in enumerate(_slides(package), 1):
        draft.section()
        related = package.related(name)
        behind |= _behind(package, name)
        root = package.xml(name)
        shapes = [shape for shape in _shapes(package, root, related) if shape[0].strip()]
        if limits.ocr == "always" or not shapes:
            shapes += [(text, 0, False) for text in _recognised(package, root, related, limits, draft, number)]
        for text, level, is_table in shapes:
            tables += is_table
            for at, row in enumerate(text.split("\n") if is_table else [text]):
                draft.add(row, "slide ", str(number), level=level, tight=at > 0, table=tables if is_table else 0)
        for kind, part in related.values():
            if part in package and kind in ("notesSlide", "comments"):
                for text in _beside(package.xml(part), kind):
                    draft.add(text, "slide ", str(number))
    draft.section()
    for text in behind:
        draft.add(text, "every slide", "")
    found = draft.document(path, "pptx", readable(package.property("title")))
    if found.lost and not found.text.strip():
        raise InputError(f"no text in it: {found.lost[0].partition(': ')[2]}")
    return found


def _slides(package: Package) -> list[str]:
    main = package.main("ppt/presentation.xml")
    related = package.related(main)
    order = (related.get(relation(each), ("", ""))[1] for each in below(package.xml(main), "sldId"))
    return [name for name in order if name in package]


def _behind(package: Package, name: str) -> dict[str, None]:
    """What a slide's layout and its master show on it by themselves, which is not what they ask for: "Click to add text"."""
    found: dict[str, None] = {}
    part = name
    for wanted in ("slideLayout", "slideMaster"):
        if attribute(package.xml(part), "showMasterSp", "1") in ("0", "false"):
            break
        part = next((target for kind, target in package.related(part).values() if kind == wanted), "")
        if part not in package:
            break
        for shape in below(package.xml(part), "sp"):
            text = "\n".join(_paragraphs(child(shape, "txBody")))
            if child(shape, "nvSpPr", "nvPr", "ph") is None and any(map(str.isalpha, text)):
                found[text] = None
    return found


def _shapes(package: Package, root: etree._Element, related: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, int, bool]]:
    """The text of each shape, its level as a heading: 1 for a slide's title, and whether it is a table."""
    for element in root:
        name = local(element)
        if name == "sp":
            placeholder = attribute(child(element, "nvSpPr", "nvPr", "ph"), "type")
            if placeholder in _REPEATED:
                continue
            text = "\n".join(_paragraphs(child(element, "txBody")))
            yield (" ".join(text.split()), 1, False) if placeholder in _TITLES else (text, 0, False)
        elif name == "graphicFrame":
            for table in below(element, "tbl"):
                yield "\n".join(_rows(table)), 0, True
            yield readable("\n".join(drawing.charts(package, element, related))), 0, False
            for text in drawing.embedded(package, element, related):
                yield text, 0, False
        elif name == "pic":
            yield readable(drawing.alternative(child(element, "nvPicPr", "cNvPr"))), 0, False
        elif name == "AlternateContent":
            yield from _shapes(package, next(children(element, "Choice"), next(children(element, "Fallback"), element)), related)
        elif len(element):
            yield from _shapes(package, element, related)


def _recognised(
    package: Package,
    root: etree._Element,
    related: Mapping[str, tuple[str, str]],
    limits: Limits,
    draft: Draft,
    number: int,
) -> Iterator[str]:
    """What the pictures of a slide say; what is not known of them is told."""
    names = dict.fromkeys(related.get(attribute(each, "embed"), ("", ""))[1] for each in below(root, "blip"))
    pictures = [name for name in names if name in package and PurePath(name).suffix.lower() in _PICTURES]
    if pictures and limits.ocr == "never":
        draft.lose(f"slide {number}: {_ONLY_PICTURES}")
        return
    for name in pictures:
        from selfrag.ingest.formats import ocr

        try:
            yield ocr.read_picture(PurePath(name), package.read(name), limits).text.strip()
        except InputError as error:
            draft.lose(f"slide {number}: {error.message}")


def _paragraphs(body: etree._Element | None) -> Iterator[str]:
    """Each with the number that it is shown with; bullets are left out."""
    counts: list[int] = []
    for paragraph in children(body, "p"):
        if text := readable(resolved("".join(_pieces(paragraph)))).strip():
            yield f"{number} {text}" if (number := _number(child(paragraph, "pPr"), counts)) else text


def _number(properties: etree._Element | None, counts: list[int]) -> str:
    """Counts a paragraph on at its level; empty where it is not numbered."""
    depth = _digits(attribute(properties, "lvl"), 0) % 9
    form = child(properties, "buAutoNum") if properties is not None else None
    if form is None:
        del counts[depth:]
        return ""
    del counts[depth + 1 :]
    counts += [0] * (depth + 1 - len(counts))
    counts[depth] = counts[depth] + 1 if counts[depth] else _digits(attribute(form, "startAt"), 1)
    kind = attribute(form, "type", "arabicPeriod")
    marks = next((each for each in _MARKS if kind.endswith(each)), "")
    before, after = _MARKS.get(marks, ("", "."))
    return before + written(counts[depth], _FORMS.get(kind.removesuffix(marks), "decimal")) + after


def _digits(text: str, default: int) -> int:
    return int(text) if text.isdigit() and len(text) < 6 else default


def _pieces(parent: etree._Element) -> Iterator[str]:
    for element in parent:
        name = local(element)
        if name in ("r", "fld"):
            text = "".join(each.text or "" for each in children(element, "t"))
            if "Symbol" in (attribute(child(element, "rPr", kind), "typeface") for kind in ("latin", "sym")):
                text = text.translate(SYMBOL)
            baseline = attribute(child(element, "rPr"), "baseline", "0")
            yield marked(text) if baseline.isdigit() and int(baseline) > 0 else text
        elif name == "br":
            yield "\n"
        elif name in ("oMath", "oMathPara"):
            yield equations.text(element)
        elif name == "AlternateContent":
            yield from _pieces(next(children(element, "Choice"), next(children(element, "Fallback"), element)))
        elif name not in ("pPr", "endParaRPr"):
            yield from _pieces(element)


def _rows(table: etree._Element) -> Iterator[str]:
    """A cell that spans rows says its text in each of them, one that spans columns in a header."""
    above: list[str] = []
    for number, row in enumerate(children(table, "tr")):
        cells: list[str] = []
        for at, cell in enumerate(children(row, "tc")):
            text = " ".join(" ".join(_paragraphs(child(cell, "txBody"))).split())
            if attribute(cell, "vMerge") in _ON and at < len(above):
                text = above[at]
            elif attribute(cell, "hMerge") in _ON and not number:
                text = cells[-1] if cells else ""
            cells.append(text)
        above = cells
        if any(cells):
            yield " | ".join(cells)


def _beside(root: etree._Element, kind: str) -> Iterator[str]:
    if kind == "comments":
        for comment in below(root, "cm"):
            words = [readable(each.text or "") for each in below(comment, "text", "t")]
            yield f"[Comment] {' '.join(words)}" if any(words) else ""
        return
    for shape in below(root, "sp"):
        if attribute(child(shape, "nvSpPr", "nvPr", "ph"), "type") == "body":
            text = "\n".join(_paragraphs(child(shape, "txBody")))
            yield f"Notes: {text}" if text else ""

"""What was filled in and noted on a PDF page: form fields beside their labels, free text, notes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2
import pypdfium2.raw as pdfium

_TYPED = (pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP)
_NOTED = (
    pdfium.FPDF_ANNOT_TEXT,
    pdfium.FPDF_ANNOT_HIGHLIGHT,
    pdfium.FPDF_ANNOT_UNDERLINE,
    pdfium.FPDF_ANNOT_STRIKEOUT,
    pdfium.FPDF_ANNOT_SQUARE,
    pdfium.FPDF_ANNOT_CIRCLE,
    pdfium.FPDF_ANNOT_CARET,
)
_BUTTONS = (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
_VALUES = (pdfium.FPDF_FORMFIELD_TEXTFIELD, pdfium.FPDF_FORMFIELD_COMBOBOX, pdfium.FPDF_FORMFIELD_LISTBOX)

_TICKED, _EMPTY = _BOXES = ("☒", "☐")
_PASSWORD = 1 << 13  # a flag of a field

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a line of text stands: its box, and the left edge of each character from ``start`` on."""

    box: Box
    lefts: list[float]
    start: int


def written_in(page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage | None, found: str, forms: object) -> str:
    """``found``, the page's text, with each field's value where it stands in the line of its label, or on a line with the field's
    own name where no label stands there, and with the words of annotations at the end. Without ``text``, which says where lines
    stand, all values stand at the end."""
    lines = found.split("\n")
    placed: list[_Line | None] | None = None
    free: list[str] = []
    filled: list[tuple[int, int, str]] = []
    for kind, box, value, name in _annotations(page, forms):
        if kind != pdfium.FPDF_ANNOT_WIDGET:
            free.append(value if kind in _TYPED else f"[Note] {value}")
            continue
        if placed is None:
            placed = _lines(text, lines) if text else []
        at = _line_of(box, placed, value in _BOXES)
        if at is not None and (line := placed[at]):
            filled.append((at, line.start + sum(left < box[0] + 1 for left in line.lefts), value))
        elif value != _EMPTY:
            free.append(f"{name}: {value}" if name else value)
    for at, place, value in sorted(filled, reverse=True):
        lines[at] = " ".join(filter(None, (lines[at][:place].rstrip(), value, lines[at][place:].lstrip())))
    own = {at for at, *_ in filled}
    lines = [f"\n{each}\n" if at in own else each for at, each in enumerate(lines)]  # none is joined with the next
    return "\n".join([*lines, *(f"\n{each}\n" for each in free)])


def _annotations(page: pypdfium2.PdfPage, forms: object) -> Iterator[tuple[int, Box, str, str]]:
    """Kind, box, words and field name of each annotation that says something."""
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            kind = pdfium.FPDFAnnot_GetSubtype(annotation)
            hidden = pdfium.FPDFAnnot_GetFlags(annotation) & (pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW)
            rectangle = pdfium.FS_RECTF()
            pdfium.FPDFAnnot_GetRect(annotation, rectangle)
            box = (rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)
            if hidden:
                continue
            if kind == pdfium.FPDF_ANNOT_WIDGET:
                value = _value(forms, annotation) if forms else ""
                name = _field(pdfium.FPDFAnnot_GetFormFieldAlternateName, forms, annotation) if value else ""
                name = name or (_field(pdfium.FPDFAnnot_GetFormFieldName, forms, annotation) if value else "")
            else:
                value, name = _contents(annotation) if kind in (*_TYPED, *_NOTED) else "", ""
            if value.strip():
                yield kind, box, " ".join(value.split()) if kind == pdfium.FPDF_ANNOT_WIDGET else value.strip(), name
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _value(forms: object, annotation: object) -> str:
    kind = pdfium.FPDFAnnot_GetFormFieldType(forms, annotation)
    if kind in _BUTTONS:
        return _TICKED if pdfium.FPDFAnnot_IsChecked(forms, annotation) else _EMPTY
    if pdfium.FPDFAnnot_GetFormFieldFlags(forms, annotation) & _PASSWORD:
        return ""
    options = range(max(0, pdfium.FPDFAnnot_GetOptionCount(forms, annotation)))
    chosen = [number for number in options if pdfium.FPDFAnnot_IsOptionSelected(forms, annotation, number)]
    if chosen:  # their labels: the value may be a code
        return ", ".join(_option(forms, annotation, number) for number in chosen)
    return _field(pdfium.FPDFAnnot_GetFormFieldValue, forms, annotation) if kind in _VALUES else ""


def _option(forms: object, annotation: object, number: int) -> str:
    return _read(lambda buffer, size: pdfium.FPDFAnnot_GetOptionLabel(forms, annotation, number, buffer, size))


def _field(getter: object, forms: object, annotation: object) -> str:
    return _read(lambda buffer, size: getter(forms, annotation, buffer, size))  # type: ignore[operator]


def _contents(annotation: object) -> str:
    return _read(lambda buffer, size: pdfium.FPDFAnnot_GetStringValue(annotation, b"Contents", buffer, size))


def _read(fill: object) -> str:
    """A string that pdfium writes into a buffer, in UTF-16, after it said how many bytes it takes."""
    size = fill(None, 0)  # type: ignore[operator]
    if size <= 2:
        return ""
    buffer = (ctypes.c_ushort * (size // 2))()
    fill(buffer, size)  # type: ignore[operator]
    return bytes(buffer).decode("utf-16-le", "replace").rstrip("\x00").replace("\r", "\n")


def _lines(text: pypdfium2.PdfTextPage, found: list[str]) -> list[_Line | None]:
    """Where each line of the page's text stands, by searching for it; None for one that is not found as it is."""
    lines: list[_Line | None] = []
    start = 0
    for line in found:
        place = None
        words = line.strip()
        if words:
            searcher = text.search(words, index=start, match_case=True)
            occurrence = searcher.get_next()
            searcher.close()
            if occurrence is not None:
                at, count = occurrence
                start = at + count
                corners = [text.get_charbox(each) for each in range(at, at + count)]
                box = tuple(pick(each) for pick, each in zip((min, min, max, max), zip(*corners, strict=True), strict=True))
                place = _Line(box, [corner[0] for corner in corners], len(line) - len(line.lstrip()))
        lines.append(place)
    return lines


def _line_of(field: Box, lines: list[_Line | None], either: bool) -> int | None:
    """The line that stands at a field's height and nearest before it, or on ``either`` side."""
    middle = (field[1] + field[3]) / 2
    height = max(field[3] - field[1], 1)
    beside = [
        (max(field[0] - line.box[2], line.box[0] - field[2], 0), at)
        for at, line in enumerate(lines)
        if line and line.box[1] - 0.3 * height < middle < line.box[3] + 0.3 * height and (either or line.box[0] < field[0] + 2)
    ]
    return min(beside)[1] if beside else None

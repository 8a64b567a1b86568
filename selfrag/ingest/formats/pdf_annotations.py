"""What was filled in and noted on a PDF page: form fields beside their labels, free text, notes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

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

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def written_in(page: pypdfium2.PdfPage, text: pypdfium2.PdfTextPage | None, found: str, forms: object) -> str:
    """``found``, the page's text, with each field's value after the label on its line, or on a line with the field's own name
    where no label stands there, and with the words of annotations at the end. Without ``text``, which says where lines stand, all
    values stand at the end."""
    lines = found.split("\n")
    boxes: list[Box | None] | None = None
    free: list[str] = []
    filled: set[int] = set()
    for kind, box, value, name in _annotations(page, forms):
        if kind != pdfium.FPDF_ANNOT_WIDGET:
            free.append(value if kind in _TYPED else f"[Note] {value}")
            continue
        if boxes is None:
            boxes = _line_boxes(text, lines) if text else []
        at = _line_of(box, boxes)
        if at is None:
            free.append(f"{name}: {value}" if name else value)
        else:
            lines[at] = f"{lines[at].rstrip()} {value}"
            filled.add(at)
    lines = [f"\n{line}\n" if at in filled else line for at, line in enumerate(lines)]  # none is joined with the next
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
        return "☒" if pdfium.FPDFAnnot_IsChecked(forms, annotation) else ""
    return _field(pdfium.FPDFAnnot_GetFormFieldValue, forms, annotation) if kind in _VALUES else ""


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


def _line_boxes(text: pypdfium2.PdfTextPage, lines: list[str]) -> list[Box | None]:
    """The box of each line of the page's text, by searching for it; None for one that is not found as it is."""
    boxes: list[Box | None] = []
    start = 0
    for line in lines:
        box = None
        words = line.strip()
        if words:
            searcher = text.search(words, index=start, match_case=True)
            occurrence = searcher.get_next()
            searcher.close()
            if occurrence is not None:
                at, count = occurrence
                start = at + count
                corners = [text.get_charbox(each) for each in range(at, at + count)]
                box = (
                    min(c[0] for c in corners),
                    min(c[1] for c in corners),
                    max(c[2] for c in corners),
                    max(c[3] for c in corners),
                )
        boxes.append(box)
    return boxes


def _line_of(field: Box, lines: list[Box | None]) -> int | None:
    """The line that stands at a field's height and nearest before it."""
    middle = (field[1] + field[3]) / 2
    height = max(field[3] - field[1], 1)
    beside = [
        (field[0] - line[2], at)
        for at, line in enumerate(lines)
        if line and line[1] - 0.3 * height < middle < line[3] + 0.3 * height and line[0] < field[0] + 2
    ]
    return min(beside, key=lambda each: abs(each[0]))[1] if beside else None

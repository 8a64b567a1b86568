"""PDF: text by page, with what was filled in and noted, from pdfium; from pypdf where pdfium cannot open the file.

Runs in the worker process.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePath

import pypdfium2
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits, Ocr
from selfrag.ingest.formats import pdf_annotations, pdf_text

_ENDS = (".", "!", "?", ":", ";", "。", "！", "？")
_NO_UNICODE = "its fonts do not say which letters they show: its text would be wrong; save it anew, or install selfrag[ocr]"
_DAMAGED = "damaged"
_NOTHING = "no text in it that could be recognised"
_LONGEST = 6000  # pixels of a page's longer side
_STAMP = 80
"""Letters that a page which is a scan may hold beside it."""
_NO_TEXT = "no text in it; if it is scanned, install selfrag[ocr] (OCR)"


def read_pdf(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Title from the file's own data, if it has one."""
    if b"%PDF-" not in data[:1024]:
        raise InputError("not a PDF, whatever its name says")
    try:
        title, texts, lost = _pdfium(data, limits)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise InputError("encrypted: it needs a password") from None
        title, texts = _pypdf(data, limits)
        lost = []
    pages = tuple(_offsets(texts))
    text = "".join(texts)
    if not text.strip():
        of_pages = (each.partition(": ")[2] for each in lost if each.startswith("p."))
        reasons = [each for each in of_pages if each not in (_NO_TEXT, _NOTHING, _DAMAGED)]
        raise InputError((reasons or [_NOTHING if limits.ocr != "never" else _NO_TEXT])[0])
    return Document(text, _title(title) or path.stem, "pdf", pages=pages, lost=tuple(lost))


def _pdfium(data: bytes, limits: Limits) -> tuple[str, list[str], list[str]]:
    with pypdfium2.PdfDocument(data) as document:
        title = document.get_metadata_value("Title")
        if document.get_formtype():
            document.init_forms()
        names = (document.get_attachment(number).get_name() for number in range(document.count_attachments()))
        lost = [f"the attached {name} is not read; save it beside the PDF" for name in names]
        pages = (_pdfium_page(document, number, lost, limits.ocr) for number in range(len(document)))
        return title, _bounded(pages, limits), lost


def _pdfium_page(document: pypdfium2.PdfDocument, number: int, lost: list[str], ocr: Ocr) -> str:
    try:
        page = document[number]
    except pypdfium2.PdfiumError:
        lost.append(f"p.{number + 1}: {_DAMAGED}")
        return ""  # one damaged page does not lose the others
    text = page.get_textpage()
    try:
        found = pdf_text.of(text)
        wrong = pdf_text.garbled(text, found)
        reason = _NO_UNICODE if wrong else "" if found.strip() or not _pictured(page) else _NO_TEXT
        wanted = ocr == "always" or (ocr == "auto" and (reason != "" or _scanned(page, found)))
        recognised = ""
        if wanted:
            try:
                recognised = _recognised(page)
            except InputError as error:
                reason = error.message
        if recognised:
            return pdf_annotations.written_in(page, None, recognised, document.formenv)
        if reason:
            lost.append(f"p.{number + 1}: {_NOTHING if wanted and reason in (_NO_UNICODE, _NO_TEXT) else reason}")
        found = "" if wrong else found
        return pdf_annotations.written_in(page, None if recognised else text, found, document.formenv)
    finally:
        text.close()
        page.close()


def _recognised(page: pypdfium2.PdfPage) -> str:
    from selfrag.ingest.formats import ocr

    bitmap = page.render(scale=_scale(page, ocr.DOTS), draw_annots=False, may_draw_forms=False)
    return ocr.page(bitmap.to_numpy()[:, :, :3])


def _scale(page: pypdfium2.PdfPage, dots: int) -> float:
    """Pixels per point: less for a poster, which would not fit into memory."""
    width, height = page.get_size()
    return min(dots / 72, _LONGEST / max(1.0, float(width), float(height)))


def _pictured(page: pypdfium2.PdfPage) -> bool:
    return any(_pictures(page))


def _scanned(page: pypdfium2.PdfPage, found: str) -> bool:
    """Whether the page is a picture with hardly any text beside it, such as the number that a scanner stamps."""
    if len("".join(found.split())) > _STAMP:
        return False
    width, height = page.get_size()
    return any(
        (right - left) * (top - bottom) > 0.5 * width * height
        for left, bottom, right, top in (picture.get_bounds() for picture in _pictures(page))
    )


def _pictures(page: pypdfium2.PdfPage) -> Iterator[pypdfium2.PdfObject]:
    return iter(page.get_objects([pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=2))


def _pypdf(data: bytes, limits: Limits) -> tuple[str, list[str]]:
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise InputError("encrypted: it needs a password")
        title = reader.metadata.title if reader.metadata else ""
        return title or "", _bounded((page.extract_text() for page in reader.pages), limits)
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"damaged PDF: {str(error)[:200] or type(error).__name__}") from None


def _bounded(pages: Iterable[str], limits: Limits) -> list[str]:
    texts: list[str] = []
    total = 0
    known = pdf_text.Words()
    for page in pages:
        texts.append(_flowing(readable(known.joined(page)).strip()) + "\n\n")
        total += len(texts[-1])
        if total > limits.characters:
            raise InputError(f"too much text: more than {limits.characters:,} characters")
    return texts


def _flowing(page: str) -> str:
    """Joins lines that were broken for width: those about as long as the longest, or followed by a small letter, that end no
    sentence. A splitter would otherwise take the breaks for boundaries."""
    lines = [line.strip() for line in page.split("\n")]
    wide = 0.7 * max(map(len, lines))
    pieces = lines[:1]
    for line, following in pairwise(lines):
        broken = line and following and not line.endswith(_ENDS) and (len(line) >= wide or following[0].islower())
        pieces += (" " if broken else "\n", following)
    return "".join(pieces)


def _offsets(texts: list[str]) -> Iterator[int]:
    offset = 0
    for text in texts:
        yield offset
        offset += len(text)


def _title(title: str) -> str:
    """The title, unless a program generated it."""
    words = " ".join(readable(title).split())
    made_up = (
        not words or words.lower().startswith(("untitled", "microsoft word", "(anonymous")) or words.lower().endswith(".pdf")
    )
    return "" if made_up else words[:200]

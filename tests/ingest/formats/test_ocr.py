"""Text recognition: what is sent to it, and what becomes of what it finds. The recogniser is measured in benchmarks/ocr.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pypdf
import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Limits, readers
from selfrag.ingest.document import Ocr
from selfrag.ingest.formats import ocr, pdf
from tests.ingest.formats.test_pdf import written

TEXT = b"BT /F 12 Tf 20 300 Td (The first page.) Tj ET"
PICTURE = b"q 100 0 0 100 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"


@pytest.fixture
def recognised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """A recogniser that reads "Words of a scan" on every page; what it was shown."""
    shown: list[tuple[int, ...]] = []

    def page(pixels: np.ndarray) -> str:
        shown.append(pixels.shape)
        return "Words of a scan"

    monkeypatch.setattr(ocr, "page", page)
    yield shown
    ingest.use_ocr("auto")


@pytest.mark.parametrize(
    ("mode", "texts", "lost"),
    [
        ("auto", ["The first page.", "Words of a scan"], 0),
        ("always", ["Words of a scan", "Words of a scan"], 0),
        ("never", ["The first page.", ""], 1),
    ],
)
def test_which_pages_are_recognised(recognised: list[tuple[int, ...]], mode: Ocr, texts: list[str], lost: int) -> None:
    """Those without text, all, or none, which are then named; a page is drawn with three colours at the dots that are wanted."""
    document = pdf.read_pdf(Path("a.pdf"), written(TEXT, PICTURE), Limits(ocr=mode))
    starts = [*document.pages, len(document.text)]
    assert [document.text[a:b].strip() for a, b in pairwise(starts)] == texts
    assert len(document.lost) == lost
    side = -(-400 * ocr.DOTS // 72)
    assert all(shape == (side, side, 3) for shape in recognised)


def test_pieces_at_one_height_are_a_line() -> None:
    """What is found is put in order: down the page, then from left to right; a wide gap ends a paragraph."""

    def box(left: float, top: float) -> np.ndarray:
        return np.array([[left, top], [left + 50, top], [left + 50, top + 10], [left, top + 10]], dtype=np.float32)

    found = [(box(80, 1), "ends"), (box(0, 15), "next"), (box(0, 0), "begins"), (box(0, 90), "far below")]
    assert ocr._lines(found) == "begins ends\nnext\n\nfar below"


def test_without_a_recogniser_pictures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on text recognition where there is none, or where it is switched off."""
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    monkeypatch.setattr(readers.shutil, "which", lambda name: None)
    assert readers.recognises() == ""
    assert "ocr" not in ingest.fingerprint()
    monkeypatch.setattr(readers, "find_spec", lambda name: name)
    assert ingest.fingerprint()["ocr"] == "rapidocr auto"
    ingest.use_ocr("never")
    assert ingest.fingerprint() == {}
    ingest.use_ocr("auto")


def test_an_encrypted_scan_is_still_refused() -> None:
    """A password is asked for before anything is drawn."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(written(PICTURE)))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(InputError, match="password"):
        pdf.read_pdf(Path("a.pdf"), out.getvalue(), Limits())

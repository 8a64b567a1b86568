"""Text recognition: what is sent to it, and what becomes of what it finds. The recogniser is measured in benchmarks/ocr.py."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pypdf
import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Limits, readers
from selfrag.ingest.document import Ocr
from selfrag.ingest.formats import ocr, pdf
from tests.ingest.formats.test_pdf import written

INSTALLED = readers.installed
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


def test_lines_of_a_page_that_is_turned_stay_apart() -> None:
    """Long lines that fall by more than their distance are still lines of their own, from the top."""

    def line(top: float) -> np.ndarray:
        return np.array([[0, top], [1200, top - 66], [1200, top - 35], [0, top + 31]], dtype=np.float32)

    assert ocr._lines([(line(146), "second"), (line(100), "first"), (line(192), "third")]) == "first\nsecond\nthird"


def test_without_a_recogniser_pictures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on text recognition where there is none, or where it is switched off."""
    monkeypatch.setattr(readers, "installed", INSTALLED)
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


def test_a_page_whose_recognition_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One page that cannot be recognised is named with the reason and does not lose the others."""

    def page(pixels: np.ndarray) -> str:
        raise InputError("its letters are none that are known")

    monkeypatch.setattr(ocr, "page", page)
    document = pdf.read_pdf(Path("a.pdf"), written(TEXT, PICTURE), Limits(ocr="auto"))
    assert document.text.strip() == "The first page."
    assert document.lost == ("p.2: its letters are none that are known",)
    with pytest.raises(InputError, match="its letters are none that are known"):
        pdf.read_pdf(Path("a.pdf"), written(PICTURE), Limits(ocr="auto"))


def test_a_scan_with_a_stamp_is_a_scan(recognised: list[tuple[int, ...]]) -> None:
    """A picture over most of the page is recognised although a scanner printed a number beside it; a small one is not."""
    stamp = b" BT /F 12 Tf 20 380 Td (No. 4711) Tj ET"
    for side, text in ((b"380", "Words of a scan"), (b"80", "No. 4711")):
        scan = b"q %b 0 0 %b 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q" % (side, side)
        assert pdf.read_pdf(Path("a.pdf"), written(scan + stamp), Limits(ocr="auto")).text.strip() == text


BOX = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(("languages", "text"), [(["eng", "kor"], "등대지기"), (["eng"], None)])
@pytest.mark.parametrize(
    "found", [[(BOX, "，", 0.9), (BOX, ".", 0.4), (BOX, "Words", 0.9), (BOX, "ab", 0.2)], [(BOX, "12", 0.9)]]
)
def test_letters_that_are_not_known(
    monkeypatch: pytest.MonkeyPatch, languages: list[str], text: str | None, found: list[tuple[np.ndarray, str, float]]
) -> None:
    """A page most of whose lines come back without letters, or not at all, such as a Korean one, is left to tesseract if that
    knows more languages than English, and refused with a hint otherwise: nothing false is indexed."""
    monkeypatch.setattr(ocr, "find_spec", lambda name: name)
    monkeypatch.setattr(ocr.shutil, "which", lambda name: name)
    monkeypatch.setattr(ocr, "_languages", lambda: languages)
    monkeypatch.setattr(ocr, "_recognised", lambda _: found)
    monkeypatch.setattr(ocr, "_lines_on", lambda _: 4)
    monkeypatch.setattr(
        ocr, "_tesseract", lambda picture, given: "등대지기" if picture[:11] == b"P6 2 3 255\n" and given == ["kor"] else ""
    )
    pixels = np.zeros((3, 2, 3), np.uint8)
    if text:
        assert ocr.page(pixels) == text
        return
    with pytest.raises(InputError, match="install tesseract"):
        ocr.page(pixels)


def test_pictures_are_opened_as_they_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fax of two pages is two pages; what is transparent is white; what the camera turned is turned back."""
    image = pytest.importorskip("PIL.Image")
    shown: list[np.ndarray] = []
    monkeypatch.setattr(ocr, "find_spec", lambda name: name)
    monkeypatch.setattr(ocr, "page", lambda pixels: shown.append(pixels) or f"Page with {pixels.shape[1]} columns")

    first, second = image.new("L", (20, 10), 0), image.new("L", (30, 10), 0)
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=[second])
    document = ocr.read_picture(Path("fax.tif"), out.getvalue(), Limits())
    assert document.text.split("\n\n") == ["Page with 20 columns", "Page with 30 columns\n"]
    assert [place.to(place) for place in document.places] == ["p.1", "p.2"]

    out = io.BytesIO()
    exif = image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.new("RGBA", (20, 10), (0, 0, 0, 0)).save(out, "PNG", exif=exif)
    ocr.read_picture(Path("photo.png"), out.getvalue(), Limits())
    assert shown[-1].shape == (20, 10, 3)
    assert shown[-1].min() == 255

    with pytest.raises(InputError, match="not a picture"):
        ocr.read_picture(Path("a.png"), b"\x89PNG\r\n\x1a\nbroken", Limits())


def test_counting_lines_does_not_switch_recognition_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """rapidocr keeps what it was last called with: a page after one with hardly any text is recognised all the same."""

    class Engine:
        recognises = True

        def __call__(self, picture: np.ndarray, **flags: bool) -> SimpleNamespace:
            self.recognises = flags.get("use_rec", self.recognises)
            boxes = np.zeros((1, 4, 2), dtype=np.float32)
            return (
                SimpleNamespace(boxes=boxes, txts=("word",), scores=(1.0,)) if self.recognises else SimpleNamespace(boxes=boxes)
            )

    engine = Engine()
    monkeypatch.setattr(ocr, "find_spec", lambda name: name)
    monkeypatch.setattr(ocr, "_engine", lambda: engine)
    blank = np.zeros((20, 20, 3), dtype=np.uint8)
    assert [ocr.page(blank), ocr.page(blank)] == ["word", "word"]


@pytest.mark.parametrize(
    ("upright", "turned", "words", "asked"), [(0.9, 0.3, "upright", 1), (0.4, 0.9, "turned", 2), (0.7, 0.2, "upright", 2)]
)
def test_a_page_is_turned_only_where_it_does_not_read_well(
    monkeypatch: pytest.MonkeyPatch, upright: float, turned: float, words: str, asked: int
) -> None:
    """A page that reads well is not read upside down; of two readings the surer one counts, in its own order."""
    calls: list[bool] = []

    def engine(picture: np.ndarray, **flags: bool) -> SimpleNamespace:
        over = bool(picture[-1, -1, 0])
        calls.append(over)
        boxes = np.zeros((1, 4, 2), dtype=np.float32)
        return SimpleNamespace(boxes=boxes, txts=("turned" if over else "upright",), scores=(turned if over else upright,))

    monkeypatch.setattr(ocr, "_engine", lambda: engine)
    page = np.zeros((9, 9, 3), dtype=np.uint8)
    page[0, 0] = 1
    assert [text for _, text, _ in ocr._recognised(page)] == [words]
    assert len(calls) == asked

"""PDF pages as a person reads them. The pages are written here, operator by operator."""

from __future__ import annotations

import io
from pathlib import Path

import pypdf
import pytest
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Document

CASES = Path(__file__).parents[1] / "cases"
HELVETICA = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica", "/Encoding": "/WinAnsiEncoding"}


def dictionary(entries: dict[str, object]) -> DictionaryObject:
    def value(each: object) -> object:
        if isinstance(each, dict):
            return dictionary(each)
        if isinstance(each, list):
            return ArrayObject(value(item) for item in each)
        if isinstance(each, str):
            return NameObject(each) if each.startswith("/") else TextStringObject(each)
        return NumberObject(each) if isinstance(each, int) else FloatObject(each) if isinstance(each, float) else each

    return DictionaryObject({NameObject(key): value(each) for key, each in entries.items()})


def written(
    *pages: bytes, font: dict[str, object] = HELVETICA, notes: tuple[dict[str, object], ...] = (), attached: bool = False
) -> bytes:  # type: ignore[assignment]
    """A PDF whose pages have these contents and the font /F, with annotations on the first."""
    writer = pypdf.PdfWriter()
    for contents in pages:
        page = writer.add_blank_page(400, 400)
        stream = DecodedStreamObject()
        stream.set_data(contents)
        page[NameObject("/Contents")] = writer._add_object(stream)
        page[NameObject("/Resources")] = dictionary({"/Font": {"/F": font}})
    writer.pages[0][NameObject("/Annots")] = ArrayObject(writer._add_object(dictionary(each)) for each in notes)
    writer._root_object[NameObject("/AcroForm")] = dictionary({"/Fields": writer.pages[0]["/Annots"]})
    writer.add_attachment("fees.csv", b"name,fee") if attached else None
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def read(*pages: bytes, **more: object) -> Document:
    return ingest.parse(Path("a.pdf"), written(*pages, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        (b"BT /F 12 Tf 20 300 Td (about 10) Tj /F 8 Tf 5 Ts (6) Tj /F 12 Tf 0 Ts ( cells) Tj ET", "about 10^6 cells"),
        (b"BT /F 12 Tf 20 300 Td (10) Tj /F 7 Tf 14 4 Td (-12) Tj /F 12 Tf 14 -4 Td (m) Tj ET", "10^-12 m"),
        (b"BT /F 12 Tf 20 300 Td (An area of 7 km) Tj /F 7 Tf 5 Ts (2) Tj ET", "An area of 7 km^2"),
        (b"BT /F 12 Tf 20 300 Td (The ferry.) Tj /F 7 Tf 5 Ts (3) Tj ET", "The ferry.[3]"),
        (b"BT /F 12 Tf 20 300 Td (H) Tj /F 8 Tf -3 Ts (2) Tj /F 12 Tf 0 Ts (O) Tj ET", "H2O"),
        (b"BT /F 12 Tf 20 300 Td (room 106) Tj ET", "room 106"),
    ],
)
def test_raised_digits(contents: bytes, text: str) -> None:
    """Digits above the line are raised ones, whichever operator raised them; lowered and ordinary ones stay."""
    assert " ".join(read(contents).text.split()) in (text, text.replace(" m", "m"))


def test_words_broken_at_a_lines_end() -> None:
    """A hyphen stays where the word has one, by the document's own words, by its parts or by what stands beside it."""
    text = ingest.read(CASES / "09-pdf-hyphen/hyphens.pdf").text
    for whole in ("between seven", "2019-2024", "well-known author", "Prüfung", "030-5550199", "XR-200", "is -40 euros"):
        assert whole in text
    lines = (b"The over-", b"sight committee saw the e-", b"mail. An over-sight is an over-", b"sight to the board of the club.")
    contents = b"BT /F 12 Tf 14 TL 20 300 Td " + b" ".join(b"(%b) Tj T*" % line for line in lines) + b" ET"
    assert "over-sight committee" in read(contents).text


def test_form_fields_stand_beside_their_labels() -> None:
    """Typed and chosen values and ticked boxes follow the label on their line, on their page."""
    document = ingest.read(CASES / "07-pdf-form/form.pdf")
    lines = [line for line in document.text.split("\n") if line]
    assert lines == ["Name of the applicant: Theodora Vance", "Vegetarian: ☒", "Country: Latvia"]
    assert [chunk.page for chunk in ingest.split(document)] == [1]


def field(kind: str, left: int, low: int, **more: object) -> dict[str, object]:
    box = {
        "/Type": "/Annot",
        "/Subtype": "/Widget",
        "/FT": kind,
        "/T": f"f{left}{low}",
        "/Rect": [left, low, left + 12, low + 12],
    }
    return {**box, **{f"/{name}": value for name, value in more.items()}}


def box(left: int, low: int, state: str) -> dict[str, object]:
    return field("/Btn", left, low, AS=state, V=state, AP={"/N": {"/Yes": {}, "/Off": {}}})


def test_fields_stand_where_they_are_in_a_line() -> None:
    """A box stands before or behind its label, ticked or not, and two values in one line after their own; a choice is read by its
    label, a password is not."""
    lines = (b"I have a cat", b"I have a car", b"From              to", b"Country", b"Password")
    contents = b"BT /F 12 Tf 20 TL 40 300 Td " + b" ".join(b"(%b) Tj T*" % line for line in lines) + b" ET"
    options = [["de", "Germany"], ["fr", "France"]]
    notes = (
        box(20, 298, "/Yes"),
        box(20, 278, "/Off"),
        field("/Tx", 75, 258, V="May"),
        field("/Tx", 140, 258, V="June"),
        field("/Ch", 100, 238, V="fr", Ff=1 << 17, Opt=options),
        field("/Tx", 100, 218, V="secret", Ff=1 << 13),
    )
    found = [" ".join(line.split()) for line in read(contents, notes=notes).text.split("\n") if line]
    assert found == ["☒ I have a cat", "☐ I have a car", "From May to June", "Country France", "Password"]


def test_attached_files_are_named() -> None:
    """A file in a PDF is not lost in silence."""
    assert "fees.csv" in read(b"BT /F 12 Tf 20 300 Td (See the table.) Tj ET", attached=True).lost[0]


def test_free_text_and_notes() -> None:
    """What was typed onto a page is part of it, a note is marked as one, what is hidden is left out."""
    box = [20, 20, 100, 40]
    notes = (
        {"/Type": "/Annot", "/Subtype": "/FreeText", "/Rect": box, "/Contents": "Paid on 4 May", "/DA": "/F 9 Tf"},
        {"/Type": "/Annot", "/Subtype": "/Text", "/Rect": box, "/Contents": "Ask Ida"},
        {"/Type": "/Annot", "/Subtype": "/Text", "/Rect": box, "/Contents": "secret", "/F": 2},
    )
    text = read(b"BT /F 12 Tf 20 300 Td (Invoice 7) Tj ET", notes=notes).text
    assert [line for line in text.split("\n") if line] == ["Invoice 7", "Paid on 4 May", "[Note] Ask Ida"]
    assert "secret" not in text


UNMAPPED = {
    "/Type": "/Font",
    "/Subtype": "/Type0",
    "/BaseFont": "/AAAAAA+Nothing",
    "/Encoding": "/Identity-H",
    "/DescendantFonts": [
        {
            "/Type": "/Font",
            "/Subtype": "/CIDFontType2",
            "/BaseFont": "/AAAAAA+Nothing",
            "/CIDSystemInfo": {"/Registry": "Adobe", "/Ordering": "Identity", "/Supplement": 0},
            "/FontDescriptor": {"/Type": "/FontDescriptor", "/FontName": "/AAAAAA+Nothing", "/Flags": 4},
        }
    ],
}


def test_a_font_that_does_not_say_its_letters_is_noticed() -> None:
    """Text that would be wrong is refused with the reason, or named where other pages are right."""
    glyphs = "".join(f"{ord(letter) - 29:04x}" for letter in "The dam is closed until the end of June")
    page = f"BT /F 12 Tf 20 300 Td <{glyphs}> Tj ET".encode()
    with pytest.raises(InputError, match="do not say which letters"):
        read(page, font=UNMAPPED)


def test_pages_that_are_pictures_are_named() -> None:
    """A scan among pages of text is told by its page, not lost in silence."""
    picture = b"q 100 0 0 100 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
    document = read(b"BT /F 12 Tf 20 300 Td (The first page.) Tj ET", picture)
    assert [each.split(":")[0] for each in document.lost] == ["p.2"]

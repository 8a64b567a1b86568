"""Office documents, mail and notebooks on which readers fall short (tests/ingest/cases), and what a person reads in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag import ingest
from selfrag.errors import InputError

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize(
    ("name", "place", "texts", "absent"),
    [
        (
            "01-docx-table/tables.docx",
            "¶1–7",
            ["Gannets | 4 | 4 | 2 | 16\nHerons |  | 7 | 7 | 7\nPlovers | 5 |  | 5 | 15", "Inner key | Inner value Tapir"],
            [],
        ),
        (
            "02-docx-tracked/tracked.docx",
            "¶2–3",
            ["The notice period is seven weeks.", "The tenant may keep one dachshund."],
            ["three"],
        ),
        (
            "03-docx-controls/controls.docx",
            "¶2–3",
            ["Applicant: Maren Okafor, beekeeper.", "Requested amount: 15,300 euros"],
            [],
        ),
        ("05-docx-header-footer/header.docx", "header", ["Contract no. HX-4471, Zephyr Ltd", "Valid until 31 March 2031"], []),
        ("06-docx-footnote-math-fields/footnotes.docx", "¶1", ["[1] Except Sark, where the ferry was cancelled."], []),
        (
            "06-docx-footnote-math-fields/inline.docx",
            "¶1–4",
            [
                "See the Okapi report from Antwerp of 4 June 2019",
                "The energy is E=mc2",
                "1. Turn off the valve.\n2. Drain the boiler.",
            ],
            [],
        ),
        (
            "25-eml/mail.eml",
            "¶1–4",
            [
                "From: Ana <ana@example.org>",
                "Wärmewerk costs 1,240 € a year, and the notice period is six weeks before the end",
            ],
            ["=C3", "uzrCykkCF", "<b>"],
        ),
        ("25-eml/box.mbox", "message 1", ["Réunion: heating contract", "six weeks before the end of the year"], ["uzrCykkCF"]),
        ("25-eml/bike.eml", "¶1–2", ["Königstraße repairs the brakes for 35 euros and needs three working days"], ["=C3"]),
        ("25-eml/page.mhtml", "¶1", ["The quarry in Ardèche yields limestone since 1904."], ["=C3"]),
        (
            "26-ipynb/study.ipynb",
            "cell 1–2",
            ["The wettest station was *Bergen* with 2,250 mm a year.", "mean rainfall: 812 mm"],
            ["ea1e7cEbhUjH", "image/png"],
        ),
        (
            "27-rtf-vcf-tex-xml/letter.rtf",
            "¶1–2",
            ["The Müller lease ends on 30 September and the deposit is 900 €.", "Payment is due on the fifteenth day"],
            ["Helvetica", "Riched20"],
        ),
        ("27-rtf-vcf-tex-xml/person.vcf", None, ["Name: Jürgen Voß", "Telephone: +49 30 555 0199"], ["=C3"]),
        (
            "27-rtf-vcf-tex-xml/event.ics",
            None,
            ["the new clinic at the harbour street", "Start: 2025-06-11 14:30 UTC"],
            ["BEGIN"],
        ),
        (
            "27-rtf-vcf-tex-xml/paper.tex",
            None,
            ["The population of lemmings fell by 40 % [x] in Göttingen."],
            ["documentclass"],
        ),
        ("27-rtf-vcf-tex-xml/feed.xml", None, ["Grüße aus Spiekeroog", "Die Fähre kostet 28 €"], ["<p>"]),
        ("27-rtf-vcf-tex-xml/pic.svg", None, ["Flow of the Elbe: 870 m3/s"], ["path"]),
        ("28-office-formats/macro.docm", "¶2", ["The Puffin club meets on Tuesdays."], []),
        ("28-office-formats/minutes.odt", "¶2", ["The Walrus committee elected Dana Petrov as treasurer."], []),
        ("28-office-formats/novel.epub", "chapter 1 ¶1", ["Captain Lemur sailed from Tromso in 1887."], []),
        ("28-office-formats/sheet.ods", "Sheet1!A1", ["Ibis"], []),
        (
            "28-office-formats/slides.pptx",
            "slide 1",
            ["The Kestrel launch is planned for 14 May at Baltimore.", "the budget for Kestrel is 48,000 euros"],
            [],
        ),
        ("28-office-formats/tariffs.xlsx", "Tariffs!A2:C3", ["Zone: Ocelot\nParcel price: 17.9\nDays: 5"], []),
    ],
)
def test_what_a_person_reads(name: str, place: str | None, texts: list[str], absent: list[str]) -> None:
    """What stands in the document is in its text, in the words and the order in which it is shown, cited by its natural place."""
    document = ingest.read(CASES / name)
    assert [text for text in texts if text not in document.text] == []
    assert [text for text in absent if text in document.text] == []
    chunks = ingest.split(document)
    assert chunks[0].place == place
    assert all(chunk.text == document.text[chunk.start : chunk.end] for chunk in chunks)
    assert (chunks[0].lines is None) == (place is not None)


def test_what_is_not_read_says_what_it_is() -> None:
    """An old binary document is named with what to do, instead of "binary, not text"."""
    with pytest.raises(InputError, match=r"an old Word document; save it as \.docx"):
        ingest.read(CASES / "28-office-formats/old.doc")
    with pytest.raises(InputError, match="a picture"):
        ingest.parse(Path("scan"), b"\x89PNG\r\n\x1a\n\x00\x00")

"""Inputs on which readers fall short (tests/ingest/cases), and what a person reads in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag import ingest

CASES = Path(__file__).parent / "cases"


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("10-md-rule-first/rule-first.md", ["The keeper of the lighthouse is Ottilie Brandt since 2011."]),
        ("11-md-front-matter/meta.md", ["Salome Winter", "The dam will be closed in 2027.", "We talked for an hour."]),
        ("11-md-front-matter/only-front.md", ["555-0142 (Harriet the plumber)"]),
        ("11-md-front-matter/toml.md", ["N. Ruiz", "Peat grows 1 mm a year."]),
        ("11-md-front-matter/essay.mdx", ["R. Vale", "Otters eat 1 kg of fish a day."]),
        ("12-encoding-cp1252/en-smart.txt", ["The captain’s log says “no fog” – the price was £40 per day."]),
        (
            "12-encoding-cp1252/fr-1252.txt",
            ["La bibliothèque de Besançon a été ouverte en août 1999", "s’appelle Rémi."],
        ),
        ("13-encoding-utf8-broken/mixed.log", ["2024-01-01 start für alle", "2024-01-02 Größe überschritten"]),
        ("13-encoding-utf8-broken/nul-in-log.log", ["2024-01-01 boot ok\n", "\n2024-01-02 pump failed at station Delft"]),
        ("13-encoding-utf8-broken/utf8-trunc.txt", ["Kurze Datei über Äpfel"]),
        (
            "15-html-latin1-is-1252/latin1-declared-cp1252.html",
            ["The captain’s rum costs 40 € – “the best” in town… It’s sold in Brno."],
        ),
        (
            "16-html-header-aside-footer/article-header.html",
            ["By Ines Tallow, 9 February 2024", "134 km/h", "until 30 June", "Correction: the wind speed was 143 km/h."],
        ),
        ("18-html-one-article/one-article.html", ["The first ferry leaves at 6:40 from pier 3.", "our wonderful island"]),
        ("19-html-faq-buttons-math/label.html", ["How long does delivery take?", "Can I return shoes?", "Yes, within 20 days."]),
        (
            "19-html-faq-buttons-math/math.html",
            ["The growth rate is r = 0.37 per day.", "Chart: Peak 88 percent", "This text needs no script: dosage 5 mg."],
        ),
        (
            "19-html-faq-buttons-math/dialog.html",
            ["Text Buy now after.", "Prefilled note about larks", "Shipping", "Dialog text on swifts"],
        ),
        (
            "20-html-sup-pre-table/pre.html",
            [
                "server:\n  port: 8443\n  tls: true\ndatabase:\n  host: db7",
                "E = mc^2 and H2O, 10^6 cells",
                "3. Third step",
                "Map of the reserve with three gates",
            ],
        ),
        (
            "20-html-sup-pre-table/table-p.html",
            ["Room | Winter | Summer\nSingle | 70 | 95\nDouble |  | 140", "May |  | 210\nJune | 44 | 230"],
        ),
        ("20-html-sup-pre-table/word-export.htm", ["The minutes of 4 April.", "1. Item about the roof"]),
        (
            "21-csv-sniffer/apostrophe.csv",
            ["title: 'Tis late\nnote: red, green", "title: Rock 'n' roll\nnote: it's 'big', very", "title: 'Twas\nnote: a, b"],
        ),
        (
            "21-csv-sniffer/listcells.csv",
            ["id: 1\nhas: False\ncost: 62.25\ngroup: ['345']\nsub: ['10']", "group: ['112', '112']\nsub: ['765', '766']"],
        ),
        ("23-jsonl-bad-line/one-bad.jsonl", ["The beacon of Borkum", "The beacon of Juist"]),
        ("23-jsonl-bad-line/truncated-last.jsonl", ["Event 0 at the port of Emden", "Event 49 at the port of Emden"]),
        ("23-jsonl-bad-line/concat.json", ["a: The Texel ferry", "a: The Vlieland ferry"]),
        ("23-jsonl-bad-line/comments.json", ["// port of the service", '"name": "Wader service"']),
        ("24-json-table-split/table.json", ["city: Aurich\nrain: 800", "city: Wittmund\nrain: 790"]),
        (
            "24-json-table-split/person.json",
            ["people.name: Imke Harms\npeople.address.city: Leer\npeople.phone: 0491-555"],
        ),
        ("35-escape-sequences/ansi.log", ["2024-01-01 OK valve 7 opened\nERROR valve 9 stuck"]),
    ],
)
def test_what_a_person_reads_is_found(name: str, texts: list[str]) -> None:
    """Each text stands in a chunk, whole."""
    chunks = ingest.split(ingest.read(CASES / name))
    for text in texts:
        assert any(text in chunk.text for chunk in chunks), f"{text!r} is not in {[chunk.text for chunk in chunks]}"


def test_lines_of_the_cases() -> None:
    """A text is cited by its line in the file: behind a rule, behind front matter, in a table, in a record."""
    lines = {
        name: ingest.split(ingest.read(CASES / name), capacity=40)[at].lines[0]
        for name, at in (
            ("10-md-rule-first/rule-first.md", 0),
            ("21-csv-sniffer/apostrophe.csv", 1),
            ("23-jsonl-bad-line/one-bad.jsonl", 1),
        )
    }
    assert list(lines.values()) == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "notes", "lost"),
    [
        ("12-encoding-cp1252/fr-1252.txt", ("not UTF-8, read as cp1252",), ()),
        ("13-encoding-utf8-broken/mixed.log", ("lines 6, 7, 8, 9, 10 are not UTF-8, read as cp1252",), ()),
        ("13-encoding-utf8-broken/nul-in-log.log", ("64 NUL bytes left out",), ()),
        ("13-encoding-utf8-broken/utf8-trunc.txt", ("ends in the middle of a character",), ()),
        ("23-jsonl-bad-line/one-bad.jsonl", (), ("line 2 is left out: not JSON: expecting value",)),
        ("23-jsonl-bad-line/truncated-last.jsonl", (), ("line 51 is left out: not JSON: unterminated string starting at",)),
        (
            "23-jsonl-bad-line/comments.json",
            ("not JSON: expecting property name enclosed in double quotes (line 2); read as text",),
            (),
        ),
    ],
)
def test_what_is_guessed_or_lost_is_reported(name: str, notes: tuple[str, ...], lost: tuple[str, ...]) -> None:
    """Nothing is guessed or left out in silence."""
    document = ingest.read(CASES / name)
    assert (document.notes, document.lost) == (notes, lost)


def test_front_matter_can_be_filtered_by() -> None:
    """YAML and TOML become metadata, nested keys with dots."""
    metadata = [ingest.read(CASES / "11-md-front-matter" / name).metadata for name in ("meta.md", "toml.md", "essay.mdx")]
    assert metadata[0]["participants"] == ("Kemal Aydin", "Rosa Lind")
    assert metadata[0]["location.city"] == ("Graz",)
    assert metadata[1]["tags"] == ("moor",)
    assert metadata[2]["author"] == ("R. Vale",)

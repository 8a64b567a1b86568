"""A part of a table or of a record carries its header: in the chunk, in what a model reads, and in the quote."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import PurePath

import pytest

from selfrag.algorithm import grammar
from selfrag.answers.schema import passage_json, quote_json
from selfrag.answers.trace import passage_from
from selfrag.index.embedders.hashing import HashingEmbedder
from selfrag.index.search.hybrid import Question
from selfrag.index.temporary import TemporaryCollection
from selfrag.ingest import parse, split
from selfrag.types import Critique, Passage, Segment, Text

NAMES = ["Station", "Opened", "Line"]
ROWS = [[f"Halt {number}", str(1850 + number % 150), "Red"] for number in range(1, 301)]
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
OFFICE = "urn:oasis:names:tc:opendocument:xmlns"


def packed(**parts: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name.replace("__", "/").replace("_x", ".x"), text)
    return out.getvalue()


def tagged(row: str, cell: str) -> str:
    """Every row as ``row`` around its cells, each as ``cell``."""
    return "".join(row.format("".join(cell.format(each) for each in cells)) for cells in [NAMES, *ROWS])


def tables() -> dict[str, bytes]:
    """The same table in each format."""
    docx = tagged("<w:tr>{}</w:tr>", "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>")
    odt = tagged("<t:table-row>{}</t:table-row>", "<t:table-cell><x:p>{}</x:p></t:table-cell>")
    pptx = tagged("<a:tr>{}</a:tr>", "<a:tc><a:txBody><a:p><a:r><a:t>{}</a:t></a:r></a:p></a:txBody></a:tc>")
    slide = f'<p:sld xmlns:p="urn:p" xmlns:a="{DRAWING}"><p:graphicFrame><a:tbl>{pptx}</a:tbl></p:graphicFrame></p:sld>'
    order = (
        '<p:presentation xmlns:p="urn:p" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<p:sldIdLst><p:sldId r:id="r1"/></p:sldIdLst></p:presentation>'
    )
    relations = '<Relationships><Relationship Id="r1" Type="x/slide" Target="slides/slide1.xml"/></Relationships>'
    bars = [f"| {' | '.join(row)} |" for row in ROWS]
    names = " | ".join(NAMES)
    aligned = [f"{row[0]:8} {row[1]:6} {row[2]}" for row in [NAMES, *ROWS]]
    rule = "======== ====== ===="
    rtf = tagged("\\trowd {}\\row ", "\\pard\\intbl {}\\par\\cell ")
    return {
        "a.org": "\n".join([f"| {names} |", "|---+---+---|", *bars]).encode(),
        "a.adoc": "\n".join(["|===", f"| {names}", "", *(bar.removesuffix(" |") for bar in bars), "|==="]).encode(),
        "a.rst": "\n".join([rule, aligned[0], rule, *aligned[1:], rule]).encode(),
        "grid.rst": "\n".join(["+---+---+---+", f"| {names} |", "+===+===+===+", *bars, "+---+---+---+"]).encode(),
        "a.tex": "\n".join(
            [
                "\\begin{tabular}{@{}lrp{3cm}@{}}",
                "\\toprule",
                *(f"{' & '.join(row)} \\\\" for row in [NAMES, *ROWS]),
                "\\end{tabular}",
            ]
        ).encode(),
        "a.rtf": ("{\\rtf1 " + rtf + "}").encode(),
        "a.ipynb": json.dumps(
            {"cells": [{"cell_type": "markdown", "source": "\n".join([f"| {names} |", "|---|---|---|", *bars])}]}
        ).encode(),
        "a.md": ("|{}|\n|---|---|---|\n".format("|".join(NAMES)) + "".join(f"|{'|'.join(row)}|\n" for row in ROWS)).encode(),
        "a.html": f"<table>{tagged('<tr>{}</tr>', '<td>{}</td>')}</table>".encode(),
        "a.docx": packed(word__document_xml=f'<w:document xmlns:w="{WORD}"><w:body><w:tbl>{docx}</w:tbl></w:body></w:document>'),
        "a.odt": packed(
            content_xml=f'<o:c xmlns:o="{OFFICE}:office:1.0" xmlns:t="{OFFICE}:table:1.0" xmlns:x="{OFFICE}:text:1.0"><o:body>'
            f"<o:text><t:table>{odt}</t:table></o:text></o:body></o:c>"
        ),
        "a.pptx": packed(
            ppt__presentation_xml=order, **{"ppt/_rels/presentation.xml.rels": relations}, ppt__slides__slide1_xml=slide
        ),
    }


@pytest.mark.parametrize("name", tables())
def test_rows_from_the_middle_of_a_table_have_its_header(name: str) -> None:
    """Every chunk of a long table but the first says what its columns are; its words stay the document's."""
    document = parse(PurePath(name), tables()[name])
    first, *rest = split(document)
    assert len(rest) > 3
    for chunk in rest:
        assert document.text[chunk.start : chunk.end] == chunk.text
        (header,) = chunk.headers
        assert (header.start, header.text) == (0, "Station | Opened | Line")
        assert "Halt 300" in chunk.text or header.end == len(chunk.text)
    for below in first.headers:
        assert "Halt 1" in first.text[below.start :]
        assert "Station" not in first.text[below.start :]
    assert "Station" in first.text


def test_what_follows_a_table_has_no_header() -> None:
    """A header ends with its table."""
    text = "| A | B |\n|---|---|\n" + "".join(f"| {n} | one |\n" for n in range(9)) + "\nAfter it.\n"
    last = split(parse(PurePath("a.md"), text.encode()), 60)[-1]
    (header,) = last.headers
    assert last.text[header.end :].strip() == "After it."


def test_a_table_goes_on_after_one_inside_of_it() -> None:
    """Rows below a nested table have the header of their own table."""

    def row(text: str, more: str = "") -> str:
        return f"<w:tr><w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p>{more}</w:tc><w:tc><w:p/></w:tc></w:tr>"

    inner = f"<w:tbl>{row('Inner')}{row('deep')}</w:tbl><w:p/>"
    body = f"<w:tbl>{row('Outer')}{row('one', inner)}{row('two')}{row('three')}</w:tbl>"
    document = parse(
        PurePath("a.docx"), packed(word__document_xml=f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>')
    )
    (chunk,) = split(document)
    passage = Passage("c", "", chunk.text, "a.docx", headers=chunk.headers)
    over = {word: passage.header(chunk.text.index(word)).rstrip(" |") for word in ("one", "deep", "two", "three")}
    assert over == {"one": "Outer", "deep": "Inner", "two": "Outer", "three": "Outer"}


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_parts_of_a_long_record_have_its_first_line(name: str) -> None:
    """What is quoted from the middle of a record that fills several chunks says which record it is."""
    cells = {"Station": "Halt 7", **{f"Note {n}": f"Word {n} of this." + " More of it." * 20 for n in range(9)}, "Opened": "1857"}
    table = f"{','.join(cells)}\n{','.join(cells.values())}\n"
    data = {"a.csv": table, "a.json": json.dumps([cells])}[name].encode()
    chunk = split(parse(PurePath(name), data))[-1]
    quote = quote_json(Segment("1857", Passage("c", "", chunk.text, "a", headers=chunk.headers), Critique()), "When?")
    assert quote is not None
    assert quote["text"].endswith("Opened: 1857")
    assert quote.get("header") == "Station: Halt 7"


def test_a_header_reaches_model_and_quote_through_a_search() -> None:
    """The model reads the header above the rows; the quote has it beside words that stand exactly where it says."""
    document = parse(PurePath("a.md"), tables()["a.md"])
    collection = TemporaryCollection({"a.md": document}, HashingEmbedder(64))
    passage = next(
        hit.passage for hit in collection._find(Question("Halt 250", 3)) if "Halt 250 " in hit.passage.text.replace("|", " ")
    )
    read = next(part.text for part in grammar.lead_in(passage, False) if isinstance(part, Text))
    assert read.startswith("a\nStation | Opened | Line\n|Halt ")
    assert passage_from(passage_json(passage)).headers == passage.headers
    quote = quote_json(Segment("Halt 250|1950", passage, Critique()), "When was Halt 250 opened?")
    assert quote is not None
    assert quote.get("header") == "Station | Opened | Line"
    assert passage.text[quote["start"] : quote["end"]] == quote["text"] == "|Halt 250|1950|Red|"
    collection.close()


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("Fee: 40", "S!A3:B3"),
        ("Name: Bo", "S!A3:B3"),
        ("Fee: 30\n\nName: Bo\nFee: 40", "S!A2:B3"),
        ("Bo\nFee: 40\n\nName: Cy", "S!A3:B4"),
    ],
)
def test_a_quote_cites_the_cells_of_its_row(words: str, place: str) -> None:
    """A quote from a row of a sheet names that row's cells, one from several those from the first to the last."""
    rows = [("Name", "Fee"), ("Ann", "30"), ("Bo", "40"), ("Cy", "50")]
    cells = "".join(
        "<table:table-row>"
        + "".join(f"<table:table-cell><text:p>{cell}</text:p></table:table-cell>" for cell in row)
        + "</table:table-row>"
        for row in rows
    )
    names = 'xmlns:office="o" xmlns:table="t" xmlns:text="x"'
    content = f'<o {names}><office:spreadsheet><table:table table:name="S">{cells}</table:table></office:spreadsheet></o>'
    (chunk,) = split(parse(PurePath("a.ods"), packed(content_xml=content)))
    passage = Passage("c", "", chunk.text, "a.ods", place=chunk.place, headers=chunk.headers)
    start = passage.text.index(words)
    assert passage.where(start, start + len(words)) == place
    assert passage_from(passage_json(passage)) == passage

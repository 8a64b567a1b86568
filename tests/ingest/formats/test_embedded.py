"""Documents inside of documents."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path, PurePath

import pytest

from selfrag import ingest

CASES = Path(__file__).parents[1] / "cases" / "28-office-formats"
OBJECT = b'<x:%b xmlns:x="x" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" r:id="rId901"/>'
RELATION = b'<Relationship Id="rId901" Type="http://x/package" Target="../embeddings/book.xlsx"/></Relationships>'


@pytest.mark.parametrize(
    ("name", "part", "end", "inner"),
    [
        (
            "slides.pptx",
            "ppt/slides/slide1.xml",
            b"</p:spTree>",
            b"<p:graphicFrame>%b%b</p:graphicFrame>" % ((OBJECT % b"oleObj",) * 2),
        ),
        ("macro.docm", "word/document.xml", b"</w:body>", b"<w:p><w:r>%b</w:r></w:p>" % (OBJECT % b"OLEObject")),
    ],
)
def test_an_embedded_sheet_is_read_where_it_stands(name: str, part: str, end: bytes, inner: bytes) -> None:
    """A table on a slide or in a letter that is a whole workbook inside is read, once, though it may be stored in two forms."""
    folder, _, file = part.rpartition("/")
    relations = f"{folder}/_rels/{file}.rels"
    out = io.BytesIO()
    with zipfile.ZipFile(CASES / name) as source, zipfile.ZipFile(out, "w") as target:
        for each in source.namelist():
            data = source.read(each)
            if each == part:
                assert end in data
                data = data.replace(end, inner + end)
            if each != relations:
                target.writestr(each, data)
        known = source.read(relations) if relations in source.namelist() else b"<Relationships></Relationships>"
        known = known if b"</Relationships>" in known else b'<Relationships xmlns="x"></Relationships>'
        target.writestr(relations, known.replace(b"</Relationships>", RELATION))
        target.writestr(f"{folder.rpartition('/')[0]}/embeddings/book.xlsx".lstrip("/"), (CASES / "tariffs.xlsx").read_bytes())
    assert ingest.parse(PurePath(name), out.getvalue()).text.count("17.9") == 1

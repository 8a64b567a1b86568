"""Word documents as a person reads them. The documents are written here, part by part, as Word stores them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Document

CASES = Path(__file__).parents[1] / "cases"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main"
M = "http://schemas.openxmlformats.org/officeDocument/2006/math"
TYPE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def word(body: str, namespace: str = W, **parts: str) -> Document:
    """The document with this body, and further parts (``styles``, ``footnotes``, …) by the kind of their relationship."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "_rels/.rels",
            f'<Relationships><Relationship Id="r" Type="{TYPE}/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        relations = "".join(
            f'<Relationship Id="{kind}" Type="{TYPE}/{kind.rstrip("12")}" Target="{kind}.xml"/>' for kind in parts
        )
        archive.writestr("word/_rels/document.xml.rels", f"<Relationships>{relations}</Relationships>")
        names = f'xmlns:w="{namespace}" xmlns:m="{M}" xmlns:mc="http://mc" xmlns:r="{TYPE}"'
        archive.writestr("word/document.xml", f"<w:document {names}><w:body>{body}</w:body></w:document>")
        for kind, inner in parts.items():
            archive.writestr(f"word/{kind}.xml", f"<w:{kind} {names}>{inner}</w:{kind}>")
    return ingest.parse(Path("a.docx"), out.getvalue())


def p(inner: str, properties: str = "") -> str:
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{inner}</w:p>"


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def tc(inner: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def test_strict_documents_are_read_like_others() -> None:
    """The namespaces of ISO strict documents change nothing."""
    assert word(p(r("The dam is closed.")), namespace=STRICT).text.strip() == "The dam is closed."


def test_tracked_changes_are_accepted() -> None:
    """Inserted and moved text stands once, deleted text and deleted rows do not."""
    row = f"<w:tr><w:trPr><w:del/></w:trPr>{tc(p(r('gone row')))}{tc(p(r('x')))}</w:tr>"
    kept = f"<w:tr>{tc(p(r('left')))}{tc(p('<w:ins>' + r('kept') + '</w:ins>'))}</w:tr>"
    text = word(
        p(f"<w:moveFrom>{r('moved')}</w:moveFrom>{r('A')}<w:del><w:r><w:delText>old</w:delText></w:r></w:del>")
        + p(f"<w:moveTo>{r('moved')}</w:moveTo>")
        + f"<w:tbl>{row}{kept}</w:tbl>"
    ).text
    assert text.strip() == "A\n\nmoved\n\nleft | kept"


def test_merged_cells_keep_the_columns() -> None:
    """A cell over two columns leaves the second one empty; one over two rows says its text in both."""
    head = tc(p(r("Both")), '<w:gridSpan w:val="2"/>') + tc(p(r("Third")))
    first = tc(p(r("North")), '<w:vMerge w:val="restart"/>') + tc(p(r("1"))) + tc(p(r("2")))
    second = tc(p(""), "<w:vMerge/>") + tc(p(r("3"))) + tc(p(""))
    text = word(f"<w:tbl><w:tr>{head}</w:tr><w:tr>{first}</w:tr><w:tr>{second}</w:tr></w:tbl>").text
    assert text.splitlines() == ["Both |  | Third", "North | 1 | 2", "North | 3 |"]


def test_a_table_that_is_a_frame_is_read_as_paragraphs() -> None:
    """Rows of one cell are layout: what they hold keeps its headings and paragraphs."""
    style = '<w:style w:styleId="h" w:type="paragraph"><w:name w:val="heading 2"/></w:style>'
    inner = p(r("Rules"), '<w:pStyle w:val="h"/>') + p(r("No dogs."))
    document = word(f"<w:tbl><w:tr>{tc(inner)}</w:tr></w:tbl>", styles=style)
    assert [(each.title, each.level) for each in document.headings] == [("Rules", 2)]
    assert document.text.strip() == "Rules\n\nNo dogs."


def test_headings_by_inherited_and_foreign_styles() -> None:
    """A style that is based on a heading is one, whatever its id or its language; an outline level makes one, too."""
    styles = (
        '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="My chapter"/><w:basedOn w:val="berschrift1"/></w:style>'
        '<w:style w:styleId="Out"><w:name w:val="x"/><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>'
    )
    body = p(r("One"), '<w:pStyle w:val="Mine"/>') + p(r("Two"), '<w:pStyle w:val="Out"/>') + p(r("text"))
    assert [(each.title, each.level) for each in word(body, styles=styles).headings] == [("One", 1), ("Two", 3)]


def test_clauses_carry_their_numbers() -> None:
    """Numbers that Word writes by itself are there, so that clause 2.1 can be asked for."""
    levels = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, form, text in ((0, "decimal", "%1."), (1, "decimal", "%1.%2"), (2, "lowerLetter", "(%3)"))
    )
    numbering = (
        f'<w:abstractNum w:abstractNumId="7">{levels}</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    )
    body = "".join(
        p(r(text), f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="1"/></w:numPr>')
        for depth, text in ((0, "Scope"), (0, "Rent"), (1, "Due date"), (2, "first"), (2, "second"), (1, "Deposit"), (0, "End"))
    )
    lines = word(body, numbering=numbering).text.split("\n")
    assert [line for line in lines if line] == [
        "1. Scope", "2. Rent", "2.1 Due date", "(a) first", "(b) second", "2.2 Deposit", "3. End",
    ]  # fmt: skip


def test_fields_hidden_text_raised_digits_and_special_characters() -> None:
    """A field shows its result, hidden text nothing, 10^6 is not 106, hyphens and boxes are characters."""
    field = (
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>REF x</w:instrText></w:r>'
        f'<w:r><w:fldChar w:fldCharType="separate"/></w:r>{r("page 9")}<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    )
    raised = r(" 10") + r("6", '<w:vertAlign w:val="superscript"/>')
    signs = '<w:r><w:t> co</w:t><w:noBreakHyphen/><w:t>op</w:t><w:softHyphen/><w:t>erative </w:t><w:sym w:char="F0FE"/></w:r>'
    assert word(p(field + r("secret", "<w:vanish/>") + raised + signs)).text.strip() == "page 9 10^6 co-operative ☒"


def test_equations_are_written_in_a_line() -> None:
    """Fractions, powers, indices, roots and sums keep their structure."""
    run = "<m:r><m:t>{}</m:t></m:r>"
    x, y, n = (run.format(each) for each in ("x", "y+1", "n"))
    fraction = f"<m:f><m:num>{x}</m:num><m:den>{y}</m:den></m:f>"
    power = f"<m:sSup><m:e>{x}</m:e><m:sup>{run.format('2')}</m:sup></m:sSup>"
    root = f"<m:rad><m:deg/><m:e>{power}</m:e></m:rad>"
    total = f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{x}</m:sub><m:sup>{n}</m:sup><m:e>{fraction}</m:e></m:nary>'
    assert word(p(f"<m:oMath>{total}{root}</m:oMath>")).text.strip() == "∑_x^n x/(y+1)√(x^2)"


def test_text_boxes_notes_and_comments_stand_once_where_they_belong() -> None:
    """Of two stored forms of a text box one is read; notes and comments follow their paragraph."""
    box = f"<w:txbxContent>{p(r('Box text'))}</w:txbxContent>"
    shape = f"<w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
    marks = '<w:r><w:endnoteReference w:id="3"/></w:r><w:r><w:commentReference w:id="0"/></w:r>'
    document = word(
        p(r("Body") + shape + marks) + p(r("Next")),
        endnotes=f'<w:endnote w:type="separator" w:id="3x">{p(r("----"))}</w:endnote>'
        f'<w:endnote w:id="3">{p(r("An end."))}</w:endnote>',
        comments=f'<w:comment w:id="0" w:author="Ida">{p(r("Check this."))}</w:comment>',
    )
    assert document.text.split("\n") == ["Body[1]", "", "Box text", "[1] An end.", "[Comment by Ida] Check this.", "", "Next", ""]
    assert document.place(document.text.index("Next"), len(document.text)) == "¶3"


def test_headers_and_footers_stand_once_and_apart() -> None:
    """A header that several sections name is read once and cited as the header; page numbers alone are left out."""
    sections = "".join(
        f'<w:sectPr><w:headerReference r:id="header1"/><w:footerReference r:id="{foot}"/></w:sectPr>'
        for foot in ("footer1", "footer2")
    )
    document = word(p(r("Body")) + sections, header1=p(r("Contract 7")), footer1=p(r("3")), footer2=p(r("Valid to May")))
    assert [(chunk.place, chunk.text) for chunk in ingest.split(document)] == [
        ("header", "Contract 7"),
        ("¶1", "Body"),
        ("footer", "Valid to May"),
    ]


def test_what_is_no_word_document_is_said() -> None:
    """Old and encrypted files are told apart; a part that is broken is named."""
    old = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
    with pytest.raises(InputError, match="old binary Office file"):
        ingest.parse(Path("a.docx"), old)
    with pytest.raises(InputError, match="password"):
        ingest.parse(Path("a.docx"), old + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(InputError, match=r"word/document\.xml is not well-formed"):
        word("<w:p>")


def field(*runs: str) -> str:
    return "".join(run if run.startswith("<") else f'<w:r><w:fldChar w:fldCharType="{run}"/></w:r>' for run in runs)


LIST = "<w:ffData><w:ddList><w:result w:val='1'/><w:listEntry w:val='Red'/><w:listEntry w:val='Blue'/></w:ddList></w:ffData>"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (p(r("The notice period is "), "<w:rPr><w:del/></w:rPr>") + p(r("three months.")), "The notice period is three months."),
        (f"<w:tbl><w:tr>{tc(p(r('A')))}{tc(p(r('B')), '<w:cellDel/>')}{tc(p(r('C')), '<w:cellIns/>')}</w:tr></w:tbl>", "A | C"),
        (p(f"<w:r><w:fldChar w:fldCharType='begin'>{LIST}</w:fldChar></w:r>" + field("end")), "Blue"),
        (p(field("begin", "begin", "separate", r("inner"), "end", "separate", r("outer"), "end")), "outer"),
        (p(field("begin", r("its field never ends"))), "its field never ends"),
        (p("<w:r><w:sym w:font='Symbol' w:char='F0B3'/></w:r>" + r("m", '<w:rFonts w:ascii="Symbol"/>') + r("g")), "≥μg"),
        (p(r("10") + r("6", '<w:rStyle w:val="Up"/>') + r(" seen") + r("hidden", '<w:rStyle w:val="Off"/>')), "10^6 seen"),
        (p(r("10") + r("6", '<w:position w:val="6"/>')), "10^6"),
        (p(r("hidden"), '<w:pStyle w:val="Off"/>') + p(r("seen")), "seen"),
    ],
)  # fmt: skip
def test_what_is_displayed(body: str, text: str) -> None:
    """Deleted ends of paragraphs and cells, chosen entries, nested fields, the font Symbol, and what styles raise and hide."""
    styles = (
        '<w:style w:styleId="Up"><w:rPr><w:vertAlign w:val="superscript"/></w:rPr></w:style>'
        '<w:style w:styleId="Off"><w:rPr><w:vanish/></w:rPr></w:style>'
    )
    assert word(body, styles=styles).text.strip() == text


def test_a_header_of_two_rows() -> None:
    """The rows that Word repeats on each page name the columns together."""
    heads = "<w:trPr><w:tblHeader/></w:trPr>"
    wide = tc(p(r("2023")), '<w:gridSpan w:val="2"/>')
    top = f"<w:tr>{heads}{tc(p(r('Region')))}{wide}</w:tr>"
    low = f"<w:tr>{heads}{tc(p(''))}{tc(p(r('Sales')))}{tc(p(r('Cost')))}</w:tr>"
    rows = f"<w:tr>{tc(p(r('North')))}{tc(p(r('1')))}{tc(p(r('2')))}</w:tr>"
    document = word(f"<w:tbl>{top}{low}{rows}</w:tbl>")
    assert document.spans[0].header == "Region | 2023 Sales | 2023 Cost"

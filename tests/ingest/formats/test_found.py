"""Kinds of documents that were first met in the wild: in the test files of other projects."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path, PurePath

import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Document, Limits, readers, sandbox_worker
from selfrag.ingest.formats import latex, mail, pdf_text, pptx, sheets

RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def read(name: str, data: bytes | str) -> Document:
    return ingest.parse(PurePath(name), data.encode() if isinstance(data, str) else data)


def zipped(parts: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return out.getvalue()


# --- mail ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_mail_that_was_saved_as_unicode_text(encoding: str) -> None:
    """A message in UTF-16, with a byte-order mark or without, is a message."""
    document = read("a.eml", "Subject: Tides\nFrom: a@b.org\n\nHigh water at seven.\n".encode(encoding))
    assert document.title == "Tides"
    assert "High water at seven." in document.text


def test_a_mailbox_with_a_message_without_headers() -> None:
    """The message is its text, and the others are read all the same."""
    box = "From a Mon Jun 01 10:00:00 2009\n\nNo headers here.\n\nFrom a Mon Jun 01 11:00:00 2009\nSubject: Two\n\nSecond.\n"
    document = read("a.mbox", box)
    assert "No headers here." in document.text
    assert document.place(document.text.index("Second."), document.text.index("Second.") + 1) == "message 2"


def test_mail_that_says_latin_1_and_is_utf_8() -> None:
    """The words decide, not a label that makes nonsense of them; real Latin-1 stays."""
    head = b"Subject: x\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\n"
    assert "Iʼm 20 € short" in read("a.eml", head + "Iʼm 20 € short".encode()).text
    assert "café für 20 £" in read("a.eml", head + "café für 20 £".encode("latin-1")).text


def test_senders_of_outlook() -> None:
    """A sender is decoded, and the path in a company's directory is no address; its code pages have names of their own."""
    assert mail._sender("=?iso-8859-1?Q?L'=C9quipe?= <a@b.org>") == "L'Équipe <a@b.org>"
    assert mail._sender('"Allison" </o=ExchangeLabs/ou=Group/cn=Recipients/cn=1>') == '"Allison"'
    assert "中文".encode("cp950").decode("windows-950") == "中文"


def test_never_means_attachments_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--ocr never` a picture in a mail is not recognised, although an engine is there."""
    monkeypatch.setattr(readers, "installed", lambda: "rapidocr")
    letter = (
        "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nSee it.\n"
        '--b\nContent-Type: image/png; name="a.png"\nContent-Disposition: attachment; filename="a.png"\n'
        "Content-Transfer-Encoding: base64\n\niVBORw0KGgo=\n--b--\n"
    )
    found = sandbox_worker._answer("mail.read_eml", "a.eml", letter.encode(), Limits(ocr="never"))
    assert isinstance(found, Document)
    assert "See it." in found.text
    assert readers.recognises() == ""


# --- Office --------------------------------------------------------------------------------------------------------------------


def test_rtf_cells_of_several_paragraphs() -> None:
    """A row is one line, whatever paragraphs its cells hold; a bar in a sentence makes no table."""
    row = r"\trowd \pard\intbl {Fee}\par {(a year)}\cell {40\par}\cell\row "
    text = read("a.rtf", r"{\rtf1 one | two | three\par " + row + r"\pard after\par}").text
    assert [line for line in text.splitlines() if line] == ["one | two | three", "Fee (a year) | 40", "after"]


def test_rtf_with_a_stray_star() -> None:
    r"""A ``\*`` in the middle of a group does not take the rest of it away; at its start it does."""
    text = read("a.rtf", r"{\rtf1 {\b0\*\cs7 The fox jumps.}\par {\*\hidden not shown}}").text
    assert text.strip() == "The fox jumps."


def test_a_document_that_word_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``altChunk`` is read where Word shows it."""
    main = f'<w:document xmlns:w="w" xmlns:r="{RELATIONS}"><w:body>%s</w:body></w:document>'
    chunk = '<w:p><w:r><w:t>Before.</w:t></w:r></w:p><w:altChunk r:id="a"/><w:p><w:r><w:t>After.</w:t></w:r></w:p>'
    relations = '<Relationships><Relationship Id="a" Type="x/aFChunk" Target="/word/a.html"/></Relationships>'
    data = zipped(
        {
            "word/document.xml": main % chunk,
            "word/_rels/document.xml.rels": relations,
            "word/a.html": "<p>Imported words.</p>",
        }
    )
    assert read("a.docx", data).text.split("\n\n") == ["Before.", "Imported words.", "After.\n"]


@pytest.mark.parametrize("name", ["a.odt", "a.ods", "a.odp"])
def test_encrypted_opendocument_is_named(name: str) -> None:
    """What needs a password says so, and is not called damaged."""
    manifest = "<m:manifest xmlns:m='m'><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>"
    with pytest.raises(InputError, match="password"):
        read(name, zipped({"META-INF/manifest.xml": manifest, "content.xml": "\x01\x02", "styles.xml": "\x01"}))


def test_workbooks_before_ole_are_named() -> None:
    """A workbook of Excel 4 says what to do."""
    with pytest.raises(InputError, match=r"Excel 4 or older; save it as \.xlsx"):
        read("a.xls", b"\x09\x04\x06\x00\x00\x00\x10\x00" + bytes(100))


def test_a_header_row_that_is_parted_from_its_table() -> None:
    """Names over an empty row still name the columns; a row of values, or one far above, does not."""
    rows = {0: {0: "Numbers and squares"}, 2: {1: "Number", 2: "Square"}, 4: {1: "7", 2: "49"}, 5: {1: "8", 2: "64"}}
    blocks = [[text for _, text in block] for block in sheets._blocks(sheets._Sheet("S", rows))]
    assert blocks == [["Numbers and squares"], ["Number: 7\nSquare: 49", "Number: 8\nSquare: 64"]]
    far = {0: {1: "Number", 2: "Square"}, 9: {1: "7", 2: "49"}}
    assert [[text for _, text in block] for block in sheets._blocks(sheets._Sheet("S", far))] == [["Number | Square"], ["7 | 49"]]


def slide(inner: str, **more: str) -> bytes:
    names = f'xmlns:p="p" xmlns:a="a" xmlns:r="{RELATIONS}"'
    relations = '<Relationships><Relationship Id="{0}" Type="x/{1}" Target="{2}"/></Relationships>'
    return zipped(
        {
            "ppt/presentation.xml": f'<p:presentation {names}><p:sldIdLst><p:sldId r:id="s"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations.format("s", "slide", "slides/slide1.xml"),
            "ppt/slides/slide1.xml": f"<p:sld {names}><p:cSld><p:spTree>{inner}</p:spTree></p:cSld></p:sld>",
            "ppt/slides/_rels/slide1.xml.rels": relations.format("i", "image", "../media/image1.png"),
            "ppt/media/image1.png": "not a picture",
            **more,
        }
    )


def test_numbered_lists_on_slides() -> None:
    """Numbers are counted by level, from where they start, and begin anew after other text."""

    def item(text: str, level: int = 0, kind: str = "arabicPeriod", more: str = "") -> str:
        number = f'<a:buAutoNum type="{kind}"{more}/>' if kind else ""
        return f'<a:p><a:pPr lvl="{level}">{number}</a:pPr><a:r><a:t>{text}</a:t></a:r></a:p>'

    items = [item("a"), item("b", 1, "alphaLcParenBoth"), item("c", 1, "alphaLcParenBoth"), item("d"), item("e", kind="")]
    items += [item("f", more=' startAt="4"'), item("g", more=' startAt="4"')]
    text = read("a.pptx", slide(f"<p:sp><p:txBody>{''.join(items)}</p:txBody></p:sp>")).text
    assert text.split("\n")[:7] == ["1. a", "(a) b", "(b) c", "2. d", "e", "4. f", "5. g"]


def test_tables_and_headings_of_slides() -> None:
    """A merged cell says its text in each row, and in a header in each column; a title stands over its own slide alone."""

    def cell(text: str, merged: str = "") -> str:
        return f"<a:tc {merged}><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>"

    rows = [
        [cell("Region"), cell("2023"), cell("", 'hMerge="1"')],
        [cell("North"), cell("1"), cell("2")],
        [cell("", 'vMerge="1"'), cell("3"), cell("4")],
    ]
    table = "".join(f"<a:tr>{''.join(row)}</a:tr>" for row in rows)
    shape = "<p:sp>{}<p:txBody><a:p><a:r>{}<a:t>{}</a:t></a:r></a:p></p:txBody></p:sp>"
    title = shape.format('<p:nvSpPr><p:nvPr><p:ph type="title"/></p:nvPr></p:nvSpPr>', "", "Sales")
    greek = shape.format("", '<a:rPr><a:latin typeface="Symbol"/></a:rPr>', "m")
    main = (
        f'<p:presentation xmlns:p="p" xmlns:r="{RELATIONS}"><p:sldIdLst><p:sldId r:id="s"/><p:sldId r:id="t"/></p:sldIdLst>'
        "</p:presentation>"
    )
    relation = '<Relationship Id="{0}" Type="x/{1}" Target="{2}"/>'
    layout = shape.format("", "", "For members only") + shape.format(
        '<p:nvSpPr><p:nvPr><p:ph type="body"/></p:nvPr></p:nvSpPr>', "", "Click"
    )
    data = slide(
        f"{title}<p:graphicFrame><a:tbl>{table}</a:tbl></p:graphicFrame>",
        **{
            "ppt/presentation.xml": main,
            "ppt/_rels/presentation.xml.rels": f"<Relationships>{relation.format('s', 'slide', 'slides/slide1.xml')}"
            f"{relation.format('t', 'slide', 'slides/slide2.xml')}</Relationships>",
            "ppt/slides/slide2.xml": f'<p:sld xmlns:p="p" xmlns:a="a"><p:cSld><p:spTree>{greek}</p:spTree></p:cSld></p:sld>',
            "ppt/slides/_rels/slide2.xml.rels": f"<R>{relation.format('l', 'slideLayout', '../l.xml')}</R>",
            "ppt/l.xml": f'<p:sldLayout xmlns:p="p" xmlns:a="a"><p:cSld><p:spTree>{layout}</p:spTree></p:cSld></p:sldLayout>',
        },
    )
    first, second, behind = ingest.split(read("a.pptx", data))
    assert first.text.split("\n")[-3:] == ["Region | 2023 | 2023", "North | 1 | 2", "North | 3 | 4"]
    assert (second.text, second.headings, second.place) == ("μ", (), "slide 2")
    assert (behind.text, behind.place) == ("For members only", "every slide")


def test_a_slide_of_pictures_alone_is_named() -> None:
    """Without OCR the deck says what is missing; beside other slides the slide is told of."""
    picture = '<p:pic><p:nvPicPr><p:cNvPr id="1"/></p:nvPicPr><p:blipFill><a:blip r:embed="i"/></p:blipFill></p:pic>'
    with pytest.raises(InputError, match=r"only pictures.*selfrag\[ocr\]"):
        read("a.pptx", slide(picture))


def test_pictures_on_slides_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OCR the words of a slide without text are those of its pictures."""
    from selfrag.ingest.formats import ocr

    def recognised(path: PurePath, data: bytes, limits: Limits) -> Document:
        return Document(f"Words of {path.name}", "", "ocr")

    monkeypatch.setattr(ocr, "read_picture", recognised)
    picture = '<p:pic><p:blipFill><a:blip r:embed="i"/></p:blipFill></p:pic>'
    found = pptx.read_pptx(Path("a.pptx"), slide(picture), Limits(ocr="auto"))
    assert found.text.strip() == "Words of image1.png"
    assert found.place(0, 3) == "slide 1"
    shape = "<p:sp><p:txBody><a:p><a:r><a:t>Said.</a:t></a:r></a:p></p:txBody></p:sp>"
    assert pptx.read_pptx(Path("a.pptx"), slide(picture + shape), Limits(ocr="auto")).text.strip() == "Said."


# --- pages ---------------------------------------------------------------------------------------------------------------------


def test_what_machines_read_in_a_report_is_left_out() -> None:
    """The header of inline XBRL is nothing that a person sees."""
    text = read(
        "a.html", "<body><div><ix:header><ix:hidden>0000013156 false</ix:hidden></ix:header></div><p>Revenue rose.</p>"
    ).text
    assert text.strip() == "Revenue rose."


def test_a_page_that_is_only_a_header() -> None:
    """What would be furniture beside other text is read where there is nothing else."""
    assert "68 Prince Street" in read("a.html", "<body><header><address>68 Prince Street</address></header></body>").text


def test_words_in_several_scripts_are_no_words() -> None:
    """A font's map that is wrong mixes scripts in one word, as no language and no formula does."""
    assert pdf_text._mixed("⤶اِ㩈 Ĵاǎƶơ㶜ຝ䆀 ᑽĴǎƶاơ او䆀ឮᑽ Ǝا㦇Ĵ 㶜ຝاو")
    assert not pdf_text._mixed("𝑉𝑢ℎ 𝑖and 𝑉𝑑ℎ für Öl 日本のABC αβγ naïve Москва")


def test_private_letters_that_are_known() -> None:
    """Bullets of Symbol, old-style digits and small capitals are what they look like."""
    assert "\uf0b7 \uf731\uf739 \uf761\uf762 x\uf0b3y".translate(pdf_text._PRIVATE) == "• 19 AB x≥y"


def test_latex_is_printed_alike_whatever_is_hidden_from_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of plain words, which the parser never sees, come out as they would have: accents, macros, quotes, formulas."""
    source = r"""\documentclass{article}\title{On Tides}\begin{document}\maketitle\thispagestyle{empty}
    Un \'etude of \emph{some plain words, here} and ``quoted words'' -- in G\"ottingen by Caf\'e owners (see \ref{a b}).
    Then $x + y = \alpha \text{ for all real x}$ and \textbf{a \emph{b c} d}. \item one two \alpha three four~five
    \end{document}"""
    found = read("a.tex", source)
    monkeypatch.setattr(latex, "_WORDS", re.compile("(?!x)x"))
    assert latex.read_latex(PurePath("a.tex"), source.encode(), Limits()).text == found.text
    assert "étude of some plain words, here and “quoted words”" in found.text
    assert "GIVEN" not in found.text
    assert "empty" not in found.text


def test_latex_tables() -> None:
    """Rows stand in lines of their cells, from the line they are at; rules and a header repeated for each page do not."""
    source = "\n".join(
        [
            r"\begin{longtable}[]{@{}lp{3cm}@{}}",
            r"\toprule\noalign{}",
            r"Fee \& more & Amount \\",
            r"\midrule\endfirsthead",
            r"Fee \& more & Amount \\ \endhead",
            r"\textbf{Late} & 40~£ \\[2pt] \cmidrule(lr){1-2}",
            r"Lost & 12 \\ \bottomrule",
            r"\end{longtable}",
        ]
    )
    document = read("a.tex", source)
    assert document.text.split("\n")[:3] == ["Fee & more | Amount", "Late | 40 £", "Lost | 12"]
    assert document.lines(document.text.index("Lost"), document.text.index("Lost") + 4) == (7, 7)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\pounds{}40 or 5\euro, \S 3", "£40 or 5€, § 3"),
        (r"10\textsuperscript{6} and 1\textsuperscript{st}", "10^6 and 1st"),
        (r"\href{https://a.b/c_d}{the site} and \url{https://a.b/c_d}", "the site and https://a.b/c_d"),
        (r"type \verb|x_y = {}| now", "type x_y = {} now"),
        (r"\SI{5}{\kilo\gram\per\litre} of \qty{3}{\micro\metre}", "5 kg/l of 3 µm"),
    ],
)
def test_commands_of_latex(source: str, text: str) -> None:
    """Signs, raised digits, links, code and units are printed as LaTeX prints them."""
    assert read("a.tex", source).text.strip() == text


# --- books and subtitles -------------------------------------------------------------------------------------------------------


def test_notes_and_chapters_of_books() -> None:
    """A footnote in an aside is read, its mark is set apart, and a chapter's headings do not stand over the next one."""
    page = '<html xmlns="x" xmlns:epub="http://www.idpf.org/2007/ops"><head><title>{}</title></head><body>{}</body></html>'
    note = '<h1>One</h1><p>It began<a epub:type="noteref" href="#n">1</a>.</p><aside epub:type="footnote"><p>In May.</p></aside>'
    data = zipped({"a.xhtml": page.format("One", note), "b.xhtml": page.format("Notes", "<p>The end.</p>")})
    first, second = ingest.split(read("a.epub", data))
    assert first.text == "It began[1].\n\nIn May."
    assert (second.text, second.headings) == ("The end.", ())


def test_signs_in_subtitles() -> None:
    """What is written as an entity is the sign."""
    assert read("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n<i>A</i> &amp; B &lt; C\n").text.strip() == "A & B < C"


# --- cards ---------------------------------------------------------------------------------------------------------------------


def test_what_a_number_is_for() -> None:
    """Kinds of numbers and addresses are said, in the words of each version of the format."""
    card = (
        'BEGIN:VCARD\nFN:Ana\nTEL;TYPE=cell,voice:1\nTEL;WORK;FAX:2\nTEL;TYPE="home";PREF=1:3\nTEL:4\n'
        "EMAIL;TYPE=INTERNET;TYPE=WORK:a@b.org\nURL:http\\://b.org\nEND:VCARD\n"
    )
    lines = read("a.vcf", card).text.splitlines()
    assert lines[:5] == ["Name: Ana", "Telephone (mobile): 1", "Telephone (work, fax): 2", "Telephone (home): 3", "Telephone: 4"]
    assert lines[5:] == ["E-mail (work): a@b.org", "URL: http://b.org"]


def test_names_and_exceptions() -> None:
    """A card without a formatted name shows its parts in order; a date that is left out of a series is said."""
    assert read("a.vcf", "BEGIN:VCARD\nN:Lee;Ann;Jo;Dr.;\nEND:VCARD\n").text.strip() == "Name: Dr. Ann Jo Lee"
    event = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nEXDATE:20240109T100000,20240116\nEND:VEVENT\nEND:VCALENDAR\n"
    assert read("a.ics", event).text.strip() == "Except: 2024-01-09 10:00, 2024-01-16"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=DAILY;COUNT=10;INTERVAL=2", "every 2 days, 10 times"),
        ("FREQ=WEEKLY;BYDAY=MO,FR;WKST=SU", "every week, on Monday and Friday"),
        ("FREQ=MONTHLY;BYDAY=-1TH;UNTIL=20300101", "every month, on the last Thursday, until 2030-01-01"),
        ("FREQ=YEARLY;BYMONTH=1", "every year, BYMONTH=1"),
        ("FREQ=SECONDLY", "FREQ=SECONDLY"),
    ],
)
def test_how_often(rule: str, words: str) -> None:
    """The usual rules of repetition read as words; what has none stays as it is written."""
    text = read("a.ics", f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nRRULE:{rule}\nEND:VEVENT\nEND:VCALENDAR\n").text
    assert text.strip() == f"Repeats: {words}"


# --- names that say something else ---------------------------------------------------------------------------------------------

WORKBOOK = (
    '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet" xmlns:ss="s"><Worksheet ss:Name="S">'
    "<Table><Row><Cell><Data>Name</Data></Cell><Cell><Data>Fee</Data></Cell></Row>"
    '<Row ss:Index="2"><Cell><Data>Ann</Data></Cell><Cell ss:Index="2"><Data>40</Data></Cell></Row></Table>'
    "</Worksheet></Workbook>"
)
FLAT = (
    '<?xml version="1.0"?><o:document xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:t="t"><o:body><o:text>'
    "<t:p>Flat words</t:p></o:text></o:body></o:document>"
)


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.doc", rb"{\rtf1\ansi Words\par}", "Words"),
        ("a.doc", b"<html><body><p>Words", "Words"),
        ("a.xls", b"<html><table><tr><th>Name<th>Fee<tr><td>Ann<td>40</table>", "Name | Fee\nAnn | 40"),
        ("a.xls", b"Name\tFee\nAnn\t40\n", "Name: Ann\nFee: 40"),
        ("a.xls", WORKBOOK.encode(), "S\n\nName: Ann\nFee: 40"),
        ("a.fodt", FLAT.encode(), "Flat words"),
        ("a.txt", b"N\x08NA\x08A\n _\x08l_\x08s\n", "NA\n ls"),
        ("a.txt", "\ufeffWords.".encode("utf-16-le") + b"x", "Words."),
    ],
)
def test_files_that_are_something_else(name: str, data: bytes, text: str) -> None:
    """What programs save under an Office file's name is read as what it is; so are flat files, terminals' letters, a cut text."""
    assert read(name, data).text.strip() == text

"""OpenDocument: the numbers of lists and headings, which are not stored as text."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath

import pytest

from selfrag import ingest

CONTENT = """<office:document-content xmlns:office="o" xmlns:text="t" xmlns:style="s"><office:automatic-styles>
<text:list-style style:name="L1"><text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>
<text:list-level-style-number text:level="2" style:num-format="a" style:num-prefix="(" style:num-suffix=")"/></text:list-style>
<text:list-style style:name="L2"><text:list-level-style-bullet text:level="1" text:bullet-char="-"/></text:list-style>
</office:automatic-styles><office:body><office:text>
<text:h text:outline-level="1">Rules</text:h>
<text:h text:outline-level="2">Dogs</text:h><text:h text:outline-level="2">Cats</text:h>
<text:list text:style-name="L1"><text:list-item><text:p>Leash</text:p></text:list-item>
<text:list-item><text:p>Muzzle</text:p><text:list><text:list-item><text:p>in trains</text:p></text:list-item>
<text:list-item><text:p>in shops</text:p></text:list-item></text:list></text:list-item></text:list>
<text:p>Between.</text:p>
<text:list text:style-name="L1" text:continue-numbering="true"><text:list-item><text:p>Tax</text:p></text:list-item></text:list>
<text:list text:style-name="L1"><text:list-item text:start-value="7"><text:p>Fines</text:p></text:list-item></text:list>
<text:list text:style-name="L2"><text:list-item><text:p>Open</text:p></text:list-item></text:list>
</office:text></office:body></office:document-content>"""
STYLES = """<office:document-styles xmlns:office="o" xmlns:text="t" xmlns:style="s"><office:styles><text:outline-style>
<text:outline-level-style text:level="1" style:num-format="I" style:num-suffix="."/>
<text:outline-level-style text:level="2" style:num-format="1" text:display-levels="2"/></text:outline-style></office:styles>
</office:document-styles>"""


def test_numbers_of_lists_and_headings() -> None:
    """Each item has its number or bullet as it is seen: nested, continued after other text, begun at another number."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("content.xml", CONTENT)
        archive.writestr("styles.xml", STYLES)
    lines = [line for line in ingest.parse(PurePath("a.odt"), out.getvalue()).text.split("\n") if line]
    assert lines == [
        "I. Rules",
        "I.1 Dogs",
        "I.2 Cats",
        "1. Leash",
        "2. Muzzle",
        "(a) in trains",
        "(b) in shops",
        "Between.",
        "3. Tax",
        "7. Fines",
        "• Open",
    ]


NAMES = " ".join(f'xmlns:{name}="{name[0]}"' for name in ("office", "text", "table", "draw")) + ' xmlns:style="y" xmlns:xlink="x"'


def cell(text: str, more: str = "") -> str:
    return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"


WIDE, HIGH = 'table:number-columns-spanned="2"', 'table:number-rows-spanned="2"'
COVERED = "<table:covered-table-cell/>"
HEAD = (
    f"<table:table-row>{cell('Region')}{cell('2023', WIDE)}{COVERED}</table:table-row>"
    f"<table:table-row>{cell('')}{cell('Sales')}{cell('Cost')}</table:table-row>"
)
ROWS = (
    f"<table:table-row>{cell('North', HIGH)}{cell('1')}{cell('2')}</table:table-row>"
    f"<table:table-row>{COVERED}{cell('3')}{cell('4')}</table:table-row>"
)


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("a.odt", f"<table:table><table:table-header-rows>{HEAD}</table:table-header-rows>{ROWS}</table:table>",
         "Region | 2023 | 2023\n| Sales | Cost\nNorth | 1 | 2\nNorth | 3 | 4\n"),
        ("a.ods", f'<table:table table:name="S">{HEAD}{ROWS}</table:table>',
         "S\n\nRegion: North\n2023 Sales: 1\n2023 Cost: 2\n\nRegion: North\n2023 Sales: 3\n2023 Cost: 4\n"),
        ("a.odt", '<text:p>Seen<text:hidden-text>x</text:hidden-text></text:p><text:section text:display="none">'
         "<text:p>y</text:p></text:section>", "Seen\n"),
        ("a.odp", '<draw:page draw:master-page-name="M"><draw:frame><text:p>One</text:p></draw:frame></draw:page>',
         "One\n\nFor members\n"),
    ],
)  # fmt: skip
def test_what_is_displayed(name: str, body: str, text: str) -> None:
    """A cell that spans rows stands in each of them, what is hidden in none; a slide's master is shown, too."""
    kind = {"a.odt": "text", "a.ods": "spreadsheet", "a.odp": "presentation"}[name]
    frames = "<draw:frame><text:p>For members</text:p></draw:frame>"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("content.xml", f"<c {NAMES}><office:body><office:{kind}>{body}</office:{kind}></office:body></c>")
        archive.writestr("styles.xml", f'<s {NAMES}><style:master-page style:name="M">{frames}</style:master-page></s>')
    assert ingest.parse(PurePath(name), out.getvalue()).text == text

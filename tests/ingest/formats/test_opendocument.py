"""OpenDocument: the numbers of lists and headings, which are not stored as text."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath

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

"""Spreadsheets: values as they are shown, and old ones (.xls) that are damaged."""

from __future__ import annotations

import datetime
import struct
from pathlib import PurePath

import pytest

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.ingest import Limits
from selfrag.ingest.formats import sheets
from tests.ingest.formats.test_found import RELATIONS, zipped

PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"

_END, _FREE, _TABLE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def compound(directory_goes_on_at: int) -> bytes:
    """A compound file of two sectors: the table of sectors, and the directory with its root alone."""
    header = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(16) + struct.pack("<5H", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<9I", 0, 1, 1, 0, 4096, _END, 0, _END, 0) + struct.pack("<109I", 0, *[_FREE] * 108)
    table = struct.pack("<128I", _TABLE, directory_goes_on_at, *[_FREE] * 126)
    name = "Root Entry".encode("utf-16-le") + b"\0\0"
    root = name.ljust(64, b"\0") + struct.pack("<HBB3I", len(name), 5, 1, _FREE, _FREE, _FREE) + bytes(36)
    root += struct.pack("<IQ", _END, 0)
    return header + table + root.ljust(512, b"\0")


def test_sectors_in_a_circle_are_damage() -> None:
    """A directory that goes on at its own beginning is refused before the parser follows it; one that ends is left to the
    parser, which finds no workbook in it."""
    with pytest.raises(InputError, match=r"damaged: (incorrect|malformed|its sectors)"):
        sheets.read_xls(PurePath("a.xls"), compound(1), Limits())
    with pytest.raises(InputError, match=r"damaged"):
        sheets.read_xls(PurePath("a.xls"), compound(_END), Limits())
    with pytest.raises(ValueError, match="circle"):
        sheets._follow([1, 2, 0], 0)
    sheets._follow([1, 2, _END], 0)


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (1234.0, "00000", "01234"),
        (5550142.0, "000-0000", "555-0142"),
        (12345.0, '[>=1000]0.0,"k";0', "12.3k"),
        (1234567.0, "#,##0,", "1,235"),
        (1.0, '"Yes";"No";"None"', "Yes"),
        (0.0, '"Yes";"No";"None"', "None"),
        (0.5, "0.0", "0.5"),
        (datetime.timedelta(days=1, hours=12), "[h]:mm", "36:00"),
        (datetime.time(14, 30, 5), "hh:mm:ss", "14:30:05"),
    ],
)
def test_values_as_their_formats_show_them(value: object, form: str, shown: str) -> None:
    """Leading zeros, patterns of digits, thousands and words come from the format."""
    assert sheets._shown(value, form) == shown


def test_what_a_workbook_says_beside_its_values() -> None:
    """Errors, raised digits, formulas without a value, notes in their rows, charts' titles and text boxes are read."""
    cells = {
        "A1": '<c r="A1" t="inlineStr"><is><t>Kind</t></is></c><c r="B1" t="inlineStr"><is><t>Worth</t></is></c>'
        '<c r="C1" t="inlineStr"><is><t>Sum</t></is></c>',
        "A2": '<c r="A2" t="s"><v>0</v></c><c r="B2" t="e"><f>1/0</f><v>#DIV/0!</v></c><c r="C2"><f>B2+1</f><v/></c>',
        "A3": '<c r="A3" t="s"><v>0</v></c><c r="B3"><v>5</v></c><c r="C3"><v>6</v></c>',
    }
    rows = "".join(f'<row r="{name[1]}">{row}</row>' for name, row in cells.items())
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    kind = f"{RELATIONS}/"

    def relations(**targets: str) -> str:
        each = (f'<Relationship Id="{name}" Type="{kind}{name}" Target="{target}"/>' for name, target in targets.items())
        return f"<Relationships xmlns='{PACKAGE}'>{''.join(each)}</Relationships>"

    data = zipped(
        {
            "_rels/.rels": relations(officeDocument="xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{RELATIONS}"><sheets><sheet name="S" sheetId="1" '
            'r:id="worksheet"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(worksheet="sheet1.xml", sharedStrings="sharedStrings.xml"),
            "xl/sharedStrings.xml": f'<sst xmlns="{main}"><si><r><t>10</t></r><r><rPr><vertAlign val="superscript"/></rPr>'
            "<t>6</t></r></si></sst>",
            "xl/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>',
            "xl/_rels/sheet1.xml.rels": relations(comments="notes.xml", drawing="drawing.xml"),
            "xl/notes.xml": f'<comments xmlns="{main}"><commentList><comment ref="B2"><text><t>By Ann</t></text></comment>'
            "</commentList></comments>",
            "xl/drawing.xml": '<d xmlns:a="a"><txBody><a:p><a:r><a:t>Due in May</a:t></a:r></a:p></txBody></d>',
        }
    )
    document = ingest.parse(PurePath("a.xlsx"), data)
    first, second = ingest.split(document)
    assert first.text.split("\n\n") == [
        "Kind: 10^6\nWorth: #DIV/0!\nSum: =B2+1\nNote at B2: By Ann",
        "Kind: 10^6\nWorth: 5\nSum: 6",
    ]
    assert (first.place, second.text, second.place) == ("S!A2:C3", "Due in May", "S")


@pytest.mark.parametrize(
    ("rows", "blocks"),
    [
        ([["Name:", "Ann"], ["Fee:", "40"]], ["Name: | Ann", "Fee: | 40"]),
        ([["Name", "Fee"], ["Ann", "40"]], ["Name: Ann\nFee: 40"]),
        ([["Region", "2023", "", "2024", ""], ["", "Sales", "Cost", "Sales", "Cost"], ["N", "1", "2", "3", "4"]],
         ["Region: N\n2023 Sales: 1\n2023 Cost: 2\n2024 Sales: 3\n2024 Cost: 4"]),
    ],
)  # fmt: skip
def test_rows_that_name_columns(rows: list[list[str]], blocks: list[str]) -> None:
    """A form has no header, a table may have one of two rows."""
    sheet = sheets._Sheet("S", {at: {column: cell for column, cell in enumerate(row) if cell} for at, row in enumerate(rows)})
    assert [text for block in sheets._blocks(sheet) for _, text in block] == blocks

"""Spreadsheets: .xlsx, .xlsm, .xlsb, .xls by calamine, .ods by its own displayed text. Runs in the worker process.

A row becomes lines ``column: value``, so that each is self-contained; no chunk crosses a sheet, and a citation names the cells:
``Tariffs!A2:C9``. Values read as the sheet shows them: 25 %, €12.50, 2031-03-31. Calamine gives values without their formats;
those of .xlsx are read from the file here.
"""

from __future__ import annotations

import datetime
import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import olefile
import python_calamine
from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats import drawing, numbers
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.package import Package, attribute, below, child, children, local, relation
from selfrag.ingest.formats.plain_tables import grouped
from selfrag.ingest.formats.superscripts import marked, resolved

_NUMBER = re.compile(r"[-+]?[\d.,\s]*\d[\d.,\s]*%?\Z")
_BUILT_IN = {9: "0%", 10: "0.00%", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 37: "#,##0", 38: "#,##0", 39: "#,##0.00"}
_WIDEST = 2000
_PASSWORD = b"\x2f\x00"
_BEFORE_OLE = (b"\x09\x00", b"\x09\x02", b"\x09\x04")
_CELLS = 4_000_000


@dataclass(slots=True)
class _Sheet:
    """Displayed values by row and column, both from 0; ``notes`` by cell. ``merged`` are ranges (row, column, row, column);
    ``drawn`` says what charts and text boxes over the cells show."""

    name: str
    rows: dict[int, dict[int, str]]
    merged: Sequence[tuple[int, int, int, int]] = ()
    notes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    drawn: Sequence[str] = ()


def read_xlsx(path: PurePath, data: bytes, limits: Limits) -> Document:
    package = Package(data, "an Excel workbook")
    return _document(path, _calamine(data, _Extras(package)), "xlsx", limits, readable(package.property("title")))


def read_xls(path: PurePath, data: bytes, limits: Limits) -> Document:
    if data.startswith(olefile.MAGIC):  # else an .xlsx under an old name
        _check(data)
    elif data.startswith(_BEFORE_OLE):
        raise InputError("a workbook of Excel 4 or older; save it as .xlsx")
    return _document(path, _calamine(data, None), "xls", limits)


def read_workbook(path: PurePath, root: etree._Element, limits: Limits) -> Document:
    """A workbook of Excel 2003 in XML."""
    return _document(path, _in_xml(root), "xls", limits)


def read_ods(path: PurePath, data: bytes, limits: Limits) -> Document:
    package = Package(data, "an OpenDocument spreadsheet")
    return _document(path, _ods(package.xml("content.xml")), "ods", limits)


def _document(path: PurePath, sheets: Iterator[_Sheet], reader: str, limits: Limits, title: str = "") -> Document:
    draft = Draft(limits)
    for sheet in sheets:
        draft.section()
        quoted = f"'{sheet.name}'" if re.search(r"\W", sheet.name) else sheet.name
        draft.add(sheet.name, quoted, "", level=1)
        group = f"{quoted}!"
        notes: dict[int, list[str]] = {}
        for (row, column), note in sorted(sheet.notes.items()):
            notes.setdefault(row, []).append(f"Note at {_cell(row, column)}: {note}")
        for block in _blocks(sheet):
            for row, line in block:
                first, last = min(sheet.rows[row]), max(sheet.rows[row])
                line = "\n".join([line, *notes.pop(row, ())])
                draft.add(line, group, _cell(row, first), _cell(row, last), ":", record=True)
        for row, said in sorted(notes.items()):
            draft.add("\n".join(said), group, f"A{row + 1}", joint=":")
        for text in sheet.drawn:
            draft.section(goes_on=True)
            draft.add(text, quoted, "")
    return draft.document(path, reader, title or path.stem)


# --- tables ----------------------------------------------------------------------------------------------------------------


def _blocks(sheet: _Sheet) -> Iterator[list[tuple[int, str]]]:
    """The tables of a sheet, separated by empty rows: (row, text) for each row except the header."""
    _fill(sheet)
    block: list[int] = []
    for row in [*sorted(sheet.rows), None]:
        if block and (row is None or (row > block[-1] + 1 and not _heads(sheet, block, row))):
            yield _table(sheet, block)
            block = []
        if row is not None:
            block.append(row)


def _heads(sheet: _Sheet, block: list[int], below: int) -> bool:
    """Whether ``block`` is a lone header of the table that begins a row or two below."""
    if len(block) > 1 or below > block[0] + 3:
        return False
    return sheet.rows[below].keys() <= sheet.rows[block[0]].keys() and _names(sheet, block[0], [below])


def _table(sheet: _Sheet, block: list[int]) -> list[tuple[int, str]]:
    """Rows of a single cell above the header are titles and stay as they are."""
    lead = 0
    while lead < len(block) and len(sheet.rows[block[lead]]) == 1 and len(block) > 1:
        lead += 1
    head = block[lead] if lead < len(block) - 1 and _names(sheet, block[lead], block[lead + 1 :]) else None
    names = sheet.rows[head] if head is not None else {}
    valued = len(block) > lead + 2 and any(map(_NUMBER.match, sheet.rows[block[lead + 2]].values()))
    if valued and (two := grouped(*(sheet.rows[row] for row in block[lead : lead + 2]))):
        names, head = two, block[lead + 1]
        del block[lead]
    found = []
    for row in block:
        cells = sheet.rows[row]
        if head is None or row < head:
            found.append((row, " | ".join(cells[column] for column in sorted(cells))))
        elif row > head:
            lines = (f"{names[column]}: {cells[column]}" if column in names else cells[column] for column in sorted(cells))
            found.append((row, "\n".join(lines)))
    return found


def _names(sheet: _Sheet, head: int, rest: list[int]) -> bool:
    """Whether a row is a header: at least two words, all short and different, none a number, above rows of equal width. Pairs of
    a label and a value, as in a form, have no such row."""
    cells = list(sheet.rows[head].values())
    if len(cells) == 2:
        values = [bool(_NUMBER.match(text)) for row in rest for text in list(sheet.rows[row].values())[1:2]]
        if cells[0].endswith(":") or (any(values) and not all(values)):
            return False
    words = all(len(cell) < 80 and not _NUMBER.match(cell) for cell in cells)
    return len(cells) > 1 and words and len(set(cells)) == len(cells) and any(len(sheet.rows[row]) > 1 for row in rest)


def _fill(sheet: _Sheet) -> None:
    """A merged cell repeats its value in each of its rows, in its first column."""
    for top, left, bottom, _ in sheet.merged:
        value = sheet.rows.get(top, {}).get(left)
        for row in range(top + 1, min(bottom, top + 1000) + 1 if value else 0):
            if value and row in sheet.rows:
                sheet.rows[row].setdefault(left, value)


def _cell(row: int, column: int) -> str:
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"


# --- Excel -----------------------------------------------------------------------------------------------------------------


def _calamine(data: bytes, extras: _Extras | None) -> Iterator[_Sheet]:
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        reason = "encrypted: it needs a password" if "assword" in f"{type(error).__name__}{error}" else f"damaged: {error}"
        raise InputError(reason[:200].lower()) from None
    for meta in book.sheets_metadata:
        if meta.typ != python_calamine.SheetTypeEnum.WorkSheet:
            if extras and (drawn := extras.sheet(meta.name).drawn):
                yield _Sheet(readable(meta.name), {}, drawn=drawn)
            continue
        sheet = book.get_sheet_by_name(meta.name)
        if sheet.height * sheet.width > _CELLS:
            raise InputError(f"sheet {meta.name!r} spans {sheet.height * sheet.width:,} cells; the limit is {_CELLS:,}")
        own = extras.sheet(meta.name) if extras else _Own()
        top, left = sheet.start or (0, 0)
        rows: dict[int, dict[int, str]] = {}
        for at, values in enumerate(sheet.to_python(skip_empty_area=True), top):
            cells = {}
            for column, value in enumerate(values[:_WIDEST], left):
                if text := readable(_shown(value, own.formats.get((at, column), ""))).strip():
                    cells[column] = " ".join(text.split())
            if cells:
                rows[at] = cells
        for (row, column), text in own.texts.items():
            rows.setdefault(row, {})[column] = text
        merged = [(*start, *end) for start, end in sheet.merged_cell_ranges or ()]
        yield _Sheet(readable(meta.name), rows, merged, own.notes, own.drawn)


def _check(data: bytes) -> None:
    """Raises InputError if a sector chain of an old Office file has no end: calamine would follow it until the memory limit ends
    the process."""
    if _encrypted(data):
        raise InputError("encrypted: it needs a password")
    try:
        with olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_INCORRECT) as file:
            for name in ("Workbook", "Book"):
                if file.exists(name):
                    file.openstream(name).close()
            for first in (file.first_dir_sector, file.first_mini_fat_sector, file.root.isectStart):
                _follow(file.fat, first)
    except (OSError, ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise InputError(f"damaged: {str(error)[:150] or type(error).__name__}") from None


def _encrypted(data: bytes) -> bool:
    """Whether the second record of the workbook marks it as encrypted."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            name = next((each for each in ("Workbook", "Book") if file.exists(each)), "")
            start = file.openstream(name).read(64) if name else b""
    except (OSError, ValueError, IndexError, TypeError, AttributeError, struct.error):
        return False  # what is wrong with it is found below
    at = 4 + int.from_bytes(start[2:4], "little")
    return start[at : at + 2] == _PASSWORD


def _follow(sectors: Sequence[int], at: int) -> None:
    """Walks a chain of sectors to its end. Raises ValueError where it has none."""
    for _ in range(len(sectors) + 1):
        if at >= len(sectors):
            return
        at = sectors[at]
    raise ValueError("its sectors run in a circle")


def _shown(value: object, form: str) -> str:
    """A value as its format shows it: per cent, currencies, fixed decimals, thousands; dates in ISO form."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d") if value.time() == datetime.time() else value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, datetime.time | datetime.timedelta):
        seconds = (
            value.total_seconds()
            if isinstance(value, datetime.timedelta)
            else value.hour * 3600 + value.minute * 60 + value.second
        )
        minutes, second = divmod(round(abs(seconds)), 60)
        return f"{'-' if seconds < 0 else ''}{minutes // 60:02}:{minutes % 60:02}" + (f":{second:02}" if second else "")
    if isinstance(value, int | float):
        return numbers.shown(float(value), form)
    return str(value)


@dataclass(slots=True)
class _Own:
    """What a sheet of .xlsx says beside its values: formats by cell; texts of formulas without a value, of errors and of raised
    digits; notes; charts and text boxes."""

    formats: dict[tuple[int, int], str] = field(default_factory=dict)
    texts: dict[tuple[int, int], str] = field(default_factory=dict)
    notes: dict[tuple[int, int], str] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)


class _Extras:
    def __init__(self, package: Package) -> None:
        self._package = package
        main = package.main("xl/workbook.xml")
        known = main in package and main.endswith(".xml")  # .xlsb is no XML
        related = package.related(main) if known else {}
        self._parts: dict[str, str] = {}
        for each in below(package.xml(main), "sheet") if known else ():
            self._parts[attribute(each, "name")] = related.get(relation(each), ("", ""))[1]
        styles = next((name for kind, name in related.values() if kind == "styles"), "")
        self._formats = _formats(package.xml(styles)) if styles in package else []
        strings = next((name for kind, name in related.values() if kind == "sharedStrings"), "")
        self._raised = _raised(package.xml(strings)) if strings in package and known else {}

    def sheet(self, name: str) -> _Own:
        own, part = _Own(), self._parts.get(name, "")
        if not part.endswith(".xml") or part not in self._package:
            return own  # .xlsb
        for _, cell in etree.iterparse(io.BytesIO(self._package.read(part)), tag="{*}c", recover=True, resolve_entities=False):
            at = _at(attribute(cell, "r"))
            if at is not None:
                style = attribute(cell, "s", "0")
                form = self._formats[int(style)] if style.isdigit() and int(style) < len(self._formats) else ""
                if form:
                    own.formats[at] = form
                if text := self._text(cell):
                    own.texts[at] = text
            cell.clear()
        for kind, target in self._package.related(part).values():
            if kind in ("comments", "threadedComment") and target in self._package:
                own.notes |= _notes(self._package.xml(target))
            elif kind == "drawing" and target in self._package:
                own.drawn += _drawn(self._package, target)
        return own

    def _text(self, cell: etree._Element) -> str:
        kind, formula, value = attribute(cell, "t"), child(cell, "f"), child(cell, "v")
        found = (value.text or "") if value is not None else ""
        if kind == "s" or kind == "inlineStr":
            return self._raised.get(found, "")
        if kind == "e" and found:
            return found
        return f"={formula.text}" if formula is not None and formula.text and not found else ""


def _raised(strings: etree._Element) -> dict[str, str]:
    """The shared strings with raised digits, by their numbers."""
    found = {}
    for number, item in enumerate(children(strings, "si")):
        runs = [(child(run, "t"), attribute(child(run, "rPr", "vertAlign"), "val")) for run in children(item, "r")]
        if any(place == "superscript" for _, place in runs):
            texts = ((readable(each.text or ""), place) for each, place in runs if each is not None)
            line = resolved("".join(marked(text) if place == "superscript" else text for text, place in texts))
            found[str(number)] = " ".join(line.split())
    return found


def _drawn(package: Package, part: str) -> Iterator[str]:
    root = package.xml(part)
    for box in below(root, "txBody"):
        lines = ("".join(each.text or "" for each in below(line, "t")) for line in children(box, "p"))
        yield readable("\n".join(filter(None, lines)))
    yield readable("\n".join(drawing.charts(package, root, package.related(part))))


def _formats(styles: etree._Element) -> list[str]:
    """The number format of each cell style; empty for the general one and for dates, which calamine detects itself."""
    own = {attribute(each, "numFmtId"): attribute(each, "formatCode") for each in below(styles, "numFmt")}
    found = []
    for each in children(child(styles, "cellXfs"), "xf"):
        number = attribute(each, "numFmtId", "0")
        found.append(own.get(number) or _BUILT_IN.get(int(number) if number.isdigit() else 0, ""))
    return found


def _notes(root: etree._Element) -> dict[tuple[int, int], str]:
    found = {}
    for comment in below(root, "comment", "threadedComment"):
        at = _at(attribute(comment, "ref"))
        text = " ".join(
            "".join(each.text or "" for each in below(comment, "t", "text") if local(each) == "t" or each.text).split()
        )
        if at is not None and text:
            found[at] = readable(text)
    return found


def _at(reference: str) -> tuple[int, int] | None:
    match = re.match(r"([A-Z]{1,3})(\d{1,7})", reference)
    if not match:
        return None
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(match[2]) - 1, column - 1


def _in_xml(root: etree._Element) -> Iterator[_Sheet]:
    for table in children(root, "Worksheet"):
        rows: dict[int, dict[int, str]] = {}
        at = -1
        for row in below(table, "Row"):
            at = _index(row, at)
            column = -1
            for cell in children(row, "Cell"):
                column = _index(cell, column)
                if text := " ".join(readable("".join("".join(each.itertext()) for each in children(cell, "Data"))).split()):
                    rows.setdefault(at, {})[column] = text
                across = attribute(cell, "MergeAcross", "0")
                column += int(across) if across.isdigit() and len(across) < 4 else 0
        yield _Sheet(readable(attribute(table, "Name")), rows)


def _index(element: etree._Element, before: int) -> int:
    """Rows and cells say where they are only if they do not follow the one before."""
    given = attribute(element, "Index")
    return int(given) - 1 if given.isdigit() and 0 < int(given) < 2**21 else before + 1


# --- OpenDocument ----------------------------------------------------------------------------------------------------------


def _ods(root: etree._Element) -> Iterator[_Sheet]:
    """Sheets with the text that each cell displays; empty repeated rows and cells are counted, not expanded."""
    for number, table in enumerate(below(root, "table"), 1):
        rows: dict[int, dict[int, str]] = {}
        notes: dict[tuple[int, int], str] = {}
        merged: list[tuple[int, int, int, int]] = []
        at = 0
        for row in below(table, "table-row"):
            cells: dict[int, str] = {}
            column = 0
            for cell in children(row, "table-cell", "covered-table-cell"):
                times = _times(cell, "number-columns-repeated")
                text = " ".join(" ".join("".join(each.itertext()).split()) for each in children(cell, "p", "h"))
                text = readable(text).strip() or _value(cell)
                for copy in range(column, column + min(times, _WIDEST) if text and column < _WIDEST else column):
                    cells[copy] = text
                for annotation in children(cell, "annotation"):
                    notes[at, column] = readable(" ".join("".join(each.itertext()) for each in children(annotation, "p")))
                if (down := _times(cell, "number-rows-spanned")) > 1:
                    merged.append((at, column, at + down - 1, column))
                column += times
            times = _times(row, "number-rows-repeated")
            for copy in range(at, at + min(times, 1000) if cells else at):
                rows[copy] = dict(cells)
            at += times
        yield _Sheet(readable(attribute(table, "name")) or f"Sheet{number}", rows, merged, notes)


def _value(cell: etree._Element) -> str:
    return next((attribute(cell, name) for name in ("string-value", "date-value", "value") if attribute(cell, name)), "")


def _times(element: etree._Element, name: str) -> int:
    text = attribute(element, name, "1")
    return max(1, int(text)) if text.isdigit() and len(text) < 9 else 1

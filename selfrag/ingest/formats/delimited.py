"""Tables as text: .csv, .tsv. A row becomes a record; citations keep its line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from selfrag.errors import InputError
from selfrag.ingest.decode import decoded
from selfrag.ingest.document import Document, Limits, Span
from selfrag.ingest.formats.plain_tables import YEAR, grouped
from selfrag.ingest.formats.records import Records, named_cell, shortened

csv.field_size_limit(2**24)

_SEPARATORS = "\t;|,"
_SNIFFED = 64 * 1024
_NUMBER = re.compile(r"\s*[$€£¥<>~]?\s*[-−+(]?\d[\d.,' \xa0]*(?:[eE][-+]?\d+)?\)?\s*[%$€£¥]?\s*\Z")
_MEASURE = re.compile(r"\s*(?:[A-Z]{3}\s)?[-−+]?\d[\d.,' \xa0]*\s*[^\W\d]{0,4}\Z")
_VALUE = re.compile(
    r"\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\S+@\S+\.\S|https?://|(?:true|false|yes|no|n/a|null|none)\Z", re.IGNORECASE
)
_IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(?:[_.-][a-z0-9]+)+\Z|[a-z]+(?:[A-Z][a-z0-9]+)+\Z|[A-Z][A-Z0-9]*_[A-Z0-9_]+\Z")


def read_csv(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Rows, each value with the name of its column if there is a header."""
    found = decoded(data)
    text, skipped = _without_hint(found.text)
    dialect = _dialect(text, path.suffix.lower())
    notes = list(found.notes)
    try:
        rows = list(_rows(text, dialect, skipped, notes))
    except csv.Error as error:
        raise InputError(f"not a table that can be read: {error}") from None
    return _table(rows, Records(limits.characters)).document(path, "csv", notes)


@dataclass(frozen=True, slots=True)
class _Dialect:
    separator: str
    quote: str | None = '"'
    escape: str | None = None

    def reader(self, text: str, strict: bool = False) -> Any:
        return csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.separator,
            quotechar=self.quote or '"',
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape,
            doublequote=True,
            skipinitialspace=True,
            strict=strict,
        )


def _without_hint(text: str) -> tuple[str, int]:
    """The table without a first line ``sep=;`` of a spreadsheet; the number of lines removed."""
    first, newline, rest = text.partition("\n")
    return (rest, 1) if newline and re.fullmatch(r'"?sep=.?"?\s*', first, re.IGNORECASE) else (text, 0)


def _dialect(text: str, suffix: str) -> _Dialect:
    """The separator that gives the rows the same number of cells. The quotation mark is ``"``, or ``'`` if it quotes cells
    throughout."""
    sample = text if len(text) <= _SNIFFED else text[: text.rfind("\n", 0, _SNIFFED) + 1] or text[:_SNIFFED]
    quote = "'" if '"' not in sample and _quoted_by_apostrophes(sample) else '"'
    escape = "\\" if '\\"' in sample and '""' not in sample.replace('\\"', "") else None
    order = _SEPARATORS if suffix != ".tsv" else "\t" + _SEPARATORS.replace("\t", "")
    judged = [(*_evenness(sample, _Dialect(each, quote, escape)), -at, each) for at, each in enumerate(order)]
    if suffix == ".tsv" and judged[0][0] > 0.5:
        return _Dialect("\t", quote, escape)
    best = max(judged)
    return _Dialect(best[3] if best[0] > 0 else ("\t" if suffix == ".tsv" else ","), quote, escape)


def _quoted_by_apostrophes(sample: str) -> bool:
    lines = [line for line in sample.split("\n")[:50] if line.strip()]
    return bool(lines) and all(re.match(r"\s*'.*'\s*\Z", line) and re.search(r"'[\t;|,]'", line) for line in lines)


def _evenness(sample: str, dialect: _Dialect) -> tuple[float, int]:
    """The share of rows with the most frequent number of cells, 0 if that is 1; and that number."""
    try:
        counts = Counter(len(row) for row in dialect.reader(sample) if any(cell.strip() for cell in row))
    except csv.Error:
        return 0.0, 0
    several = {width: count for width, count in counts.items() if width > 1}
    if not several:
        return 0.0, 0
    width, count = max(several.items(), key=lambda each: (each[1], each[0]))
    return round(count / sum(counts.values()), 1), width


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: list[str]


def _rows(text: str, dialect: _Dialect, before: int, notes: list[str]) -> Iterator[_Row]:
    if dialect.quote and (opened := _unclosed(text, dialect)):
        notes.append(f"a quotation mark is not closed (line {opened + before}); quotation marks are read as text")
        dialect = _Dialect(dialect.separator, None, dialect.escape)
    reader = dialect.reader(text)
    line = 1 + before
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield _Row(line, cells)
        line = reader.line_num + 1 + before


def _unclosed(text: str, dialect: _Dialect) -> int | None:
    """The line of a cell whose quotation mark is never closed, and which would contain all rows below."""
    reader = dialect.reader(text, strict=True)
    line = 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return line
    return None


def _table(rows: Sequence[_Row], out: Records) -> Records:
    """Each row as a record, with the names of its header; lines above the table are text."""
    widths = Counter(len(row.cells) for row in rows[:1000])
    usual = max(widths, key=lambda width: (widths[width] * (width > 1), width), default=1)
    first = next((at for at, row in enumerate(rows) if sum(map(bool, row.cells)) * 2 > usual), 0) if usual > 1 else 0
    for row in rows[:first]:
        out.add(" ".join(filter(None, row.cells)), row.line)
    names = _two_rows(rows[first : first + 3])
    named, sure = (2, True) if names else _header(rows[first : first + 200]) if first < len(rows) else (False, False)
    names = names or (rows[first].cells if named else [])
    if named and (not sure or len(rows) == first + 1):
        out.add(", ".join(filter(None, names)), rows[first].line, "\n\n")
    for row in rows[first + named :]:
        if len(row.cells) == 1 < usual:  # a remark between the rows
            out.add(row.cells[0], row.line, "\n\n")
            continue
        lines = [named_cell(names, column, value) for column, value in enumerate(row.cells) if value]
        start = out.add("\n".join(lines), row.line, "\n\n")
        out.spans.append(Span(start, out.offset, shortened(lines[0])))
    return out


def _two_rows(rows: Sequence[_Row]) -> list[str]:
    """The names of the columns where two rows over a row of values name them; empty if they do not."""
    if len(rows) < 3 or not any(map(_is_value, filter(None, rows[2].cells))):
        return []
    top, low = ({at: cell for at, cell in enumerate(row.cells) if cell} for row in rows[:2])
    names = grouped(top, low)
    return [names.get(at, "") for at in range(max(names) + 1)] if names else []


def _header(rows: Sequence[_Row]) -> tuple[bool, bool]:
    """Whether the first row is a header, and whether that is certain.

    It is not if it has a number, a date, an address or a value that is repeated below. It certainly is if a column below has
    numbers or dates, or its cells are identifiers. Otherwise it counts as a header, since most tables have one, and is also kept
    as a row.
    """
    cells = rows[0].cells
    filled = [cell for cell in cells if cell]
    if len(filled) < max(1, len(cells) - 1) or any(len(cell) > 80 for cell in filled):
        return False, True
    if any((_NUMBER.match(cell) and not YEAR.match(cell)) or _VALUE.match(cell) for cell in filled):
        return False, True
    below = [[row.cells[at] for row in rows[1:] if at < len(row.cells) and row.cells[at]] for at in range(len(cells))]
    typed = [bool(column) and sum(map(_is_value, column)) * 10 >= len(column) * 8 for column in below]
    if any(YEAR.match(cell) for cell in filled):  # years: names of columns over larger or smaller numbers
        years = [at for at, cell in enumerate(cells) if YEAR.match(cell)]
        return (True, True) if len(years) > 1 or len(rows) == 1 else (False, True)
    if any(kind and cells[at] for at, kind in enumerate(typed)):
        return True, True
    if sum(bool(_IDENTIFIER.match(cell)) for cell in filled) * 2 >= len(filled):
        return True, True
    if any(cell and cell in column for cell, column in zip(cells, below, strict=True)):
        return False, True
    return len(set(filled)) == len(filled), False


def _is_value(text: str) -> bool:
    return bool(_NUMBER.match(text) or _MEASURE.match(text) or _VALUE.match(text))

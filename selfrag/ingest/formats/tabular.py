"""Readers of rows and records: .csv, .tsv, .json, .jsonl. A record becomes lines ``name: value``; citations keep its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePath
from typing import Any

from selfrag.errors import InputError
from selfrag.ingest.decode import Decoded, decoded
from selfrag.ingest.document import Document, Limits, Span
from selfrag.ingest.formats.plain_tables import grouped

csv.field_size_limit(2**24)

# --- records to text -----------------------------------------------------------------------------------------------------------


@dataclass
class _Text:
    """Lines so far, with their records. ``limit`` is in characters."""

    limit: int
    pieces: list[str] = field(default_factory=list)
    anchors: list[tuple[int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    offset: int = 0

    def add(self, text: str, line: int, gap: str = "\n") -> int:
        """Appends lines of text from source line ``line``; returns their offset."""
        gap = gap if self.pieces else ""
        self.pieces += (gap, text)
        start = self.offset + len(gap)
        self.offset = start + len(text)
        if self.offset > self.limit:
            raise InputError(f"too much text: more than {self.limit:,} characters")
        if not self.anchors or self.anchors[-1][1] != line:
            self.anchors.append((start, line))
        return start

    def document(self, path: PurePath, reader: str, notes: Sequence[str] = (), lost: Sequence[str] = ()) -> Document:
        return Document(
            "".join(self.pieces),
            path.stem,
            reader,
            anchors=tuple(self.anchors),
            spans=tuple(self.spans),
            notes=tuple(notes),
            lost=tuple(lost),
        )


# --- tables --------------------------------------------------------------------------------------------------------------------

_SEPARATORS = "\t;|,"
_SNIFFED = 64 * 1024
_NUMBER = re.compile(r"\s*[$€£¥<>~]?\s*[-−+(]?\d[\d.,' \xa0]*(?:[eE][-+]?\d+)?\)?\s*[%$€£¥]?\s*\Z")
_MEASURE = re.compile(r"\s*(?:[A-Z]{3}\s)?[-−+]?\d[\d.,' \xa0]*\s*[^\W\d]{0,4}\Z")
_VALUE = re.compile(
    r"\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\S+@\S+\.\S|https?://|(?:true|false|yes|no|n/a|null|none)\Z", re.IGNORECASE
)
_YEAR = re.compile(r"(?:19|20)\d\d\Z")
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
    return _table(rows, _Text(limits.characters)).document(path, "csv", notes)


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


def _table(rows: Sequence[_Row], out: _Text) -> _Text:
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
        lines = [_cell(names, column, value) for column, value in enumerate(row.cells) if value]
        start = out.add("\n".join(lines), row.line, "\n\n")
        out.spans.append(Span(start, out.offset, _shortened(lines[0])))
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
    if any((_NUMBER.match(cell) and not _YEAR.match(cell)) or _VALUE.match(cell) for cell in filled):
        return False, True
    below = [[row.cells[at] for row in rows[1:] if at < len(row.cells) and row.cells[at]] for at in range(len(cells))]
    typed = [bool(column) and sum(map(_is_value, column)) * 10 >= len(column) * 8 for column in below]
    if any(_YEAR.match(cell) for cell in filled):  # years: names of columns over larger or smaller numbers
        years = [at for at, cell in enumerate(cells) if _YEAR.match(cell)]
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


def _cell(names: Sequence[str], column: int, value: str) -> str:
    name = names[column] if column < len(names) else ""
    return f"{name}: {value}" if name else value


def _shortened(text: str) -> str:
    first = text.split("\n")[0]
    return first if len(first) <= 100 else first[:100] + "…"


# --- JSON ----------------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[\[{]|[^\s\[\]{}:,"]+', re.DOTALL)
_COLUMNS = ("columns", "header", "headers", "fields", "names", "column_names", "cols", "keys", "colnames")
_NAMED = ("name", "id", "label", "field", "title", "key")
_SHOWN_LOST = 20


class _Number(str):
    """A number as it is written: 1.10 is not 1.1, and one of twenty digits keeps them."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """An object as its pairs, so that duplicate names are kept."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Object, parse_float=_Number, parse_int=_Number, parse_constant=_Number)


def read_jsonl(path: PurePath, data: bytes, limits: Limits) -> Document:
    """One JSON value per line; lines that are not JSON are skipped and reported."""
    found = decoded(data)
    lines = [(number, line) for number, line in enumerate(found.text.split("\n"), start=1) if line.strip()]
    out, lost = _Text(limits.characters), []
    values: list[tuple[int, Any, str]] = []
    for number, line in lines:
        try:
            values.append((number, _value(line, number), line))
        except InputError as error:
            lost.append(f"line {number} is left out: {error.message.removesuffix(f' (line {number})')}")
    if len(lost) * 2 > len(lines):
        if whole := _sequence(found.text):
            return _records(path, whole, limits, found)
        raise InputError(f"not JSON lines: {len(lost):,} of {len(lines):,} lines cannot be read; {lost[0]}")
    for number, value, line in values:
        _Walk(out, _Lines(line, number)).record("", value)
    more = [f"{len(lost) - _SHOWN_LOST:,} more lines are left out"] if len(lost) > _SHOWN_LOST else []
    return out.document(path, "jsonl", found.notes, [*lost[:_SHOWN_LOST], *more])


def read_json(path: PurePath, data: bytes, limits: Limits) -> Document:
    """One JSON value, or several one after the other: each scalar is a line ``path.of.keys: value``, objects in a list are
    records, and lists of values under a list of columns are rows. Anything that is not JSON is read as text."""
    found = decoded(data)
    try:
        return _records(path, [(0, len(found.text), _value(found.text, 1))], limits, found)
    except InputError as error:
        if not error.message.startswith("not JSON"):
            raise
        if values := _sequence(found.text):
            return _records(path, values, limits, found)
        rows = [line for line in found.text.split("\n") if line.strip()]
        if len(rows) > 2 and sum(map(_is_json, rows[:50])) * 10 >= len(rows[:50]) * 8:
            return read_jsonl(path, data, limits)
        return Document(found.text, path.stem, "text", notes=(*found.notes, f"{error.message}; read as text"))


def _records(path: PurePath, values: Iterable[tuple[int, int, Any]], limits: Limits, found: Decoded) -> Document:
    out = _Text(limits.characters)
    try:
        for start, end, value in values:
            line = found.text.count("\n", 0, start) + 1
            _Walk(out, _Lines(found.text[start:end], line)).record("", value)
    except RecursionError:
        raise InputError("JSON that is nested too deeply") from None
    return out.document(path, "json", found.notes)


def _value(text: str, line: int) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg.lower()} (line {line + error.lineno - 1})") from None
    except RecursionError:
        raise InputError("JSON that is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"JSON that cannot be read: {error}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _sequence(text: str) -> list[tuple[int, int, Any]]:
    """Several values in a row, each with its start and end; empty if there is anything else in between."""
    values: list[tuple[int, int, Any]] = []
    at = len(text) - len(text.lstrip(" \t\n\r\x1e"))
    while at < len(text):
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, list):
            return []
        values.append((at, end, value))
        at = end
        while at < len(text) and text[at] in " \t\n\r\x1e,":
            at += 1
    return values


class _Lines:
    """The lines in which the values of a JSON text begin, in order, without keys."""

    def __init__(self, text: str, line: int) -> None:
        self._text = text
        self._tokens = _TOKEN.finditer(text) if "\n" in text else iter(())
        self._line, self._counted = line, 0

    def next(self) -> int:
        for token in self._tokens:
            if token.group(1) is None:
                self._line += self._text.count("\n", self._counted, token.start())
                self._counted = token.start()
                return self._line
        return self._line


class _Walk:
    """Values to lines, in the order of the text, with the line that each value begins in."""

    def __init__(self, out: _Text, lines: _Lines) -> None:
        self.out = out
        self.lines = lines
        self.gap = "\n\n"

    def record(self, name: str, value: Any) -> None:
        """A record: an element of a list, or a whole file, whose content is kept together."""
        start, before = self.out.offset, len(self.out.pieces)
        self.gap = "\n\n"
        self.value(name, value)
        if len(self.out.pieces) > before:
            first = start + len(self.out.pieces[before])
            own = isinstance(value, _Object) and value and not isinstance(value[0][1], list)
            self.out.spans.append(Span(first, self.out.offset, _shortened(self.out.pieces[before + 1]) if own else ""))
        self.gap = "\n\n"

    def value(self, name: str, value: Any, columns: Sequence[str] = ()) -> None:
        line = self.lines.next()
        if isinstance(value, _Object):
            columns = _columns_of(value)
            tables = [key.lower() not in _COLUMNS and _fits_columns(below, columns) for key, below in value]
            for (key, below), table in zip(value, tables, strict=True):
                if any(tables) and _column_names(key, below) == columns:
                    self._pass(below)  # they stand in every row
                    continue
                self.value(f"{name}.{key}" if name else key, below, columns if table else ())
        elif isinstance(value, list):
            self._list(name, value, columns)
        elif value is not None and value != "":
            text = value if isinstance(value, str) else json.dumps(value)
            self.out.add(f"{name}: {text}" if name else text, line, self.gap)
            self.gap = "\n"

    def _list(self, name: str, value: list[Any], columns: Sequence[str]) -> None:
        if not columns and _is_grid(value):
            columns = [str(cell) for cell in value[0]]
            self._pass(value[0])
            value = value[1:]
        if columns:
            for row in value:
                self._row(columns, row)
            return
        for below in value:
            if isinstance(below, _Object | list):
                self.record(name, below)
            else:
                self.value(name, below)
                self.gap = "\n" if name else "\n\n"

    def _row(self, columns: Sequence[str], row: list[Any]) -> None:
        line = self.lines.next()
        for _ in row:
            self.lines.next()
        lines = [_cell(columns, at, cell if isinstance(cell, str) else json.dumps(cell)) for at, cell in enumerate(row)]
        shown = [text for text, cell in zip(lines, row, strict=True) if cell is not None and cell != ""]
        if shown:
            start = self.out.add("\n".join(shown), line, "\n\n")
            self.out.spans.append(Span(start, self.out.offset, _shortened(shown[0])))
        self.gap = "\n\n"

    def _pass(self, value: Any) -> None:
        """Skips the lines of values that are not written."""
        self.lines.next()
        if isinstance(value, list):
            for below in value:
                self._pass(below[1] if isinstance(value, _Object) else below)


def _columns_of(table: _Object) -> list[str]:
    """The column names that an object has next to its rows."""
    return next((names for key, value in table if (names := _column_names(key, value))), [])


def _column_names(key: str, value: Any) -> list[str]:
    if key.lower() not in _COLUMNS or not isinstance(value, list) or isinstance(value, _Object):
        return []
    names = [_name_of(each) for each in value]
    return names if all(names) and len(set(names)) == len(names) else []


def _name_of(value: Any) -> str:
    if isinstance(value, _Object):
        held = dict(value)
        return next((held[key] for key in _NAMED if isinstance(held.get(key), str)), "")
    return value if _is_word(value) else ""


def _fits_columns(rows: Any, columns: Sequence[str]) -> bool:
    return bool(columns) and bool(rows) and _is_rows(rows) and all(len(row) == len(columns) for row in rows)


def _is_rows(value: Any) -> bool:
    if not isinstance(value, list) or isinstance(value, _Object):
        return False
    return all(
        isinstance(row, list) and not isinstance(row, _Object) and row and not any(isinstance(cell, list) for cell in row)
        for row in value
    )


def _is_grid(value: list[Any]) -> bool:
    """Whether a list of lists begins with a header."""
    if len(value) < 2 or not _is_rows(value) or len({len(row) for row in value}) != 1 or len(value[0]) < 2:
        return False
    first = value[0]
    named = all(_is_word(cell) and cell for cell in first) and len(set(first)) == len(first)
    rest = islice(value, 1, 50)
    return named and any(not _is_word(cell) for row in rest for cell in row)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Number)

"""JSON: .json, .jsonl. An object in a list becomes a record; citations keep its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

from selfrag.errors import InputError
from selfrag.ingest.decode import Decoded, decoded
from selfrag.ingest.document import Document, Limits, Span
from selfrag.ingest.formats.records import Records, named_cell, shortened

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
    out, lost = Records(limits.characters), []
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
    out = Records(limits.characters)
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

    def __init__(self, out: Records, lines: _Lines) -> None:
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
            self.out.spans.append(Span(first, self.out.offset, shortened(self.out.pieces[before + 1]) if own else ""))
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
        lines = [named_cell(columns, at, cell if isinstance(cell, str) else json.dumps(cell)) for at, cell in enumerate(row)]
        shown = [text for text, cell in zip(lines, row, strict=True) if cell is not None and cell != ""]
        if shown:
            start = self.out.add("\n".join(shown), line, "\n\n")
            self.out.spans.append(Span(start, self.out.offset, shortened(shown[0])))
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

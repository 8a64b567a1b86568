"""Readers of rows and records: .csv, .tsv, .json, .jsonl. A record becomes lines ``name: value``; citations keep its line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import PurePath
from typing import Any

from selfrag.errors import InputError
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits

_TOKEN = re.compile(r'[ \t\n\r]*(?:(")|([\[{])|([\]}])|([:,])|([^\s\[\]{}:,"]+))')
_NUMBER = re.compile(r"[-+]?[\d.,]+%?\Z")
csv.field_size_limit(2**24)


def read_csv(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Rows, each value under the name of its column where the first row names them."""
    text = decode(data)
    dialect = csv.excel_tab if path.suffix.lower() == ".tsv" else _dialect(text[:8192])
    try:
        return _document(path, "csv", _rows(text, dialect), limits)
    except csv.Error as error:
        raise InputError(f"not a table that can be read: {error}") from None


def read_jsonl(path: PurePath, data: bytes, limits: Limits) -> Document:
    """One JSON value a line."""
    lines = decode(data).split("\n")
    records = ((number, _json(line, number)) for number, line in enumerate(lines, start=1) if line.strip())
    return _document(path, "jsonl", ((number, "\n".join(_flat("", value))) for number, value in records), limits)


def read_json(path: PurePath, data: bytes, limits: Limits) -> Document:
    """One JSON value: each scalar is a line ``path.of.keys: value``; objects in a list are records."""
    text = decode(data)
    _json(text, 1)  # a message with the line where it is wrong
    return _document(path, "json", _leaves(text), limits)


def _document(path: PurePath, reader: str, records: Iterable[tuple[int, str]], limits: Limits) -> Document:
    """Joins records (line, text) with an empty line between them."""
    pieces: list[str] = []
    anchors: list[tuple[int, int]] = []
    offset = 0
    for line, text in records:
        if not text.strip():
            continue
        anchors.append((offset, line))
        pieces.append(text)
        offset += len(text) + 2
        if offset > limits.characters:
            raise InputError(f"too much text: more than {limits.characters:,} characters")
    return Document("\n\n".join(pieces), path.stem, reader, anchors=tuple(anchors))


def _dialect(sample: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:
        return csv.excel


def _rows(text: str, dialect: type[csv.Dialect]) -> Iterator[tuple[int, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), dialect)
    line, names = 1, None
    for row in rows:
        if names is None and _names(row):
            names = row
        else:
            names = names or []
            yield line, "\n".join(_cell(names, column, value) for column, value in enumerate(row) if value.strip())
        line = rows.line_num + 1


def _names(row: list[str]) -> bool:
    """Whether a row reads like the names of columns: all there, all different, short, none a number."""
    cells = [cell.strip() for cell in row]
    return len(set(cells)) == len(cells) and all(cell and len(cell) < 60 and not _NUMBER.match(cell) for cell in cells)


def _cell(names: list[str], column: int, value: str) -> str:
    return f"{names[column].strip()}: {value.strip()}" if column < len(names) else value.strip()


def _json(text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg.lower()} (line {line + error.lineno - 1})") from None
    except RecursionError:
        raise InputError("JSON that is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"JSON that cannot be read: {error}") from None


def _flat(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _flat(f"{name}.{key}" if name else key, below)
    elif isinstance(value, list):
        for below in value:
            yield from _flat(name, below)
    elif value is not None and value != "":
        yield f"{name}: {_scalar(value)}" if name else _scalar(value)


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _leaves(text: str) -> Iterator[tuple[int, str]]:
    """Records of valid JSON with the lines that they begin in: a record ends where an object does, and after each scalar that
    stands in no object. Walks tokens, not values, because only tokens know where they stand."""
    names: list[str | None] = []  # for each open container the key that is being read, None in a list
    record: list[str] = []
    line, counted, began = 1, 0, 1
    position, key = 0, True
    while token := _TOKEN.match(text, position):
        start, position = token.start(token.lastindex or 0), token.end()
        value: str | None = None
        if token.group(1):
            value, position = scanstring(text, start + 1, False)
            if names and names[-1] is not None and key:
                names[-1], value, key = value, None, False
        elif token.group(2):
            names.append("" if token.group(2) == "{" else None)
            key = True
        elif token.group(3):
            if names.pop() is not None and record:
                yield began, "\n".join(record)
                record = []
            key = False
        elif token.group(4):
            key = token.group(4) == ","
        else:
            value = token.group(5)
        if value and value != "null":
            line, counted = line + text.count("\n", counted, start), start
            began = began if record else line
            name = ".".join(each for each in names if each)
            record.append(f"{name}: {value}" if name else value)
            if not any(each is not None for each in names):
                yield began, "\n".join(record)
                record = []
    if record:
        yield began, "\n".join(record)

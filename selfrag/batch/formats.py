"""The formats of a batch's rows: JSON Lines in the schema of `ask --json`, or CSV with the main metrics."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from selfrag.answers.citations import location
from selfrag.answers.schema import error_json, evidence_means, utility
from selfrag.errors import InputError

Json = dict[str, Any]
RESERVED = frozenset((*error_json("", ""), "line", "hash", "passages"))
"""The names of a row's own fields; a column of the input with such a name is kept as ``input_NAME``."""


class Format(Protocol):
    """``read`` yields each complete row with its bytes, and stops before an incomplete last row."""

    def encode(self, row: Json) -> bytes: ...

    def read(self, path: Path) -> Iterator[tuple[Json, bytes]]: ...


def json_line(row: Json) -> bytes:
    """A lone surrogate becomes its JSON escape, so that the line is always valid UTF-8."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


class JsonLines:
    def encode(self, row: Json) -> bytes:
        return json_line(row)

    def read(self, path: Path) -> Iterator[tuple[Json, bytes]]:
        with path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                try:
                    row = json.loads(raw)
                    _ = row["id"], row["hash"], row["status"]
                except (ValueError, KeyError, TypeError):
                    if stream.read(1):
                        raise foreign(path, number) from None
                    return
                yield row, raw if raw.endswith(b"\n") else raw + b"\n"


class Csv:
    """One line per question. The first row fixes the columns; further keys of later rows go to the column "more" as JSON."""

    def __init__(self) -> None:
        self.columns: list[str] = []

    def encode(self, row: Json) -> bytes:
        flat, first = flatten(row), not self.columns
        if first:
            self.columns = [*flat, "more", "line", "hash"]
        rest = {name: value for name, value in flat.items() if name not in self.columns}
        more = json.dumps(rest, ensure_ascii=False) if rest else ""
        flat |= {"more": more, "line": row["line"], "hash": row["hash"]}
        head = csv_line(self.columns) if first else b""
        return head + csv_line([flat.get(name, "") for name in self.columns])

    def read(self, path: Path) -> Iterator[tuple[Json, bytes]]:
        whole = ends_with_newline(path)
        with path.open(encoding="utf-8", errors="backslashreplace", newline="") as stream:
            reader, records, last = csv.reader(stream, strict=True), 0, None
            try:
                for fields in reader:
                    if last is not None:
                        yield self.keep(path, last, records)
                    records, last = records + 1, fields
                if last is not None and whole:
                    yield self.keep(path, last, records)
            except csv.Error:
                if stream.read(1):
                    raise foreign(path, reader.line_num) from None
                if last is not None:
                    yield self.keep(path, last, records)

    def keep(self, path: Path, fields: list[str], number: int) -> tuple[Json, bytes]:
        if number == 1:
            self.columns = fields
            row: Json = {"id": "", "hash": "", "status": "header"}
        else:
            row = dict(zip(self.columns, fields, strict=False))
        if len(fields) != len(self.columns) or not {"id", "hash", "status"} <= {*self.columns}:
            raise foreign(path, number)
        return row, csv_line(fields)


def csv_line(fields: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode("utf-8", "backslashreplace")


def flatten(row: Json) -> Json:
    """The row's main metrics and its kept columns; the critique is the mean over the segments that carry it."""
    isrel, issup = evidence_means(row["segments"]) or ("", "")
    means = {"isrel": isrel, "issup": issup, "isuse": utility(row["segments"]) if row["segments"] else ""}
    found = {
        **{name: row[name] for name in ("id", "question", "status", "answer", "score")},
        "confidence": row.get("confidence"),  # rows of version 0.1 have none
        **means,
        "p_retrieve": row["retrieval"]["probability"],
        "citations": "; ".join(location(c["source"], c) for c in row["citations"]),
        "tokens": row["usage"]["completion_tokens"],
        "ms": round(row["timing_ms"]["total"], 1),
        "error": row["error"],
    }
    own = {name: value for name, value in row.items() if name not in RESERVED}
    return found | {n: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for n, v in own.items()}


def ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def foreign(path: Path, line: int) -> InputError:
    return InputError(
        f"{path}, line {line}, is not a row that `selfrag batch` wrote",
        "-o names another file; --restart overwrites none but an output of `selfrag batch`",
    )

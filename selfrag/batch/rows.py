"""Questions from JSON Lines, CSV or standard input, one at a time.

An invalid row raises no exception but becomes a `Row` with a ``problem``: it takes part in the run and fails there, with its
line reported. Only an input that cannot be read at all raises.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, NoReturn

from selfrag.errors import InputError

MAX_LINE = 16 << 20
"""Bytes of one row that are held at once; a longer one is reported and skipped."""
MAX_QUESTION = 32_000
"""Characters. Longer than the context of the models that reflect."""
LISTS = ("answers", "choices", "sources")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input. ``line`` is 1-based; ``digest`` identifies the question together with its choices and wording.

    ``instruction`` is what the model reads instead of the question, if they differ. ``extra`` holds the row's other columns,
    kept for the output. ``problem`` says why the row is not a valid question, None if it is.
    """

    line: int
    id: str | int
    question: str
    digest: str
    choices: tuple[str, ...] = ()
    instruction: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def key(self) -> str:
        """The identity of a row: 7 and "7" are the same id."""
        return str(self.id)


def digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def bad_row(line: int, raw: str, problem: str, extra: Mapping[str, Any] | None = None) -> Row:
    shown = raw if len(raw) <= 200 else raw[:200] + "…"
    shown = shown.encode("utf-8", "replace").decode()
    return Row(line, f"line-{line}", shown.strip(), digest(raw), extra=extra or {}, problem=problem)


def make_row(record: Mapping[str, Any], line: int) -> Row:
    """A row from its columns. Without an "id" it gets one that is stable: its line and the beginning of its digest."""
    question, given, choices = record.get("question"), record.get("id"), record.get("choices") or []
    instruction = record.get("instruction") or None
    extra = {name: value for name, value in record.items() if name not in ("question", "id")}
    problem = _problem(question, given, choices)
    if problem or not isinstance(question, str):
        raw = (
            question
            if isinstance(question, str) and question.strip()
            else json.dumps(dict(record), ensure_ascii=False, default=str)
        )
        row = bad_row(line, raw, problem or "")
        usable = isinstance(given, str | int) and not isinstance(given, bool) and given != "" and _encodable(str(given))
        return replace(row, id=given) if usable and given is not None else row
    mark = digest(question, *choices, str(instruction or ""))
    name = f"{line}-{mark[:8]}" if given is None or given == "" else given
    return Row(line, name, question, mark, tuple(choices), str(instruction) if instruction else None, extra)


def _problem(question: object, given: object, choices: object) -> str | None:
    if question is None:
        return 'there is no "question"'
    if not isinstance(question, str) or not question.strip():
        return '"question" is not a text with words in it'
    if len(question) > MAX_QUESTION:
        return f"the question has {len(question):,} characters, at most {MAX_QUESTION:,} are taken"
    if not _encodable(question):
        return "the question is not valid Unicode (wrong encoding?)"
    if given is not None and (not isinstance(given, str | int) or isinstance(given, bool)):
        return f'"id" is {given!r}, not a text or a whole number'
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        return '"choices" is not a list of texts'
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# --- JSON Lines ----------------------------------------------------------------------------------------------------------------


def read_jsonl(stream: BinaryIO) -> Iterator[Row]:
    """Rows of JSON Lines; skips blank lines."""
    number = 0
    while raw := stream.readline(MAX_LINE):
        number += 1
        if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            _skip_line(stream)
            yield bad_row(number, raw[:400].decode("utf-8", "replace"), f"the line is longer than {MAX_LINE:,} bytes")
        elif raw.strip():
            yield _json_row(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, number)


def _skip_line(stream: BinaryIO) -> None:
    while (rest := stream.readline(MAX_LINE)) and not rest.endswith(b"\n"):
        pass


def _json_row(raw: bytes, number: int) -> Row:
    try:
        record = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        return bad_row(number, raw.decode("utf-8", "replace"), f"not UTF-8 at byte {error.start + 1} of the line")
    except (ValueError, RecursionError) as error:
        return bad_row(number, raw.decode("utf-8"), f"not JSON: {error}")
    if not isinstance(record, dict):
        return bad_row(number, raw.decode("utf-8"), "not a JSON object")
    return make_row(record, number)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


# --- other forms ---------------------------------------------------------------------------------------------------------------


def in_utf8(stream: BinaryIO) -> BinaryIO:
    """The same text in UTF-8: what spreadsheets write as "Unicode text" is UTF-16."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    if buffered.peek(2)[:2] not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return buffered
    try:
        return io.BytesIO(buffered.read().decode("utf-16").encode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise InputError(f"the questions are not valid UTF-16 (byte {error.start})", "save them as UTF-8") from None


def read_array(stream: BinaryIO, name: str) -> Iterator[Row]:
    """The items of one JSON array: objects with "question", or questions. A row's line is the item's number."""
    try:
        items = json.loads(stream.read().decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not a JSON array: {error}", "correct it, or use JSON Lines") from None
    for number, item in enumerate(items, 1):
        if isinstance(item, str | dict):
            yield make_row({"question": item} if isinstance(item, str) else item, number)
        else:
            yield bad_row(number, json.dumps(item), "neither a JSON object nor a text")


def read_lines(stream: BinaryIO) -> Iterator[Row]:
    """One question per line; skips blank lines."""
    for number, raw in enumerate(stream, 1):
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
        if text:
            yield make_row({"question": text}, number)


# --- CSV -----------------------------------------------------------------------------------------------------------------------


def read_csv(stream: BinaryIO, name: str) -> Iterator[Row]:
    """Rows of CSV with a header; comma, semicolon or tab, whichever makes a column "question" of the header.

    "answers", "choices" and "sources" hold a JSON list or texts separated by "|".
    """
    csv.field_size_limit(MAX_LINE)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline()
    delimiter = next((d for d in ",;\t" if "question" in next(csv.reader([first], delimiter=d), [])), None)
    if delimiter is None:
        raise InputError(
            f'{name}: the header has no column "question": {first.strip()[:200]!r}', "rename the column, or use JSON Lines"
        )
    header = next(csv.reader([first], delimiter=delimiter))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 2
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            last = reader.line_num + 1
            span = "" if last <= line else f", a field that begins here runs to line {last}"
            yield bad_row(line, f"line {line}", f"not CSV: {error}{span}")
            continue
        if fields:
            yield _csv_row(header, fields, line)


def _csv_row(header: list[str], fields: list[str], line: int) -> Row:
    joined = " ".join(fields)
    if len(fields) > len(header):
        return bad_row(line, joined, f"{len(fields)} fields, but the header has {len(header)}: is a separator not quoted?")
    if not _encodable(joined):
        return bad_row(line, joined, "not UTF-8")
    record: dict[str, Any] = dict(zip(header, fields, strict=False))
    for name in LISTS:
        if name in record:
            record[name] = _listed(record[name])
    if "unanswerable" in record:
        record["unanswerable"] = record["unanswerable"].strip().lower() in ("true", "1", "yes")
    return make_row(record, line)


def _listed(cell: str) -> list[Any]:
    if cell.lstrip().startswith("["):
        try:
            return list(json.loads(cell))
        except ValueError:
            pass  # a text that begins with a bracket
    return [part.strip() for part in cell.split("|") if part.strip()]


# --- whole inputs --------------------------------------------------------------------------------------------------------------


def unique(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows; one whose id came before is a problem. Ids are remembered by their 64-bit hash, not by their text."""
    seen: set[int] = set()
    for row in rows:
        mark = hash(row.key)
        if mark in seen:
            problem = f"the id {row.key!r} occurs twice"
            yield replace(bad_row(row.line, row.question, problem, row.extra), digest=row.digest)
        else:
            yield row
        seen.add(mark)


def sample(rows: Iterable[Row], total: int, count: int, seed: int) -> Iterator[Row]:
    """``count`` of ``total`` rows, the same ones for the same ``seed``, in their order."""
    chosen = set(Random(seed).sample(range(total), min(count, total)))
    return (row for number, row in enumerate(rows) if number in chosen)


@dataclass(frozen=True, slots=True)
class Survey:
    """A file in one quick pass: what identifies it, and how many rows it has at most."""

    sha256: str
    lines: int


def survey(path: Path) -> Survey:
    """Raises InputError if the file cannot be read."""
    mark, lines, last = hashlib.sha256(), 0, b"\n"
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                mark.update(block)
                lines += block.count(b"\n")
                last = block[-1:]
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", "name a file of questions, or - for standard input"
        ) from error
    return Survey(mark.hexdigest(), lines + (last != b"\n"))

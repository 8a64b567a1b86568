"""The output file of a batch, written row by row: a run can be killed at any moment and resumed later.

OUT.meta.json holds the settings and the fingerprint of the input of OUT, so that a resumed run cannot mix two of them. Finished
rows are identified by id and question digest, never by counting.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from filelock import FileLock, Timeout

from selfrag._util import write_whole
from selfrag.batch.formats import Csv, Format, JsonLines, foreign
from selfrag.batch.rows import Row
from selfrag.errors import InputError, LockedError

Json = dict[str, Any]
OnChange = Literal["refuse", "restart", "append"]
META_SCHEMA = "selfrag.batch/1"


class Sink(Protocol):
    """Receives finished rows. ``done`` maps the ids already present to their question digests."""

    @property
    def done(self) -> Mapping[str, str]: ...

    def append(self, row: Json) -> None: ...


@dataclass(slots=True)
class MemorySink:
    """A sink in memory."""

    rows: list[Json] = field(default_factory=list)
    done: Mapping[str, str] = field(default_factory=dict)

    def append(self, row: Json) -> None:
        self.rows.append(row)


@dataclass(slots=True)
class StdoutSink:
    """A sink on standard output, without rows of earlier runs."""

    format: Format = field(default_factory=JsonLines)
    done: Mapping[str, str] = field(default_factory=dict)

    def append(self, row: Json) -> None:
        sys.stdout.buffer.write(self.format.encode(row))
        sys.stdout.buffer.flush()


# --- what a file belongs to ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meta:
    """``input`` is the digest of the input file, None for standard input; ``settings`` holds the ones that change answers."""

    input: str | None
    settings: Mapping[str, Any]

    def changes(self, old: Meta) -> list[str]:
        """The differences from ``old``, as a message."""
        found = ["the input has changed"] if self.input and old.input and self.input != old.input else []
        for name in dict.fromkeys((*old.settings, *self.settings)):
            before, now = old.settings.get(name), self.settings.get(name)
            if before != now:
                found.append(f"{name} was {before!r} and is {now!r}")
        return found


def meta_path(out: Path) -> Path:
    return out.with_name(out.name + ".meta.json")


def load_meta(out: Path) -> Meta | None:
    """None if the file is missing; InputError if it is damaged."""
    path = meta_path(out)
    try:
        found = json.loads(path.read_text("utf-8"))
        return Meta(found["input"], dict(found["settings"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "--restart starts over, --append continues") from error


def save_meta(out: Path, meta: Meta) -> None:
    document = {"schema": META_SCHEMA, **asdict(meta)}
    write_whole(meta_path(out), [json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"])


# --- the file itself -----------------------------------------------------------------------------------------------------------


class Journal:
    """The rows of one output file, locked against a second run until it is closed; `open_journal` makes it."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path, self.lock = path, lock
        self.format = format_of(path)
        self.done: dict[str, str] = {}
        self.descriptor: int | None = None

    def resume(self, stale: Mapping[str, str]) -> None:
        """Keeps the finished rows; drops failed rows, an incomplete last line and rows that answer another question. ``stale``
        maps the ids of a changed input to the digests of their current questions."""
        size = 0
        for row, raw in self.good(stale):
            size += len(raw)
            if row["status"] != "header":
                self.done[str(row["id"])] = str(row["hash"])
        if size != self.path.stat().st_size:
            write_whole(self.path, (raw for _, raw in self.good(stale)))

    def good(self, stale: Mapping[str, str]) -> Iterator[tuple[Json, bytes]]:
        seen: set[str] = set()
        for row, raw in self.format.read(self.path):
            key = str(row["id"])
            if row["status"] != "error" and key not in seen and stale.get(key, row["hash"]) == row["hash"]:
                seen.add(key)
                yield row, raw

    def append(self, row: Json) -> None:
        """Writes the row without Python's buffering: a killed process loses at most the row being written."""
        rest = self.format.encode(row)
        try:
            if self.descriptor is None:
                self.descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}", "make room; the same command resumes") from error

    def close(self) -> None:
        if self.descriptor is not None:
            os.fsync(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = None
        self.lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_journal(out: Path, meta: Meta, rows: Callable[[], Iterable[Row]], on_change: OnChange = "refuse") -> Journal:
    """Opens ``out`` for a run described by ``meta``, resuming where an earlier one stopped.

    InputError if the input or the settings differ from those of the existing rows, or if the file is not a batch output (not
    even "restart" overwrites that). "append" keeps the rows whose questions are unchanged and answers the others again.
    ``rows`` reads the input. LockedError if another run is writing to it.
    """
    if out.exists() and not out.is_file():
        raise InputError(f"{out} is not a file that a run can resume", "name a file; without -o the rows are printed")
    journal = Journal(out, _lock(out))
    try:
        _check_ours(out)
        if on_change == "restart":
            out.unlink(missing_ok=True)
        if out.exists() and out.stat().st_size:
            old = load_meta(out)
            changes = meta.changes(old) if old else [f"{meta_path(out).name} is missing"]
            if changes and on_change == "refuse":
                raise _refusal(out, changes)
            journal.resume({row.key: row.digest for row in rows()} if changes and meta.input else {})
        save_meta(out, meta)
        out.touch()
    except BaseException:
        journal.close()
        raise
    return journal


def format_of(out: Path) -> Format:
    return Csv() if out.suffix.lower() == ".csv" else JsonLines()


def _check_ours(out: Path) -> None:
    """Raises InputError unless a run wrote ``out``, so that no other file is overwritten."""
    if out.exists() and out.stat().st_size and not meta_path(out).exists() and next(format_of(out).read(out), None) is None:
        raise foreign(out, 1)


def _lock(out: Path) -> FileLock:
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(f"another run is writing to {out}", "wait for it, or name another file with -o") from None
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}", "name another file with -o") from error
    return lock


def _refusal(out: Path, changes: Sequence[str]) -> InputError:
    return InputError(
        f"{out} holds rows of another run: {'; '.join(changes)}",
        "--append keeps the rows whose question is the same and continues; --restart starts over; -o names another file",
    )

"""The history: one SQLite file with every question, its answer as JSON, and its rating.

A rollback journal instead of a write-ahead log keeps it a single file, readable only by its owner (mode 0600). An answer is on
disk when `add` returns. Any number of processes may write; each waits for the others.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

from selfrag.errors import InputError, UsageError

Json = dict[str, Any]
Verdict = Literal["good", "bad"]

VERSION = 1
LIMIT = 100 * 2**20
"""Default maximum size of the file, in bytes."""
_SCHEMA = """
CREATE TABLE sessions(id INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL);
CREATE TABLE answers(
  id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL REFERENCES sessions(id), asked REAL NOT NULL,
  typed TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, document TEXT NOT NULL, conditions TEXT NOT NULL,
  verdict TEXT, note TEXT NOT NULL DEFAULT '');
CREATE INDEX answers_by_session ON answers(session, id);
"""
_COLUMNS = "id, session, asked, typed, document, conditions, verdict, note"
_PATIENCE = 30.0  # seconds to wait for other writers


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of a session.

    ``asked`` is in seconds since 1970. ``typed`` is what the person wrote; for a follow-up, the question in ``document``
    differs. ``document`` is the answer as `ask --json` printed it. ``conditions`` holds what the judgements depend on besides the
    model ("options", "reflector", "retriever").
    """

    id: int
    session: int
    asked: float
    typed: str
    document: Any
    conditions: Json = field(default_factory=dict)
    verdict: Verdict | None = None
    note: str = ""


class History:
    """The open history file. Every method raises InputError for a file that cannot be used."""

    def __init__(self, path: Path, db: sqlite3.Connection, limit: int) -> None:
        self.path, self.db, self.limit = path, db, limit

    @classmethod
    def open(cls, path: Path, limit: int = LIMIT) -> Self:
        """Opens the file, creating it if necessary. Above ``limit`` bytes `add` drops old answers."""
        with _errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            path.chmod(0o600)
            db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            db.create_function("fold", 1, fold, deterministic=True)
            db.execute("PRAGMA auto_vacuum=FULL")
            db.execute("PRAGMA secure_delete=ON")  # removed rows are overwritten in the file
            db.execute("PRAGMA synchronous=FULL")
            history = cls(path, db, limit)
            history._prepare()
        return history

    def _prepare(self) -> None:
        if self._version() == 0:
            with self._writing() as db:
                if self._version() == 0:  # no other process created it in the meantime
                    for statement in filter(str.strip, _SCHEMA.split(";")):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version={VERSION}")
        if self._version() != VERSION:
            raise InputError(f"{self.path} has version {self._version()}, this program reads {VERSION}", "update selfrag")

    def _version(self) -> int:
        return int(self.db.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A durable transaction."""
        with _errors(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    # --- writing ----------------------------------------------------------------------------------------------------------

    def add(
        self, document: Mapping[str, Any], typed: str = "", session: int | None = None, conditions: Mapping[str, Any] = {}
    ) -> Entry:
        """Keeps an answer, in a new session unless one is named, and drops the oldest ones above the limit."""
        now = time.time()
        with self._writing() as db:
            if session is None or not db.execute("SELECT 1 FROM sessions WHERE id = ?", (session,)).fetchone():
                session = _number(db.execute("INSERT INTO sessions(started) VALUES (?)", (now,)))
            values = (session, now, typed or document["question"], document["question"], document["answer"])
            texts = (json.dumps(document, ensure_ascii=False), json.dumps(conditions, ensure_ascii=False))
            query = (
                "INSERT INTO answers(session, asked, typed, question, answer, document, conditions) VALUES (?, ?, ?, ?, ?, ?, ?)"
            )
            number = _number(db.execute(query, values + texts))
            self._make_room(number)
        return Entry(number, session, now, values[2], document, dict(conditions))

    def _make_room(self, newest: int) -> None:
        """Drops the oldest answers, those without a verdict first, until the file is below its limit."""
        used = self._used()
        if used <= self.limit:
            return
        rows = self.db.execute(
            "SELECT id, length(CAST(document AS BLOB)) + length(CAST(conditions AS BLOB)) FROM answers WHERE id != ?"
            " ORDER BY verdict IS NOT NULL, id",
            (newest,),
        ).fetchall()
        dropped = []
        for number, size in rows:
            if used <= self.limit * 0.9:  # some room for the next ones
                break
            dropped.append((number,))
            used -= size
        self.db.executemany("DELETE FROM answers WHERE id = ?", dropped)
        self._drop_empty_sessions()

    def _used(self) -> int:
        one = self.db.execute(
            "SELECT page_size * (page_count - freelist_count) FROM pragma_page_size, pragma_page_count, pragma_freelist_count"
        ).fetchone()
        return int(one[0])

    def _drop_empty_sessions(self) -> None:
        self.db.execute("DELETE FROM sessions WHERE id NOT IN (SELECT session FROM answers)")

    def rate(self, id: int, verdict: Verdict, note: str = "") -> Entry:
        """Stores the user's verdict on an answer, replacing an earlier one. Raises InputError for an unknown ``id``."""
        if verdict not in get_args(Verdict):
            raise UsageError(f"{verdict!r} is neither good nor bad", f"selfrag feedback {id} good")
        with self._writing() as db:
            found = db.execute("UPDATE answers SET verdict = ?, note = ? WHERE id = ?", (verdict, note, id)).rowcount
        if not found:
            raise self._unknown(id)
        return self.get(id)

    def remove(self, ids: Sequence[int]) -> int:
        """Removes these answers; returns how many there were. Raises InputError, and removes nothing, if one is unknown."""
        with self._writing() as db:
            for id in ids:
                if not db.execute("DELETE FROM answers WHERE id = ?", (id,)).rowcount:
                    raise self._unknown(id)
            self._drop_empty_sessions()
        return len(ids)

    def clear(self) -> int:
        """Removes everything; returns how many answers there were."""
        with self._writing() as db:
            count = db.execute("DELETE FROM answers").rowcount
            self._drop_empty_sessions()
        return count

    # --- reading ----------------------------------------------------------------------------------------------------------

    def get(self, id: int) -> Entry:
        """Raises InputError for an unknown ``id``."""
        return next(self._select("WHERE id = ?", id), None) or self._raise(id)

    def last(self) -> Entry | None:
        """The answer asked last."""
        return next(self._select("ORDER BY id DESC LIMIT 1"), None)

    def session(self, id: int) -> list[Entry]:
        """The answers of a session, oldest first; empty for an unknown session."""
        return list(self._select("WHERE session = ? ORDER BY id", id))

    def rated(self) -> list[Entry]:
        """The answers with a verdict, oldest first."""
        return list(self._select("WHERE verdict IS NOT NULL ORDER BY id"))

    def find(self, words: str = "", limit: int | None = None) -> list[Entry]:
        """Newest first: the answers whose question, answer or note hold every one of ``words``, upper case or lower."""
        wanted = fold(words).split()
        text = "fold(typed || ' ' || question || ' ' || answer || ' ' || note)"
        condition = " AND ".join(["1", *(f"instr({text}, ?) > 0" for _ in wanted)])
        return list(self._select(f"WHERE {condition} ORDER BY id DESC LIMIT ?", *wanted, -1 if limit is None else limit))

    def _select(self, rest: str, *values: object) -> Iterator[Entry]:
        with _errors(self.path):
            rows = self.db.execute(f"SELECT {_COLUMNS} FROM answers {rest}", values).fetchall()
        for id, session, asked, typed, document, conditions, verdict, note in rows:
            yield Entry(id, session, asked, typed, json.loads(document), json.loads(conditions), verdict, note)

    def _raise(self, id: int) -> Entry:
        raise self._unknown(id)

    def _unknown(self, id: int) -> InputError:
        return InputError(f"the history has no answer {id}", "selfrag history")


def entry_json(entry: Entry) -> Json:
    """A line of `history --json`: the entry without its document."""
    keys = ("question", "status", "answer", "model", "collection")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.asked))
    head = {"id": entry.id, "session": entry.session, "asked": stamp, "typed": entry.typed}
    return head | {key: entry.document[key] for key in keys} | {"feedback": entry.verdict, "note": entry.note}


def fold(text: str) -> str:
    """``text`` for comparison: case-folded, NFC."""
    return unicodedata.normalize("NFC", text).casefold()


def _number(cursor: sqlite3.Cursor) -> int:
    return int(cursor.lastrowid or 0)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        hint = f"free some space, or move it away: mv {path} {path}.old" if "full" in str(error) else f"mv {path} {path}.old"
        raise InputError(f"the history {path} cannot be used: {error}", hint) from error
    except OSError as error:
        raise InputError(
            f"the history {path} cannot be used: {error.strerror}", "check the permissions, or --no-history"
        ) from error

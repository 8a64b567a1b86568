"""SQLite for the catalog: schema, opening, transactions, small values, and readable errors.

It runs in WAL mode with ``synchronous=NORMAL``: a killed process loses nothing that was committed. A power cut may lose the last
commits; so that the vector store is never ahead of the disk, ``make_durable`` is called before it is written to.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from selfrag.errors import CollectionError
from selfrag.index import graph

SCHEMA_VERSION = 5
SCHEMA = (
    graph.SCHEMA
    + """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots(path TEXT PRIMARY KEY, options TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources(
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, hash TEXT, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, reader TEXT, title TEXT NOT NULL,
  metadata TEXT NOT NULL);
CREATE TABLE chunks(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, source INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL, text TEXT NOT NULL, headings TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  first_line INTEGER, last_line INTEGER, page INTEGER, place TEXT, embedding TEXT NOT NULL, headers TEXT, written TEXT);
CREATE UNIQUE INDEX chunks_by_source ON chunks(source, ordinal);
CREATE INDEX chunks_by_embedding ON chunks(embedding);
CREATE TABLE embeddings(hash TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE contexts(hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pending(key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE unwritten(chunk INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE words USING fts5(head, body, tokenize = 'porter unicode61 remove_diacritics 2');
"""
)


class Database:
    """An open file. One writer and any number of readers may have it open."""

    def __init__(self, path: Path, connection: sqlite3.Connection, writable: bool) -> None:
        self.path = path
        self.db = connection
        self.writable = writable
        self.headers = "headers"
        """The SQL of a chunk's headers: a reader may meet a file that has no such column yet."""

    @classmethod
    def create(cls, path: Path) -> Self:
        """Creates a catalog; the file appears only when it is complete.

        Raises CollectionError if the folder cannot be written to.
        """
        draft = path.with_name(path.name + ".new")
        draft.unlink(missing_ok=True)
        connection = connect(f"{draft.absolute().as_uri()}", write=True)
        try:
            connection.executescript("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; BEGIN;" + SCHEMA)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        os.replace(draft, path)
        return cls.open(path, writable=True)

    @classmethod
    def in_memory(cls) -> Self:
        """An empty in-memory catalog."""
        connection = connect("file::memory:", write=True)
        connection.executescript(SCHEMA)
        return cls(Path(":memory:"), connection, True)

    @classmethod
    def open(cls, path: Path, writable: bool = False, old: bool = False) -> Self:
        """Opens an existing catalog; a reader can open one in a folder that it cannot write to.

        ``old`` also accepts version 1, of which a reader may read the fingerprint but no chunks. Raises CollectionError if it is
        missing, damaged, or of another version.
        """
        uri = path.absolute().as_uri()
        try:
            opened = cls(path, connect(uri + ("?mode=rw" if writable else "?mode=ro"), writable), writable)
            if writable:
                opened.db.execute("PRAGMA journal_mode=WAL")
            opened._check_version(old)
        except sqlite3.OperationalError as error:
            if writable or not path.exists() or os.access(path.parent, os.W_OK):
                raise CollectionError(f"The catalog {path} cannot be opened: {error}.", "selfrag status") from error
            opened = cls(path, connect(uri + "?mode=ro&immutable=1", write=False), False)
            opened._check_version(old)
        except sqlite3.DatabaseError as error:
            raise damaged(path, error) from error
        return opened

    def _check_version(self, old: bool) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        self.headers = "headers" if self.writable or version >= 4 else "NULL"
        self.db.execute("SELECT count(*) FROM meta").fetchone()
        if self.writable and version in (1, 2, 3, 4):
            self._upgrade(version)
        elif version not in (2, 3, 4, SCHEMA_VERSION) and not (old and version == 1):
            raise CollectionError(
                f"The catalog {self.path} has version {version}, this program reads {SCHEMA_VERSION}.",
                f"selfrag index --rebuild -c {self.path.absolute().parents[1].name}",
            )

    def _upgrade(self, version: int) -> None:
        """Version 1 had no places. Its chunks stay searchable; the next sync asks for a rebuild, which reuses its roots and
        vectors. Version 2 had no index of words and no graph, version 3 no headers of tables; readers work without them. Version
        4 did not know which chunks a model's text is about, so what was written then is kept."""
        with self.transaction() as db:
            if version == 1:
                db.execute("ALTER TABLE chunks ADD COLUMN place TEXT")
            if version < 3:
                db.execute("CREATE TABLE unwritten(chunk INTEGER PRIMARY KEY)")
                graph.fill(db)
            if version < 4:
                db.execute("ALTER TABLE chunks ADD COLUMN headers TEXT")
            db.execute("ALTER TABLE chunks ADD COLUMN written TEXT")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """An atomic transaction; turns SQLite's errors into CollectionError."""
        try:
            self.db.execute("BEGIN IMMEDIATE" if self.writable else "BEGIN")
            yield self.db
            self.db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._rollback()
            raise explained(self.path, error) from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def make_durable(self, **values: object) -> None:
        """Stores ``values`` in a commit that reaches the disk, and all commits before it."""
        self.db.execute("PRAGMA synchronous=FULL")
        self.set_meta(**values)
        self.db.execute("PRAGMA synchronous=NORMAL")

    # --- meta -------------------------------------------------------------------------------------------------------------

    def meta(self, key: str) -> object:
        """The stored JSON value of ``key``, or None."""
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def table(self, key: str) -> dict[str, object]:
        """Like `meta` for a JSON object; empty if not stored."""
        value = self.meta(key)
        return value if isinstance(value, dict) else {}

    def set_meta(self, **values: object) -> None:
        with self.transaction() as db:
            rows = [(key, json.dumps(value)) for key, value in values.items()]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def connect(uri: str, write: bool) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("PRAGMA cache_size=-65536")
    if write:
        db.execute("PRAGMA synchronous=NORMAL")
    return db


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's errors about the catalog at ``path`` into CollectionError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise explained(path, error) from error


def damaged(path: Path, error: Exception) -> CollectionError:
    name = path.absolute().parents[1].name  # NAME/gN/catalog.sqlite
    return CollectionError(
        f"The catalog {path} is damaged: {error}.", f"selfrag rm -c {name} --yes, then selfrag index PATH -c {name}"
    )


def explained(path: Path, error: sqlite3.DatabaseError) -> CollectionError:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return CollectionError(
            f"No room left to write {path} ({text}); nothing of the last file was kept.", "free some space and run it again"
        )
    if "readonly" in text or "read-only" in text:
        return CollectionError(f"{path} cannot be written to: it is read-only.", "check the permissions, or set SELFRAG_HOME")
    if "malformed" in text or "not a database" in text:
        return damaged(path, error)
    return CollectionError(f"The catalog {path} could not be used: {text}.", "selfrag status")

"""SQLite as the catalog uses it: the schema, how a connection is opened, and its errors as a person should read them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from selfrag.errors import CollectionError

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots(path TEXT PRIMARY KEY, options TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sources(
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, hash TEXT, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, reader TEXT, title TEXT NOT NULL,
  metadata TEXT NOT NULL);
CREATE TABLE chunks(
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, source INTEGER NOT NULL REFERENCES sources(id) ON DELETE CASCADE,
  ordinal INTEGER NOT NULL, text TEXT NOT NULL, headings TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  first_line INTEGER NOT NULL, last_line INTEGER NOT NULL, page INTEGER, embedding TEXT NOT NULL);
CREATE UNIQUE INDEX chunks_by_source ON chunks(source, ordinal);
CREATE INDEX chunks_by_embedding ON chunks(embedding);
CREATE TABLE embeddings(hash TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE contexts(hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pending(key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(head, body, tokenize = 'porter unicode61 remove_diacritics 2');
"""


def connect(uri: str, write: bool) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30.0)
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("PRAGMA cache_size=-65536")
    if write:
        db.execute("PRAGMA synchronous=NORMAL")
    return db


def damaged(path: Path, error: Exception) -> CollectionError:
    return CollectionError(f"The catalog {path} is damaged: {error}.", "selfrag rm -c NAME --yes, then selfrag index PATH")


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

"""The catalog: one SQLite file, a collection's source of truth. Everything else can be rebuilt from it.

It holds sources, chunks, the FTS index, embeddings keyed by the hash of their text, ``pending``: the keys of chunks whose vectors
the vector store has not confirmed yet, and ``unwritten``: the chunks that the index of words (words.py) lacks. A file is replaced
in one transaction, these two included, so the catalog survives a kill at any time and still lists what the other stores lack.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from uuid import uuid4

import numpy as np

from selfrag.index import graph
from selfrag.index.catalog.rows import Counts, Entry, Hints, Source
from selfrag.index.catalog.sqlite import Database


class Catalog(Database):
    """An open catalog. One writer and any number of readers may have the same file open."""

    # --- roots ------------------------------------------------------------------------------------------------------------

    def roots(self) -> dict[str, dict[str, list[str]]]:
        """The folders and files that were indexed, with their include and exclude patterns."""
        return {path: json.loads(options) for path, options in self.db.execute("SELECT path, options FROM roots ORDER BY path")}

    def put_root(self, path: str, options: Mapping[str, Sequence[str]]) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO roots VALUES (?, ?)", (path, json.dumps(options)))

    def drop_root(self, path: str) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM roots WHERE path = ?", (path,))

    # --- sources ----------------------------------------------------------------------------------------------------------

    def sources(self) -> dict[str, Source]:
        query = "SELECT path, hash, size, mtime_ns, ctime_ns, inode, status, reason, reader, title, metadata FROM sources"
        return {
            row[0]: Source(row[0], row[1], Hints(*row[2:6]), row[6], row[7], row[8], row[9], json.loads(row[10]))
            for row in self.db.execute(query)
        }

    def put(self, source: Source, entries: Sequence[Entry], replaces: str | None = None) -> None:
        """Stores a file with its chunks, replacing the entries of its path and of ``replaces``, the path it moved from."""
        with self.transaction() as db:
            _mark(db)
            before = self._drop_chunks(db, [source.path] if replaces is None else [source.path, replaces])
            if replaces is not None:
                db.execute("DELETE FROM sources WHERE path = ?", (replaces,))
            number = _put_source(db, source)
            for ordinal, entry in enumerate(entries):
                _put_entry(db, number, ordinal, entry, source.title)
            after = {entry.key: entry.embedding for entry in entries}
            changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
            db.executemany("INSERT OR IGNORE INTO pending VALUES (?)", [(key,) for key in changed])

    def note(self, source: Source) -> None:
        """Updates a file's metadata; its chunks stay."""
        with self.transaction() as db:
            _put_source(db, source)

    def read_again(self, made_with: Mapping[str, object], readers: Iterable[str]) -> None:
        """Stores the new fingerprint; the files of these readers, and those that could not be read, count as changed in the next
        run."""
        names = list(readers)
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('made_with', ?)", (json.dumps(made_with),))
            db.execute(
                "UPDATE sources SET hash = NULL, size = -1, mtime_ns = -1, ctime_ns = -1, inode = -1"
                " WHERE status = 'skipped' OR reader IN (SELECT value FROM json_each(?))",
                (json.dumps(names),),
            )

    def remove(self, paths: Iterable[str]) -> None:
        """Forgets these files, each in a transaction of its own."""
        for path in paths:
            with self.transaction() as db:
                _mark(db)
                keys = self._drop_chunks(db, [path])
                db.execute("DELETE FROM sources WHERE path = ?", (path,))
                db.executemany("INSERT OR IGNORE INTO pending VALUES (?)", [(key,) for key in keys])

    def _drop_chunks(self, db: sqlite3.Connection, paths: Sequence[str]) -> dict[str, str]:
        """Deletes the chunks of these files; returns key and embedding of each."""
        found: dict[str, str] = {}
        for path in paths:
            query = "SELECT id, key, embedding FROM chunks WHERE source = (SELECT id FROM sources WHERE path = ?)"
            rows = db.execute(query, (path,)).fetchall()
            db.executemany("DELETE FROM words WHERE rowid = ?", [(row[0],) for row in rows])
            graph.drop(db, [row[0] for row in rows])
            db.executemany("DELETE FROM chunks WHERE id = ?", [(row[0],) for row in rows])
            db.executemany("INSERT OR IGNORE INTO unwritten VALUES (?)", [(row[0],) for row in rows])
            found.update({row[1]: row[2] for row in rows})
        return found

    # --- embeddings, contexts and pending vectors -------------------------------------------------------------------------

    def known_embeddings(self, hashes: Iterable[str]) -> set[str]:
        return {row[0] for some in _slices(set(hashes)) for row in self._among("SELECT hash FROM embeddings WHERE hash", some)}

    def put_embeddings(self, vectors: Iterable[tuple[str, bytes]]) -> None:
        """Keeps vectors, little-endian float32, by the hash of their text; harmless before the chunks that use them."""
        with self.transaction() as db:
            _mark(db)
            db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", vectors)

    def contexts(self, hashes: Iterable[str]) -> dict[str, str]:
        """What instruct models wrote about chunks, contexts and triples, by the keys of annotate.py."""
        return {
            row[0]: row[1]
            for some in _slices(set(hashes))
            for row in self._among("SELECT hash, text FROM contexts WHERE hash", some)
        }

    def put_contexts(self, texts: Mapping[str, str]) -> None:
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO contexts VALUES (?, ?)", texts.items())

    def drop_unused_contexts(self) -> None:
        """Deletes what models wrote about chunks that are gone."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM contexts WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE written IS NULL)"
                " AND hash NOT IN (SELECT value FROM chunks, json_each(written))"
            )

    def copy_from(self, other: Catalog, embeddings: bool) -> None:
        """Copies another catalog's contexts, and its valid vectors if they come from the same embedder."""
        with self.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO contexts VALUES (?, ?)", other.db.execute("SELECT * FROM contexts"))
            if embeddings:
                _mark(db)
                rows = other.db.execute("SELECT hash, vector FROM embeddings")
                db.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", (row for row in rows if _is_vector(row[1])))

    def pending(self, limit: int = -1) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT key FROM pending LIMIT ?", (limit,))]

    def confirm(self, keys: Iterable[str]) -> None:
        """Marks these as confirmed: the vector store has them."""
        with self.transaction() as db:
            db.executemany("DELETE FROM pending WHERE key = ?", [(key,) for key in keys])

    def expect_all(self) -> None:
        """Marks every vector as pending: the vector store is empty."""
        with self.transaction() as db:
            db.execute("DELETE FROM pending")
            db.execute("INSERT INTO pending SELECT key FROM chunks")

    def vectors(self, keys: Sequence[str] | None = None) -> Iterator[tuple[str, bytes]]:
        """Key and float32 vector of these chunks, or of all chunks; skips those that no longer exist."""
        query = "SELECT chunks.key, vector FROM chunks JOIN embeddings ON embeddings.hash = chunks.embedding"
        if keys is None:
            yield from self.db.execute(query)
            return
        for some in _slices(keys):
            yield from self._among(query + " WHERE chunks.key", some)

    def state(self) -> str:
        """Changes with every change of a chunk or a vector; equal states mean equal vectors."""
        return str(self.meta("state"))

    def drop_unused(self, spare: int = 0) -> int:
        """Deletes unused embeddings if there are more than ``spare``; returns how many."""
        unused = "hash NOT IN (SELECT embedding FROM chunks)"
        count: int = self.db.execute(f"SELECT count(*) FROM embeddings WHERE {unused}").fetchone()[0]
        if count > spare:
            with self.transaction() as db:
                db.execute(f"DELETE FROM embeddings WHERE {unused}")
        return count

    def counts(self) -> Counts:
        one = self.db.execute(
            "SELECT (SELECT count(*) FROM sources WHERE status != 'skipped'),"
            " (SELECT count(*) FROM sources WHERE status = 'skipped'),"
            " (SELECT count(*) FROM chunks), (SELECT count(*) FROM words), (SELECT count(*) FROM embeddings),"
            " (SELECT count(*) FROM chunks WHERE embedding NOT IN (SELECT hash FROM embeddings)), (SELECT count(*) FROM pending)"
        ).fetchone()
        return Counts(*one)

    def problems(self) -> list[str]:
        """What is wrong inside the file itself; empty if it is sound."""
        try:
            found = [str(row[0]) for row in self.db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            found += [f"{row[0]} refers to a missing row" for row in self.db.execute("PRAGMA foreign_key_check")]
            counts = self.counts()
            lost = self.db.execute("SELECT count(*) FROM chunks WHERE id NOT IN (SELECT rowid FROM words)").fetchone()[0]
            numberless = sum(not _is_vector(vector) for (vector,) in self.db.execute("SELECT vector FROM embeddings"))
        except sqlite3.DatabaseError as error:
            return [f"the catalog is damaged: {error}"]
        if counts.words != counts.chunks or lost:
            found.append(f"the full-text table has {counts.words} entries for {counts.chunks} chunks")
        if counts.missing:
            found.append(f"{counts.missing} chunks have no embedding")
        if numberless:
            found.append(f"{numberless} embeddings are not vectors: they hold NaN, or only zeros")
        return found

    def compact(self) -> None:
        """Overwrites what was deleted, so that removed text does not linger in the file."""
        self.db.execute("INSERT INTO words(words) VALUES ('optimize')")
        self.db.execute("VACUUM")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _among(self, query: str, values: Sequence[str]) -> sqlite3.Cursor:
        return self.db.execute(f"{query} IN ({','.join('?' * len(values))})", values)


def _mark(db: sqlite3.Connection) -> None:
    """Sets a new state of chunks and vectors: a random one, since a copy of the catalog may change independently."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('state', json_quote(?))", (uuid4().hex,))


def _is_vector(blob: bytes) -> bool:
    """Whether these are finite numbers, and not all 0."""
    length = float(np.square(np.frombuffer(blob, dtype="<f4")).sum())
    return 0 < length < float("inf")


def _put_source(db: sqlite3.Connection, source: Source) -> int:
    row = db.execute(
        "INSERT INTO sources(path, hash, size, mtime_ns, ctime_ns, inode, status, reason, reader, title, metadata)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(path) DO UPDATE SET hash = excluded.hash, size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode, status = excluded.status,"
        " reason = excluded.reason, reader = excluded.reader, title = excluded.title, metadata = excluded.metadata RETURNING id",
        (
            source.path,
            source.hash,
            *astuple(source.hints),
            source.status,
            source.reason,
            source.reader,
            source.title,
            json.dumps(dict(source.metadata or {}), ensure_ascii=False),
        ),
    ).fetchall()
    return int(row[0][0])


def _put_entry(db: sqlite3.Connection, source: int, ordinal: int, entry: Entry, title: str) -> None:
    (number,) = db.execute(
        "INSERT INTO chunks(key, source, ordinal, text, headings, headers, start, stop, first_line, last_line, page, place,"
        " embedding, written) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            entry.key,
            source,
            ordinal,
            entry.text,
            json.dumps(entry.headings, ensure_ascii=False),
            json.dumps([astuple(each) for each in entry.headers], ensure_ascii=False) if entry.headers else None,
            entry.start,
            entry.stop,
            *(entry.lines or (None, None)),
            entry.page,
            entry.place,
            entry.embedding,
            json.dumps(entry.written),
        ),
    ).fetchall()[0]
    db.execute("INSERT INTO words(rowid, head, body) VALUES (?, ?, ?)", (number, entry.head, entry.body))
    db.execute("INSERT OR IGNORE INTO unwritten VALUES (?)", (number,))
    graph.add(db, number, graph.names(title, entry.headings, entry.text, entry.names))


def _slices(values: Iterable[str]) -> Iterator[list[str]]:
    every = list(values)
    for at in range(0, len(every), 500):
        yield every[at : at + 500]

"""A graph of names and chunks in the catalog, built by rule or also by a model, and searched by personalised PageRank.

A chunk is linked with the names in it: runs of capitalised words, the texts of links, code in backticks; and with three times the
weight with the names that it is about: its document's title and its headings. A question that needs two passages often finds the
first by its words, and the second only by a name in the first (HippoRAG, Gutiérrez et al. 2024).

Names are compared without case, punctuation and possessive s. Chinese, Japanese and Korean have no capitals, so their only names
by rule are titles, headings and links. An instruct model (`--graph llm`) adds the subjects and objects of the triples that it
reads in a chunk, if they stand there: names without capitals, and none that it made up.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.index.search.fulltext import is_cjk

SCHEMA = """
CREATE TABLE names(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, chunks INTEGER NOT NULL);
CREATE TABLE mentions(
  name INTEGER NOT NULL, chunk INTEGER NOT NULL, about INTEGER NOT NULL, PRIMARY KEY(name, chunk)) WITHOUT ROWID;
CREATE INDEX mentions_by_chunk ON mentions(chunk, name, about);
"""

# Chosen by one half of 1,079 questions of six kinds, reported on the other (benchmarks/results/graph.md).
SEEDS = 2
"""Passages of the search that the walk starts from."""
COMMON = 30
"""A name in more chunks than this leads nowhere in particular."""
KEPT = 3
"""Passages of the search that stay before all that the walk finds: a question that needs one passage mostly has it there."""
GOES_ON = 0.7
"""Probability of a further step of the walk."""
WEIGHT = 1.0
"""Weight of the walk in a passage's score; the search's own score has 1."""
_ABOUT = 3.0
_STEPS = 12
_LONGEST = 8

_CAPITAL = "[A-ZÀ-ÖØ-ÞΑ-ΩА-ЯЁ]"
_JOINED = r"[ \t]+(?:(?:of|the|de|la|von|van|der|du|for|in|al|bin|da|di)[ \t]+){0,2}"
_NAME = re.compile(rf"{_CAPITAL}[\w'’.&-]*(?:{_JOINED}(?:{_CAPITAL}|\d)[\w'’.&-]*)*")
_LINK = re.compile(r"\[\[([^\]|]{2,80})|\[([^\]]{2,80})\]\(|`([^`\n]{3,40})`")
_ITEM = re.compile(r"^[\s>*•-]*(?:\d+[.):]\s)?")
_BRACKETS = " \t|()[]<>{}\"'`.,;"
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for and or but by with from as is are was were be been it its this that these those he she they"
        " his her their who whom whose which what when where why how i we you no not also after before during while since until"
        " there here one two first new all many some most other more did does do has have had",
    )
)


def normal(text: str) -> str:
    """A name normalised for comparison."""
    return " ".join(re.findall(r"\w+", re.sub(r"['’]s\b", "", text).casefold()))


def names(title: str, headings: Sequence[str], text: str, read: Iterable[str] = ()) -> dict[str, bool]:
    """The names in a chunk, and for each whether the chunk is about it. ``read`` are those that a model found."""
    titles = [title, re.sub(r"[(\[].*?[)\]]", "", title), title.split(",")[0], *headings]
    about = (name for name in map(normal, titles) if len(name) > 1 and name not in _STOP)
    linked = (next(filter(None, match.groups())) for match in _LINK.finditer(text))
    ruled = filter(None, map(_trimmed, [*(match[0] for match in _NAME.finditer(text)), *linked]))
    return dict.fromkeys([*ruled, *read], False) | dict.fromkeys(about, True)


def _trimmed(text: str) -> str:
    """Without leading and trailing stop words; empty if nothing else is left."""
    found = normal(text).split()
    while found and found[0] in _STOP:
        found = found[1:]
    while found and found[-1] in _STOP:
        found.pop()
    name = " ".join(found)
    return name if (len(name) > 2 or (len(name) == 2 and is_cjk(name))) and not name.isdigit() else ""


def read_triples(written: str, text: str) -> list[str]:
    """The names in the triples that a model wrote about a chunk: subjects and objects that stand in its ``text``.

    A line is "subject | relation | object", as an item of a list, a row of a table, in brackets or quotes as models will; other
    lines are left out.
    """
    stands = f" {normal(text)} "
    found: dict[str, None] = {}
    for line in written.splitlines():
        parts = [part.strip() for part in _ITEM.sub("", line).strip(_BRACKETS).split("|")]
        if len(parts) == 3 and all(parts):
            found |= dict.fromkeys(name for name in map(_trimmed, (parts[0], parts[2])) if name and _stands(name, stands))
    return list(found)


def _stands(name: str, text: str) -> bool:
    """Whether ``name`` is in ``text``, both normalised: as whole words, except in scripts that put no spaces between words."""
    return name.count(" ") < _LONGEST and (name in text if is_cjk(name) else f" {name} " in text)


# --- writing, within the caller's transaction ----------------------------------------------------------------------------------


def add(db: sqlite3.Connection, chunk: int, mentioned: Mapping[str, bool]) -> None:
    """Links a new chunk with its names."""
    insert = "INSERT INTO names(name, chunks) VALUES (?, 1) ON CONFLICT(name) DO UPDATE SET chunks = chunks + 1 RETURNING id"
    rows = [(db.execute(insert, (name,)).fetchall()[0][0], chunk, about) for name, about in mentioned.items()]
    db.executemany("INSERT INTO mentions VALUES (?, ?, ?)", rows)


def drop(db: sqlite3.Connection, chunks: Iterable[int]) -> None:
    """Forgets chunks, and the names that no other chunk has."""
    for chunk in chunks:
        gone = [(row[0],) for row in db.execute("SELECT name FROM mentions WHERE chunk = ?", (chunk,))]
        db.execute("DELETE FROM mentions WHERE chunk = ?", (chunk,))
        db.executemany("UPDATE names SET chunks = chunks - 1 WHERE id = ?", gone)
        db.executemany("DELETE FROM names WHERE id = ? AND chunks = 0", gone)


def fill(db: sqlite3.Connection) -> None:
    """Builds the graph of a catalog that has none."""
    for statement in SCHEMA.strip().split(";\n"):
        db.execute(statement.rstrip(";"))
    query = "SELECT chunks.id, title, headings, text FROM chunks JOIN sources ON sources.id = chunks.source"
    for number, title, headings, text in db.execute(query).fetchall():
        add(db, number, names(title, json.loads(headings), text))


# --- searching -----------------------------------------------------------------------------------------------------------------


def exists(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'mentions'").fetchone() is not None


def knows(db: sqlite3.Connection, question: str) -> bool:
    """Whether the question has a name, written with capitals or as code, that is in the graph and not too common."""
    runs = [name.split()[:_LONGEST] for name in names("", (), question)]
    spans = {" ".join(run[start:end]) for run in runs for start in range(len(run)) for end in range(start + 1, len(run) + 1)}
    query = f"SELECT 1 FROM names WHERE chunks <= {COMMON} AND name IN (SELECT value FROM json_each(?)) LIMIT 1"
    return db.execute(query, (json.dumps([*spans]),)).fetchone() is not None


def walk(db: sqlite3.Connection, seeds: Mapping[int, float], allowed: Collection[int] | None = None) -> dict[int, float]:
    """The chunks that a random walk from ``seeds`` (chunks with weights) reaches, with visit rates scaled to a maximum of 1.

    Only the graph within two steps of the start is used. ``allowed`` are the sources that may be found.
    """
    among = "" if allowed is None else " AND source IN (SELECT value FROM json_each(:allowed))"
    reached = db.execute(
        "SELECT DISTINCT there.chunk FROM mentions AS here JOIN names ON names.id = here.name"
        " JOIN mentions AS there ON there.name = names.id JOIN chunks ON chunks.id = there.chunk"
        f" WHERE here.chunk IN (SELECT value FROM json_each(:seeds)) AND names.chunks BETWEEN 2 AND {COMMON}{among}",
        {"seeds": json.dumps([*seeds]), "allowed": json.dumps([*(allowed or ())])},
    )
    chunks = sorted({*seeds, *(row[0] for row in reached)})
    edges = db.execute(
        "SELECT chunk, names.id, about, chunks FROM mentions JOIN names ON names.id = mentions.name"
        f" WHERE chunk IN (SELECT value FROM json_each(?)) AND chunks BETWEEN 2 AND {COMMON}",
        (json.dumps(chunks),),
    ).fetchall()
    if not edges:
        return {}
    chunk, name, about, shared = np.asarray(edges, dtype=np.int64).T
    start = np.asarray([seeds.get(each, 0.0) for each in chunks])
    visits = pagerank(np.searchsorted(chunks, chunk), name, np.where(about == 1, _ABOUT, 1.0) / shared, start)
    most = float(visits.max())
    return {each: float(score) / most for each, score in zip(chunks, visits, strict=True) if score > 0} if most > 0 else {}


def pagerank(
    chunk: NDArray[np.int64], name: NDArray[np.int64], weight: NDArray[np.float64], start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The visit rate of each chunk, without the start itself; edges between ``chunk`` and ``name`` have ``weight``.

    ``start`` are the weights of the chunks where the walk starts.
    """
    every, name = np.unique(name, return_inverse=True)
    start = start / max(float(start.sum()), 1e-12)
    out = weight / np.bincount(chunk, weights=weight, minlength=len(start))[chunk]
    back = weight / np.bincount(name, weights=weight)[name]
    came: NDArray[np.float64] = np.zeros_like(start)
    at_chunks: NDArray[np.floating[Any]] = start
    at_names: NDArray[np.floating[Any]] = np.zeros(len(every))
    for _ in range(_STEPS):
        came = np.bincount(chunk, weights=back * at_names[name], minlength=len(start)).astype(np.float64)
        at_names = GOES_ON * np.bincount(name, weights=out * at_chunks[chunk])
        at_chunks = (1 - GOES_ON) * start + GOES_ON * came
    return came

"""Requests of clients, parsed strictly from JSON (unknown names and invalid values are errors), and the result of a question."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from selfrag.config.options import SEARCH
from selfrag.errors import UsageError
from selfrag.types import Answer

Json = dict[str, Any]

LONGEST = 20_000
"""Characters of a question."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, the retriever's warnings, and what else the answer depends on (`Agent.describe`)."""

    answer: Answer
    warnings: tuple[str, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Documents:
    """Which documents may answer; without ``collections``, those of the service. ``also`` are further collections, searched where
    nothing relevant was found in those."""

    collections: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the agent.

    ``options`` are search options by their setting's name ("k", "w_sup"), over the service's own, or, if ``only``, instead of
    them. ``stream`` sends the events of the search as they come; ``trace`` returns the whole search with the answer. ``history``
    False keeps nothing of it; ``typed`` is what a person wrote, where that was a follow-up.
    """

    question: str
    documents: Documents = Documents()
    choices: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    only: bool = False
    stream: bool = False
    trace: bool = False
    history: bool = True
    typed: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A search for passages, without a model. ``k`` None is the service's own."""

    query: str
    documents: Documents = Documents()
    k: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an indexed source: around ``line``, or page ``page``, or from its start. ``context`` counts lines each way."""

    source: str
    collections: tuple[str, ...] = ()
    line: int | None = None
    page: int | None = None
    context: int = 20


def question_of(body: object) -> Question:
    """The question in a JSON body. Raises UsageError."""
    known = ("question", "collections", "source", "where", "also", "choices", "options", "only", "stream", "trace", "history")
    row = table(body, known)
    return Question(
        words(row, "question"),
        documents_of(row),
        texts(row, "choices"),
        options_of(row.get("options", {})),
        flag(row, "only"),
        flag(row, "stream"),
        flag(row, "trace"),
        flag(row, "history", True),
    )


def query_of(body: object) -> Query:
    """The search in a JSON body. Raises UsageError."""
    row = table(body, ("query", "collections", "source", "where", "k"))
    return Query(words(row, "query"), documents_of(row), whole(row, "k", 1))


def place_of(body: object) -> Place:
    """The place in a JSON body. Raises UsageError."""
    row = table(body, ("source", "collections", "line", "page", "context"))
    context = whole(row, "context", 0)
    if row.get("line") is not None and row.get("page") is not None:
        raise UsageError("line and page exclude each other", "name one of them")
    return Place(
        words(row, "source"),
        texts(row, "collections"),
        whole(row, "line", 1),
        whole(row, "page", 1),
        20 if context is None else context,
    )


def documents_of(row: Json) -> Documents:
    return Documents(texts(row, "collections"), texts(row, "source"), texts(row, "where"), texts(row, "also"))


def options_of(given: object) -> dict[str, Any]:
    """Search options, each of its type and in its range. Raises UsageError."""
    found = {}
    for name, value in table(given, SEARCH, "options").items():
        try:
            found[name] = SEARCH[name].read(value)
        except ValueError as allowed:
            raise UsageError(f"options.{name} is {value!r}, expected {allowed}") from None
    return found


def table(body: object, names: Iterable[str], what: str = "the body") -> Json:
    """``body`` as an object that has no other keys than ``names``; null counts as left out."""
    if not isinstance(body, dict):
        raise UsageError(f"{what} is not a JSON object", 'send {"question": "…"}' if what == "the body" else None)
    known = list(names)
    for name in body:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise UsageError(
                f"{what} has an unknown key {name!r}", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            )
    return {name: value for name, value in body.items() if value is not None}


def words(row: Json, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{name} is {'missing' if value is None else 'not a text with words'}", f'send {{"{name}": "…"}}')
    if len(value) > LONGEST:
        raise UsageError(f"{name} has {len(value):,} characters, at most {LONGEST:,} are allowed")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{name} has half a character (a lone surrogate)") from None
    return value.strip()


def texts(row: Json, name: str) -> tuple[str, ...]:
    value = row.get(name, [])
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(each, str) and each.strip() for each in listed):
        raise UsageError(f"{name} is not a list of texts", f'send {{"{name}": ["…"]}}')
    return tuple(each.strip() for each in listed)


def whole(row: Json, name: str, low: int) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 1_000_000:
        raise UsageError(f"{name} is {value!r}, expected a whole number of at least {low}")
    return value


def flag(row: Json, name: Literal["only", "stream", "trace", "history"], otherwise: bool = False) -> bool:
    value = row.get(name, otherwise)
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {value!r}, expected true or false")
    return value

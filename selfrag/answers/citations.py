"""Where a citation stands, in words, and whether those of a stored answer still hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from selfrag.answers.schema import Json
from selfrag.errors import InputError


def location(source: str, passage: Mapping[str, Any]) -> str:
    """Where a passage of the answer schema stands in ``source``, as a person looks it up: `a.docx ¶12`, `a.pdf p.4`, `a.md:7`."""
    if passage.get("place"):
        return f"{source} {passage['place']}"
    if passage.get("page"):
        return f"{source} p.{passage['page']}"
    return f"{source}:{passage['lines'][0]}" if passage.get("lines") else source


@dataclass(frozen=True)
class Check:
    """Whether a citation still holds. ``moved``: the words are in the source, but no longer at those lines."""

    n: int
    source: str
    state: Literal["unchanged", "moved", "changed", "missing"]


def verify(answer: Json, read: Callable[[str], str]) -> list[Check]:
    """Compares each citation's words with its source. ``read`` gives a source's text, or raises InputError or OSError.

    White space is not compared. ``answer`` is any document of the answer schema.
    """
    return [Check(row["n"], row["source"], state_of(row, read)) for row in answer["citations"]]


def state_of(row: Json, read: Callable[[str], str]) -> Literal["unchanged", "moved", "changed", "missing"]:
    try:
        text = read(row["source"])
    except (OSError, InputError):
        return "missing"
    wanted = " ".join(row["text"].split())
    if row["lines"]:
        first, last = row["lines"]
        if wanted in " ".join(" ".join(text.split("\n")[first - 1 : last]).split()):
            return "unchanged"
        return "moved" if wanted in " ".join(text.split()) else "changed"
    return "unchanged" if wanted in " ".join(text.split()) else "changed"

"""The location of a citation, and whether the citations of a stored answer still hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from selfrag.answers.schema import AnswerJson, CitationJson, QuoteJson
from selfrag.errors import InputError

State = Literal["unchanged", "moved", "changed", "missing"]


def location(source: str, found: Mapping[str, Any]) -> str:
    """The location of a passage, a citation or a quote in ``source``, as people write it: `a.md:7`, `a.pdf p.4`, `a.docx ¶12`.

    ``found`` is any document of the answer schema with "lines", "page" and, where its format names places, "place".
    """
    if found.get("place"):
        return f"{source} {found['place']}"
    if found.get("page"):
        return f"{source} p.{found['page']}"
    return f"{source}:{found['lines'][0]}" if found.get("lines") else source


@dataclass(frozen=True)
class Check:
    """Whether a citation, or the quote of the segment with the number ``quote`` (1, 2, …), still holds. ``moved``: the words are
    in the source, but no longer at those lines."""

    n: int
    source: str
    state: State
    quote: int | None = None


Source = tuple[str, bool]
"""A source's text, and whether its lines are those of the file (not so in .docx and HTML, say)."""


def verify(answer: AnswerJson, read: Callable[[str], Source]) -> list[Check]:
    """Compares the words of each citation, then of each quote, with their source. ``read`` raises InputError or OSError for a
    source that is gone. White space is not compared."""
    cited = [Check(row["n"], row["source"], state_of(row, read)) for row in answer["citations"]]
    quotes = [(number, segment["citation"], segment["quote"]) for number, segment in enumerate(answer["segments"], 1)]
    return cited + [Check(n or 0, quote["source"], state_of(quote, read), number) for number, n, quote in quotes if quote]


def state_of(row: CitationJson | QuoteJson, read: Callable[[str], Source]) -> State:
    try:
        text, has_lines = read(row["source"])
    except (OSError, InputError):
        return "missing"
    wanted = " ".join(row["text"].split())
    if wanted not in " ".join(text.split()):
        return "changed"
    if not row["lines"] or not has_lines:
        return "unchanged"
    first, last = row["lines"]
    return "unchanged" if wanted in " ".join(" ".join(text.split("\n")[first - 1 : last]).split()) else "moved"

"""Corrective retrieval (CRAG; Yan et al. 2024): whether the passages suffice, and the next query if they do not.

CRAG trains an evaluator; here ISREL is the evaluator. Its refinement of what was found (decompose, filter, recompose) is the
second look at the sentences of the relevant passages (`Search.reconsider`): cutting passages before the model reads them saves
a seventh of the time, and loses the answer in one of thirteen (benchmarks/results/second-look.md). Pure: no model, no search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from selfrag.algorithm.words import FUNCTION_WORDS
from selfrag.types import Passage, Standing

ROUNDS = 2
"""The maximum number of further searches."""

LONGEST = 300
"""Characters of a query that a model wrote."""

FEEDBACK_PASSAGES = 3
FEEDBACK_TERMS = 6

_WORD = re.compile(r"\w[\w'’.-]*\w|\w")
_NAME = re.compile(r"[“\"«][^”\"»]+[”\"»]|`[^`]+`|[A-Z0-9][\w'’.-]*(?:\s+(?:(?:of|the|de|von)\s+){0,2}[A-Z0-9][\w'’.-]*)*")
_QUESTION_WORDS = """
    because before between both doing during each even every find get give given having here him just know like made make many
    may might more most much name now one only other out over please same say see show tell through took under until up us use
    used using very while whose called happen happened mean means describe explain
"""
_COMMON = FUNCTION_WORDS | frozenset(_QUESTION_WORDS.split())
"""Words that are no search terms."""


def standing(relevances: Sequence[float], doubtful: float, found: float) -> Standing:
    """``found`` where the best ISREL reaches ``found``, ``not found`` where it lies below ``doubtful`` or nothing was read."""
    best = max(relevances, default=-1.0)
    if best >= found:
        return "found"
    return "doubtful" if best >= doubtful and best >= 0 else "not found"


def rewritten(question: str, passages: Sequence[Passage], number: int) -> str | None:
    """The query of round ``number`` (from 1), from the question and the passages read so far, best first.

    The first round keeps the words that carry meaning, names twice; the second adds the words that the best passages share
    (pseudo-relevance feedback). None where that gives no query, or only the question again.
    """
    terms = key_terms(question)
    if number == 1:
        query = " ".join([*names(question), *terms])
    else:
        query = " ".join([question, *feedback_terms(question, passages[:FEEDBACK_PASSAGES])])
    return query if query.strip() and query.casefold() != question.casefold() else None


def query_of(said: str, question: str) -> str | None:
    """The query in a model's reply; None if the reply is something else, or the question again."""
    lines = said.strip().splitlines()
    query = lines[0].strip(" \"'`*") if len(lines) == 1 else ""
    return query if key_terms(query) and len(query) <= LONGEST and query.casefold() != question.casefold() else None


def key_terms(question: str) -> list[str]:
    """The distinct words of ``question``, in order, without stop words."""
    words = (word for word in _WORD.findall(question) if word.casefold() not in _COMMON)
    return list({word.casefold(): word for word in words}.values())


def names(question: str) -> list[str]:
    """Runs of capitalised words, and quoted words without quotation marks; the lone first word of a sentence does not count."""
    found = []
    for match in _NAME.finditer(question):
        name = match[0].strip('“”"«»`').strip()
        words = name.split()
        if words and words[0].casefold() in _COMMON:
            words = words[1:]
        if words and not (match.start() == 0 and len(words) == 1 and match[0][0].isalpha() and not match[0].isupper()):
            found.append(" ".join(words))
    return list(dict.fromkeys(found))


def feedback_terms(question: str, passages: Sequence[Passage]) -> list[str]:
    """The words that most of ``passages`` share and the question lacks: by number of passages, then of occurrences."""
    asked = {word.casefold() for word in _WORD.findall(question)}
    held: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for passage in passages:
        words = [word.casefold() for word in _WORD.findall(f"{passage.title} {passage.text}")]
        kept = [word for word in words if word not in _COMMON and word not in asked and len(word) > 2]
        held.update(set(kept))
        total.update(kept)
    return sorted(held, key=lambda word: (-held[word], -total[word], word))[:FEEDBACK_TERMS]

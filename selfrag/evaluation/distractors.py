"""Adds distracting passages to the candidates, as in The Power of Noise (Cuconasu et al. 2024).

``related`` ones are those that the search ranks next, ``random`` ones are drawn from the whole collection. Neither contains the
answer, according to the gold answers, sources and passage of the question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from selfrag.answers.schema import passage_json
from selfrag.batch.rows import Row
from selfrag.errors import UsageError
from selfrag.evaluation import metrics
from selfrag.evaluation.metrics import Gold
from selfrag.index.retriever import CollectionRetriever
from selfrag.types import Passage

_SPARE = 20
"""Extra passages to look at, since some contain the answer."""


@dataclass(frozen=True, slots=True)
class Distractors:
    """``count`` passages of a kind for each search."""

    kind: Literal["related", "random"]
    count: int

    @classmethod
    def of(cls, text: str) -> Distractors:
        """From ``related:5`` or ``random:5``. Raises UsageError for anything else."""
        found = re.fullmatch(r"(related|random):([1-9]\d{0,3})", text)
        if found is None:
            raise UsageError(f"--distractors is {text!r}, which is no kind with a number", "--distractors related:5, or random:5")
        return cls("related" if found[1] == "related" else "random", int(found[2]))


class Distracted:
    """A retriever that returns the passages of ``inner``, followed by distractors.

    ``golds`` maps the text of each question to its gold labels. A query that does not begin with one of the questions (because it
    was reworded) gets no distractors, since its answer is unknown.
    """

    def __init__(self, inner: CollectionRetriever, distractors: Distractors, golds: Mapping[str, Gold]) -> None:
        self.inner = inner
        self.distractors = distractors
        self.golds = golds
        self.name = inner.name

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.inner.warnings

    def describe(self) -> Mapping[str, object]:
        return {**self.inner.describe(), "distractors": f"{self.distractors.kind}:{self.distractors.count}"}

    async def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages and the distractors, fewer where the collection has no more."""
        found = await self.inner.search(query, k)
        asked = max((question for question in self.golds if query.startswith(question)), key=len, default=None)
        if asked is None:
            return found
        if self.distractors.kind == "related":
            others = await self.inner.search(query, k + self.distractors.count + _SPARE)
        else:
            others = self.inner.drawn(self.distractors.count + k + _SPARE, seed=asked)
        known = {passage.chunk for passage in found}
        fresh = (each for each in others if each.chunk not in known and not answers(each, self.golds[asked]))
        return [*found, *list(fresh)[: self.distractors.count]]

    async def close(self) -> None:
        await self.inner.close()


def answers(passage: Passage, gold: Gold) -> bool:
    """Whether the passage holds a gold answer or is a gold passage."""
    shown = passage_json(passage)
    return bool(metrics.is_gold(shown, gold) or metrics.has_answer(shown, gold.answers))


def golds_of(rows: Iterable[Row]) -> dict[str, Gold]:
    """What is known of each question, by its text."""
    return {row.question: metrics.gold_of(row.extra) for row in rows}

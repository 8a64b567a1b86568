"""Reorders a search's top passages by a weighted sum of the re-ranker's score and the search's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from selfrag.index.rerankers import Reranker
from selfrag.index.search.hybrid import Hit

DEPTH = 20
"""Passages that are read."""

WEIGHT = 0.5
"""The re-ranker's weight in the score; the search's own score has the rest."""


def rerank(reranker: Reranker, question: str, hits: Sequence[Hit], weight: float = WEIGHT) -> list[Hit]:
    """``hits`` in their new order. Their scores become the weighted sum of both, each min-max scaled to [0, 1] over ``hits``.
    Raises EngineError if a server does not answer.
    """
    if len(hits) < 2:
        return list(hits)
    read = reranker.scores(question, [shown(hit) for hit in hits])
    together = weight * _spread(read) + (1 - weight) * _spread(np.asarray([hit.passage.score for hit in hits], dtype=np.float32))
    order = np.argsort(-together, kind="stable")
    return [
        replace(hits[at], passage=replace(hits[at].passage, score=float(together[at])), rerank=float(read[at])) for at in order
    ]


def shown(hit: Hit) -> str:
    """The text of a passage for a re-ranker: its title, then the passage."""
    return f"{hit.passage.title}\n{hit.passage.read}" if hit.passage.title else hit.passage.read


def _spread(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(scores.min()), float(scores.max())
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)

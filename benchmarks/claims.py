"""Detection of unsupported claims: judged claims, scored as LLM-AggreFact does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selfrag.algorithm.words import content_words
from selfrag.evaluation.curves import Floats, auroc


def balanced_accuracy(score: Floats, supported: Floats, threshold: float = 0.5) -> float | None:
    """The mean of two shares: supported claims scored at ``threshold`` or above, other claims scored below it. None if all claims
    are of one kind."""
    said, true = score >= threshold, supported > 0
    if not true.any() or true.all():
        return None
    return float((said[true].mean() + (~said[~true]).mean()) / 2)


def best_balanced_accuracy(score: Floats, supported: Floats) -> float | None:
    """`balanced_accuracy` at the threshold that suits these very claims best: an upper limit."""
    found = [balanced_accuracy(score, supported, float(threshold)) for threshold in np.unique(score)]
    return max((value for value in found if value is not None), default=None)


def word_overlap(claim: str, passage: str) -> float:
    """The share of the claim's content words that the passage contains, in [0, 1]; no model."""
    said = set(content_words(claim))
    return len(said & set(content_words(passage))) / len(said) if said else 0.0


def by_set(
    names: Sequence[str], score: Floats, supported: Floats
) -> Mapping[str, tuple[int, float | None, float | None, float | None]]:
    """For each set of claims their number, balanced accuracy at 0.5 and at the best threshold, and AUROC."""
    found = {}
    for name in dict.fromkeys(names):
        here = np.array([other == name for other in names])
        s, y = score[here], supported[here]
        found[name] = (int(here.sum()), balanced_accuracy(s, y), best_balanced_accuracy(s, y), auroc(s, y))
    return found

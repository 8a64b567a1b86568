"""The metrics of a report that are ratios of sums over questions, each with a note for an empty denominator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from selfrag.evaluation import metrics
from selfrag.evaluation.intervals import Floats
from selfrag.evaluation.outcome import Outcome

Parts = tuple[float, float]
"""What one question adds to the top and to the bottom of a ratio. A mean has 1 at the bottom where the question counts."""
Measure = Callable[[Outcome], Parts]
Value = Callable[[Outcome], float]
Where = Callable[[Outcome], bool]
NOTHING: Parts = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A ratio over questions: its name in JSON, its label in the table, and the note for an empty denominator.

    ``binary`` metrics are 0 or 1 for each question, so that McNemar's test applies.
    """

    name: str
    label: str
    parts: Measure
    empty: str
    binary: bool = False


def mean_of(value: Value, where: Where) -> Measure:
    return lambda o: (float(value(o)), 1.0) if where(o) else NOTHING


def share_of(top: Value, bottom: Value, where: Where) -> Measure:
    return lambda o: (float(top(o)), float(bottom(o))) if where(o) else NOTHING


# --- conditions -------------------------------------------------------------------------------------------------------------


answered: Where = attrgetter("answered")
scored: Where = attrgetter("scored")
written: Callable[[Outcome], str] = attrgetter("answer")
shown: Callable[[Outcome], str] = attrgetter("shown")


def everything(_: Outcome) -> bool:
    return True


def abstained(o: Outcome) -> bool:
    return o.status == "abstained"


def named(o: Outcome) -> bool:
    """Whether it is known which words answer."""
    return o.scored and bool(o.gold.answers)


def known(o: Outcome) -> bool:
    return o.gold.answerable is not None


def impossible(o: Outcome) -> bool:
    return o.gold.answerable is False


def ranked(o: Outcome) -> bool:
    return o.retrieved and o.hits is not None and o.scored


def placed(o: Outcome) -> bool:
    return o.answered and o.scored and o.cited_gold is not None


# --- measures -----------------------------------------------------------------------------------------------------------------


def against(metric: Callable[[str, Sequence[str]], float]) -> Measure:
    return mean_of(lambda o: metric(o.answer, o.gold.answers), named)


def overall(metric: Callable[[str, Sequence[str]], float]) -> Measure:
    """SQuAD 2.0's scores: an unanswerable question is right when it is not answered."""
    right = lambda o: float(abstained(o)) if impossible(o) else metric(o.answer, o.gold.answers)  # noqa: E731
    return mean_of(right, lambda o: impossible(o) or named(o))


def found_at(k: int) -> Measure:
    return mean_of(lambda o: metrics.recall_at(o.hits or (), k), ranked)


def f1_of_abstention(o: Outcome) -> Parts:
    """2·TP and 2·TP + FP + FN, where abstaining from an unanswerable question is a true positive."""
    hit = abstained(o) and impossible(o)
    return (2.0 * hit, float(abstained(o)) + float(impossible(o))) if known(o) else NOTHING


def worded(metric: Callable[[str, Sequence[str]], float], text: Callable[[Outcome], str]) -> Measure:
    """Against references in free text; an abstention counts 0."""
    return mean_of(lambda o: metric(text(o), o.gold.references) if o.answered else 0.0, lambda o: bool(o.gold.references))


def of_length(text: Callable[[Outcome], str]) -> Measure:
    return mean_of(lambda o: len(metrics.words(text(o))), answered)


NO_GOLD, NO_IMPOSSIBLE = "no question with a known answer", "no unanswerable questions"
NO_RANKS, NO_ANSWER = "no retrieval with a known gold passage", "nothing was answered"
NO_REFERENCE, NO_SENTENCES = "no question with a reference in free text", "no question with known answer sentences"
NO_CITATION, NO_PLACE = "no cited segment", "no citation with a known gold passage"

METRICS = (
    Metric("accuracy", "accuracy (gold answer within)", mean_of(lambda o: o.accuracy, scored), NO_GOLD, True),
    Metric("em", "exact match", against(metrics.exact_match), NO_GOLD, True),
    Metric("f1", "token F1", against(metrics.token_f1), NO_GOLD),
    Metric("contains", "contains-match (Self-RAG)", against(metrics.contains), NO_GOLD, True),
    Metric(
        "str_em",
        "STR-EM (points made)",
        mean_of(lambda o: metrics.string_em(o.answer, o.gold.groups), lambda o: bool(o.gold.groups)),
        "no question with several points",
    ),
    Metric("em_overall", "EM, abstentions counted", overall(metrics.exact_match), NO_GOLD, True),
    Metric("f1_overall", "F1, abstentions counted", overall(metrics.token_f1), NO_GOLD),
    Metric("accuracy_shown", "shown answer holds the gold answer", mean_of(lambda o: o.accuracy_shown, named), NO_GOLD, True),
    *(
        Metric(f"{name}_{where}", f"{label}, {where} answer", worded(metric, text), NO_REFERENCE)
        for where, text in (("shown", shown), ("written", written))
        for name, label, metric in (
            ("rouge_l", "ROUGE-L", metrics.rouge_l),
            ("content_recall", "content-word recall", metrics.content_recall),
            ("content_precision", "content-word precision", metrics.content_precision),
        )
    ),
    Metric(
        "sentence_hit",
        "shown answer holds a gold sentence",
        mean_of(lambda o: o.answered and metrics.holds_sentence(o.shown, o.gold.sentences), lambda o: bool(o.gold.sentences)),
        NO_SENTENCES,
        True,
    ),
    *(
        Metric(
            f"whole_sentences_{where}", f"whole sentences, {where}", share_of(whole, lambda o: o.segments, answered), NO_ANSWER
        )
        for where, whole in (("shown", lambda o: o.whole_shown), ("written", lambda o: o.whole_written))
    ),
    *(
        Metric(f"words_{where}", f"words of an answer, {where}", of_length(text), NO_ANSWER)
        for where, text in (("shown", shown), ("written", written))
    ),
    Metric("answer_rate", "answer rate", mean_of(answered, everything), "no questions", True),
    Metric(
        "accuracy_answered",
        "accuracy of what it answered",
        mean_of(lambda o: o.accuracy, lambda o: answered(o) and known(o)),
        NO_ANSWER,
    ),
    Metric(
        "abstention_precision",
        "abstention precision",
        mean_of(impossible, lambda o: abstained(o) and known(o)),
        "it never abstained",
    ),
    Metric("abstention_recall", "abstention recall", mean_of(abstained, impossible), NO_IMPOSSIBLE),
    Metric("abstention_f1", "abstention F1", f1_of_abstention, NO_IMPOSSIBLE),
    Metric("retrieval_rate", "retrieval frequency", mean_of(lambda o: o.retrieved, everything), "no questions", True),
    *(Metric(f"recall@{k}", f"retrieval recall@{k}", found_at(k), NO_RANKS, True) for k in (1, 3, 5)),
    Metric("mrr", "retrieval MRR", mean_of(lambda o: metrics.reciprocal_rank(o.hits or ()), ranked), NO_RANKS),
    Metric(
        "citation_recall",
        "segments cited and supported*",
        share_of(lambda o: o.supported, lambda o: o.segments, answered),
        NO_ANSWER,
    ),
    Metric(
        "citation_precision", "citations that support*", share_of(lambda o: o.supported, lambda o: o.cited, answered), NO_CITATION
    ),
    Metric(
        "citation_recall_gold",
        "answers citing a gold passage",
        mean_of(lambda o: any(o.cited_gold or ()), placed),
        NO_PLACE,
        True,
    ),
    Metric(
        "citation_precision_gold",
        "citations of a gold passage",
        share_of(lambda o: sum(o.cited_gold or ()), lambda o: len(o.cited_gold or ()), placed),
        NO_PLACE,
    ),
    Metric(
        "pruned", "candidates pruned", share_of(lambda o: o.pruned, lambda o: o.pruned + o.expanded, everything), "no candidates"
    ),
)
"""* by the model's own critique."""


def columns(outcomes: Sequence[Outcome]) -> tuple[Floats, Floats]:
    """Tops and bottoms of shape (questions, metrics)."""
    parts = np.array([[m.parts(o) for m in METRICS] for o in outcomes], dtype=np.float64).reshape(len(outcomes), len(METRICS), 2)
    return parts[:, :, 0], parts[:, :, 1]

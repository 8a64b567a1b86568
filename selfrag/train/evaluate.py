"""`selfrag train eval`: metrics of a reflection model on the development files, next to its untrained base.

Every metric is computed from the output of the product's own reflectors. Abstention thresholds are fitted on one half of the
articles and scored on the other, so that no threshold is measured on the data that it was fitted on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from selfrag.algorithm.reflection import ISSUP
from selfrag.evaluation import curves, metrics, thresholds
from selfrag.train.dev_set import Evidence, Items
from selfrag.types import Critique, Reflector, Segment

T = TypeVar("T")
LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
Figures = dict[str, float | None]


LONGEST = 3
"""Sentences of an answer at most."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer with the model's own critique: ISREL and ISSUP in [0, 1], ISUSE in [-1, 1]; None if it writes none.

    It is written even if ISREL is low; thresholds decide on abstaining.
    """

    text: str
    isrel: float
    issup: float | None
    isuse: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one model: ``figures`` holds metrics by name, ``thresholds`` are fitted on all items."""

    name: str
    figures: Figures
    thresholds: Mapping[str, float]
    counts: Mapping[str, int]


async def evaluate(reflector: Reflector, name: str, items: Items, say: Callable[[str], None]) -> Result:
    """Asks ``reflector`` everything in ``items``, 16 requests at a time; the table calls it ``name``."""
    limit = asyncio.Semaphore(16)

    async def each(work: Sequence[Awaitable[T]], what: str) -> list[T]:
        async def one(job: Awaitable[T]) -> T:
            async with limit:
                return await job

        say(f"{name}: {what}, {len(work)} items")
        return list(await asyncio.gather(*(one(job) for job in work)))

    written = await each([write(reflector, e) for e, _, _ in items.answers], "answers of a few words")
    sentences = await each([write(reflector, e) for e, _ in items.open], "answers in sentences")
    relevance = {n: np.array(await each([isrel(reflector, e) for e in found], n)) for n, found in items.relevance.items()}
    explained = np.array(await each([isrel(reflector, e) for pair in items.explained for e in pair], "to explain")).reshape(-1, 2)
    support = np.array(await each([issup(reflector, e, claim) for e, claim, _ in items.support], "support"))
    use = np.array(await each([isuse(reflector, e, a) for e, a, _ in items.utility], "utility"))
    retrieve = {
        key: np.array(await each([p_retrieve(reflector, q) for q in asked], key[0])) for key, asked in items.retrieve.items()
    }
    figures = answer_figures(written, items) | sentence_figures(sentences, items) | relevance_figures(relevance)
    figures |= explained_figures(explained) | support_figures(support, items)
    figures |= retrieve_figures(retrieve) | utility_figures(use, items)
    abstention, fitted = abstention_figures(written, items)
    fitted |= {"retrieve": retrieve_threshold(retrieve)}
    counts = {"answers": len(written), "open answers": len(sentences), "support": len(support), "utility": len(use)}
    counts |= {f"relevance: {n}": len(v) for n, v in relevance.items()} | {
        f"retrieve: {n}": len(v) for (n, _), v in retrieve.items()
    }
    return Result(name, figures | abstention, fitted, counts)


# --- asking --------------------------------------------------------------------------------------------------------------------


async def p_retrieve(reflector: Reflector, question: str) -> float:
    """The probability that evidence is needed; 1 if the model gives none, since the search then retrieves."""
    decision = await reflector.decide(question, (), 0.5)
    return 1.0 if decision.probability is None else decision.probability


async def isrel(reflector: Reflector, e: Evidence) -> float:
    return (await reflector.open(e.question, (), e.shown, carry=False)).critique.isrel


async def issup(reflector: Reflector, e: Evidence, claim: str) -> tuple[float, ...]:
    """The probabilities of Fully, Partially and No support, summing to 1; no support if the model gives none."""
    found = (await reflector.judge(e.question, e.shown, claim)).distributions.get("ISSUP")
    return tuple(found[token] for token in ISSUP) if found else (0.0, 0.0, 1.0)


async def isuse(reflector: Reflector, e: Evidence, answer: str) -> float:
    return (await reflector.judge(e.question, e.shown, answer)).isuse


async def write(reflector: Reflector, e: Evidence) -> Written:
    """An answer from this passage only, of as many segments as the model writes, at most ``LONGEST``."""
    opening = await reflector.open(e.question, (), e.shown, carry=False)
    path: list[Segment] = []
    while segment := await reflector.extend(e.question, path, opening, _always):
        path.append(segment)
        if segment.finished or len(path) == LONGEST or (await reflector.decide(e.question, path, 0.5)).action != "continue":
            break
        opening = await reflector.open(e.question, path, segment.passage, carry=True)
    support = next((s.critique.issup for s in path if "ISSUP" in s.critique.distributions), None)
    use = next((s.critique.isuse for s in path if "ISUSE" in s.critique.distributions), None)
    return Written(" ".join(s.text for s in path if s.text), path[0].critique.isrel if path else 0.0, support, use)


def _always(_critique: Critique, _sequence: float, _text: str) -> bool:
    return True


# --- metrics -------------------------------------------------------------------------------------------------------------------


def answer_f1s(written: Sequence[Written], items: Items) -> NDArray[Any]:
    """F1 of each answerable question's answer from its own passage, 0 to 1, in their order."""
    return np.array([metrics.token_f1(w.text, golds) for w, (_, golds, _) in zip(written, items.answers, strict=True) if golds])


def answer_figures(written: Sequence[Written], items: Items) -> Figures:
    """EM and F1, in percent, over the answerable questions with their own passage."""
    pairs = [(w.text, golds) for w, (_, golds, _) in zip(written, items.answers, strict=True) if golds]
    return {
        "answer F1": 100 * float(answer_f1s(written, items).mean()),
        "answer EM": 100 * float(np.mean([metrics.exact_match(t, g) for t, g in pairs])),
        "answer words": float(np.mean([len(t.split()) for t, _ in pairs])),
    }


def sentence_figures(written: Sequence[Written], items: Items) -> Figures:
    """Answers to open questions from a passage that answers: how many are whole sentences and how long they are, the content
    words of the gold sentences that they hold (recall) and that they consist of (precision), whether they hold a gold sentence,
    and whether ISUSE knows which of them do."""
    pairs = [(w.text, golds) for w, (_, golds) in zip(written, items.open, strict=True)]
    whole = [(text, (" ".join(golds),)) for text, golds in pairs]
    hits = np.array([metrics.holds_sentence(text, golds) for text, golds in pairs])
    use = np.array([((w.isuse if w.isuse is not None else -1.0) + 1) / 2 for w in written])
    return {
        "open: whole sentences": float(np.mean([metrics.is_whole_sentence(text) for text, _ in pairs])),
        "open: words": float(np.mean([len(text.split()) for text, _ in pairs])),
        "open: content-word recall": float(np.mean([metrics.content_recall(text, gold) for text, gold in whole])),
        "open: content-word precision": float(np.mean([metrics.content_precision(text, gold) for text, gold in whole])),
        "open: holds a gold sentence": float(hits.mean()),
        "open: ISUSE AUROC": curves.auroc(use, hits),
        "open: ISUSE ECE": curves.ece(use, hits),
    }


def separation(high: NDArray[Any], low: NDArray[Any]) -> float | None:
    """AUROC of ``high`` against ``low``."""
    return curves.auroc(np.concatenate([high, low]), _labels(high, low))


def _labels(high: NDArray[Any], low: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([np.ones(len(high)), np.zeros(len(low))])


def relevance_figures(found: Mapping[str, NDArray[Any]]) -> Figures:
    gold = found["gold"]
    figures: Figures = {}
    for name, other in found.items():
        if name != "gold":
            figures[f"ISREL AUROC, {name}"] = separation(gold, other)
            figures[f"ISREL F1, {name}"] = thresholds.f1(np.concatenate([gold, other]) > 0.5, _labels(gold, other) > 0)
    everything = np.concatenate(list(found.values()))
    right = np.concatenate([np.full(len(v), float(n == "gold")) for n, v in found.items()])
    return figures | {"ISREL ECE": curves.ece(everything, right)}


def explained_figures(found: NDArray[Any]) -> Figures:
    """``found``: (N, 2) ISREL of questions that ask for sentences, with their own passage and with a neighbour."""
    return {"ISREL AUROC, neighbour, asked to explain": separation(found[:, 0], found[:, 1])}


def support_figures(found: NDArray[Any], items: Items) -> Figures:
    """``found``: (N, 3) probabilities of Fully, Partially, No support.

    VitaminC has no partial class: the macro-F1 is over supported and not supported, a partial verdict counting as not.
    """
    labels = np.array([label for _, _, label in items.support])
    score, full = found[:, 0] + 0.5 * found[:, 1], labels == "SUPPORTS"
    said = found.argmax(axis=1) == 0
    figures: Figures = {
        "ISSUP AUROC, supported": curves.auroc(score, full.astype(float)),
        "ISSUP accuracy": float((said == full).mean()),
        "ISSUP macro-F1": thresholds.macro_f1(said, full),
        "ISSUP said partially": float((found.argmax(axis=1) == 1).mean()),
        "ISSUP ECE": curves.ece(found[:, 0], full.astype(float)),
    }
    for label in LABELS[1:]:
        figures[f"ISSUP AUROC, {label.lower()}"] = separation(score[full], score[labels == label])
    return figures


def retrieve_figures(found: Mapping[tuple[str, bool], NDArray[Any]]) -> Figures:
    """AUROC of each source against all sources of the other kind."""
    by_kind = {kind: np.concatenate([v for (_, k), v in found.items() if k == kind]) for kind in (True, False)}
    figures: Figures = {}
    for (name, kind), values in found.items():
        pair = (values, by_kind[False]) if kind else (by_kind[True], values)
        figures[f"Retrieve AUROC, {name}"] = separation(*pair)
    worst = min(v for v in figures.values() if v is not None)
    both = np.concatenate([by_kind[True], by_kind[False]])
    return figures | {"Retrieve AUROC, worst source": worst,
                      "Retrieve ECE": curves.ece(both, _labels(by_kind[True], by_kind[False]))}  # fmt: skip


def retrieve_threshold(found: Mapping[tuple[str, bool], NDArray[Any]]) -> float:
    """The highest threshold that lets 98 in 100 questions that need evidence retrieve: a missed one costs more."""
    needed = np.concatenate([v for (_, kind), v in found.items() if kind])
    return round(float(min(0.5, np.quantile(needed, 0.02))), 4)


def utility_figures(found: NDArray[Any], items: Items) -> Figures:
    """``found``: (N,) expected utilities in [-1, 1]. Rank correlation with the rule's label, AUROC of right against wrong, and
    the calibration error of the expected utility, both it and the label put between 0 (useless) and 1 (perfect)."""
    labels = np.array([float(label) for _, _, label in items.utility])
    return {
        "ISUSE rank correlation": rank_correlation(found, labels),
        "ISUSE AUROC": curves.auroc(found, (labels == 5).astype(float)),
        "ISUSE ECE": curves.ece((found + 1) / 2, (labels - 1) / 4),
    }


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Spearman's, ties by mean rank; None when either is constant."""
    ranks = [curves.ranks(a), curves.ranks(b)]
    return None if min(r.std() for r in ranks) == 0 else float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def abstention_figures(written: Sequence[Written], items: Items) -> tuple[Figures, dict[str, float]]:
    """F1 of "unanswerable" with each question's own passage, thresholds crossed between two halves of the articles."""
    scores = np.array([(w.isrel, w.issup if w.issup is not None else 0.0) for w in written])
    empty = np.array([not golds for _, golds, _ in items.answers])
    titles = sorted({title for _, _, title in items.answers})
    half = np.array([titles.index(title) % 2 == 0 for _, _, title in items.answers])
    said = np.zeros(len(empty), dtype=bool)
    if half.any() and not half.all():
        for mine in (half, ~half):
            said[mine] = ~thresholds.keeps(scores[mine], thresholds.fit_abstention(scores[~mine], ~empty[~mine]))
    isrel, issup = thresholds.fit_abstention(scores, ~empty)
    figures: Figures = {
        "answer F1, where it abstains 0": 100 * float((answer_f1s(written, items) * ~said[~empty]).mean()),
        "abstention F1": thresholds.f1(said, empty),
        "abstention F1, all abstained": thresholds.f1(np.ones_like(empty), empty),
    }
    return figures, {"isrel": round(isrel, 4), "issup": round(issup, 4)}


GOALS: Mapping[str, float] = {
    "answer F1": 60, "ISREL AUROC, neighbour": 0.95, "ISREL AUROC, unanswerable": 0.70, "ISSUP AUROC, supported": 0.88,
    "ISSUP macro-F1": 0.70, "Retrieve AUROC, worst source": 0.90, "abstention F1": 0.70,
}  # fmt: skip


def table(results: Sequence[Result]) -> str:
    """Markdown: a row for each metric, a column for each model."""
    lines = ["| | goal | " + " | ".join(r.name for r in results) + " |", "|---|---|" + "---|" * len(results)]
    for name in results[0].figures:
        cells = " | ".join(_cell(r.figures.get(name)) for r in results)
        lines.append(f"| {name} | {GOALS.get(name, '')} | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if abs(value) > 1.5 else f"{value:.3f}"


def to_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [{"name": r.name, "figures": r.figures, "thresholds": dict(r.thresholds), "counts": dict(r.counts)} for r in results]

"""The outcome of one question: a batch row read back, with its gold labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from selfrag.answers.schema import AnswerJson, evidence_means, shown, shown_answer, utility
from selfrag.batch.formats import RESERVED
from selfrag.errors import InputError
from selfrag.evaluation import metrics
from selfrag.evaluation.metrics import Gold

Json = Mapping[str, Any]
SUPPORTED = 0.5
"""ISSUP from which a segment counts as supported by its own critique."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question of a run. ``hits`` says of each retrieved passage whether it holds the answer, None if that is not known;
    ``cited_gold`` the same of each citation. ``answer`` is what the model wrote, ``shown`` what a reader reads, with quotes;
    ``whole_shown`` and ``whole_written`` count the segments that are whole sentences. ``isrel`` and ``issup`` are means over the
    segments written from passages. ``stated`` is the confidence that the answer states."""

    id: str
    question: str
    status: str
    answer: str
    shown: str
    gold: Gold
    retrieved: bool
    p_retrieve: float | None
    hits: tuple[bool, ...] | None
    cited_gold: tuple[bool, ...] | None
    segments: int
    whole_shown: int
    whole_written: int
    cited: int
    supported: int
    isrel: float | None
    issup: float | None
    isuse: float
    sequence: float
    stated: float | None
    milliseconds: float
    tokens: int
    expanded: int
    pruned: int

    @property
    def answered(self) -> bool:
        return self.status == "answered"

    @property
    def scored(self) -> bool:
        """Whether there is a right answer to compare with; an abstention counts as a wrong one."""
        return self.gold.answerable is True and bool(self.gold.answers or self.gold.sentences)

    @property
    def accuracy(self) -> float:
        """1 for a right answer; of an unanswerable question no answer is right. Where only the sentences that answer are known,
        it is right to show one of them."""
        if not (self.answered and self.scored):
            return 0.0
        if self.gold.answers:
            return metrics.accuracy(self.answer, self.gold.answers)
        return metrics.holds_sentence(self.shown, self.gold.sentences)

    @property
    def accuracy_shown(self) -> float:
        """1 if the shown text contains a gold answer."""
        return metrics.accuracy(self.shown, self.gold.answers) if self.answered and self.gold.answers else 0.0

    @property
    def confidence(self) -> float:
        """The answer's own confidence; for an answer without evidence the sequence term."""
        return self.sequence if self.stated is None else self.stated


def columns_of(row: Json) -> dict[str, Any]:
    """The input's columns of an output row, under their own names."""
    return {name.removeprefix("input_"): value for name, value in row.items() if name not in RESERVED}


def outcome(row: Json, gold: Gold | None = None) -> Outcome:
    """The outcome in an output row; ``gold`` defaults to the row's kept columns. InputError if it is not an output row."""
    gold = gold or metrics.gold_of(columns_of(row))
    try:
        return _outcome(row, gold)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the row {row.get('id')!r} is not in the schema selfrag.answer/1: {error!r}") from error


def _outcome(row: Json, gold: Gold) -> Outcome:
    segments, cited = row["segments"], [s for s in row["segments"] if s["citation"] is not None]
    by_number = {citation["n"]: citation for citation in row["citations"]}
    isrel, issup = evidence_means(segments) or (None, None)
    return Outcome(
        id=str(row["id"]),
        question=row["question"],
        status=row["status"],
        answer=row["answer"],
        shown=shown_answer(cast("AnswerJson", row)),
        gold=gold,
        retrieved=bool(row["retrieval"]["decision"]),
        p_retrieve=row["retrieval"]["probability"],
        hits=_hits(row.get("passages") or [], gold),
        cited_gold=_all_known(metrics.is_gold(by_number[s["citation"]], gold) for s in cited if s["citation"] in by_number),
        segments=len(segments),
        whole_shown=sum(metrics.is_whole_sentence(shown(s)) for s in segments),
        whole_written=sum(metrics.is_whole_sentence(s["text"]) for s in segments),
        cited=len(cited),
        supported=sum(s["critique"]["issup"] >= SUPPORTED for s in cited),
        isrel=isrel,
        issup=issup,
        isuse=utility(segments),
        sequence=sum(s["critique"]["sequence"] for s in segments) / len(segments) if segments else 0.0,
        stated=row.get("confidence"),
        milliseconds=row["timing_ms"]["total"],
        tokens=row["usage"]["completion_tokens"],
        expanded=row["candidates"]["expanded"],
        pruned=row["candidates"]["pruned"],
    )


def _hits(passages: Sequence[Json], gold: Gold) -> tuple[bool, ...] | None:
    """By gold source where that is known, otherwise by whether the text contains a gold answer."""
    known = _all_known(metrics.is_gold(passage, gold) for passage in passages)
    return known if known is not None else _all_known(metrics.has_answer(passage, gold.answers) for passage in passages)


def _all_known(found: Iterable[bool | None]) -> tuple[bool, ...] | None:
    listed = tuple(found)
    return None if None in listed else tuple(bool(item) for item in listed)

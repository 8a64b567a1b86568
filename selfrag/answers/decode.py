"""Answers and events read back from their JSON: the other way round of `schema` and `trace`.

Everything that the JSON keeps comes back equal; the engine's tokens of a segment are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfrag.answers.rescore import segment_from
from selfrag.answers.schema import critique_of
from selfrag.answers.trace import passage_from
from selfrag.types import (
    Answer,
    Cited,
    Corrected,
    Decided,
    Decision,
    Event,
    Expanded,
    Joined,
    Opened,
    Passage,
    Pruned,
    Reconsidered,
    Retrieved,
    SearchOptions,
    Segment,
    Selected,
    Timing,
    Usage,
    Wrote,
)

Json = Mapping[str, Any]


def answer_from(row: Json, options: SearchOptions) -> Answer:
    """The answer of a document of `answer_json`, searched with ``options``. Raises KeyError and TypeError for anything else."""
    evidence = tuple(passage_from(citation) for citation in row["citations"])
    retrieval = row["retrieval"]
    decision = Decision("retrieve" if retrieval["decision"] else "none", retrieval["probability"])
    return Answer(
        question=row["question"],
        status=row["status"],
        text=row["answer"],
        segments=tuple(_cited(segment, evidence) for segment in row["segments"]),
        evidence=evidence,
        options=options,
        decision=decision,
        expanded=row["candidates"]["expanded"],
        pruned=row["candidates"]["pruned"],
        exact=row["exact"],
        reflection=row["reflection"],
        model=row["model"],
        engine=row["engine"],
        collection=row["collection"],
        usage=Usage(**row["usage"]),
        timing=Timing(**row["timing_ms"]),
        score=row["score"],
        warnings=tuple(row["warnings"]),
    )


def _cited(row: Json, evidence: tuple[Passage, ...]) -> Cited:
    number = row["citation"]
    critique = critique_of(row["critique"], row["distributions"])
    return Cited(Segment(row["text"], evidence[number - 1] if number else None, critique), number, row["score"])


def event_from(row: Json, passages: Mapping[str, Passage]) -> Event:
    """An event of `event_json`; ``passages`` maps the chunk ids in it to passages. Raises KeyError for an unknown event."""
    match row["event"]:
        case "decided":
            return Decided(row["step"], row["path"], Decision(**row["decision"]))
        case "retrieved":
            return Retrieved(row["step"], row["path"], row["query"], tuple(passages[chunk] for chunk in row["passages"]))
        case "corrected":
            found = tuple(passages[chunk] for chunk in row["passages"])
            return Corrected(row["step"], row["path"], row["number"], row["standing"], row["best"], row["query"], found)
        case "reconsidered":
            return Reconsidered(row["step"], row["path"], row["isuse"], row["sentences"])
        case "opened":
            passage = passages[row["passage"]] if row["passage"] else None
            return Opened(
                row["step"],
                row["path"],
                row["candidate"],
                passage,
                critique_of(row["critique"], row["critique"]["distributions"]),
            )
        case "wrote":
            return Wrote(row["candidate"], row["text"])
        case "expanded":
            segment = segment_from(row["segment"], passages)
            return Expanded(row["step"], row["path"], row["candidate"], segment, row["score"])
        case "pruned":
            passage = passages[row["passage"]] if row["passage"] else None
            return Pruned(row["step"], row["path"], row["candidate"], passage, row["when"], row["bound"], row["needed"])
        case "joined":
            return Joined(row["step"], row["path"], tuple(row["candidates"]))
        case "selected":
            return Selected(row["step"], tuple(row["paths"]), tuple(row["scores"]))
    raise KeyError(row["event"])

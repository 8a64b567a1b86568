"""Reads answers and events back from their JSON, the inverse of `schema` and `trace`.

Everything in the JSON is restored; the engine's tokens of a segment are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from selfrag.answers.rescore import segment_from
from selfrag.answers.schema import critique_of
from selfrag.answers.trace import passage_from
from selfrag.types import Answer, Cited, Decision, Event, Passage, SearchOptions, Segment, Timing, Usage

Json = Mapping[str, Any]
_EVENTS = {kind.__name__.lower(): kind for kind in get_args(Event)}


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
        confidence=row.get("confidence"),
        warnings=tuple(row["warnings"]),
    )


def _cited(row: Json, evidence: tuple[Passage, ...]) -> Cited:
    number = row["citation"]
    critique = critique_of(row["critique"], row["distributions"])
    return Cited(Segment(row["text"], evidence[number - 1] if number else None, critique), number, row["score"])


def event_from(row: Json, passages: Mapping[str, Passage]) -> Event:
    """An event of `event_json`; ``passages`` maps the chunk ids in it to passages. Raises KeyError for an unknown event."""
    kind: Any = _EVENTS[row["event"]]
    event: Event = kind(**{field.name: _value(field.name, row[field.name], passages) for field in fields(kind)})
    return event


def _value(name: str, value: Any, passages: Mapping[str, Passage]) -> Any:
    """The field ``name`` of an event, as `trace.plain` wrote it."""
    if name == "decision":
        return Decision(**value)
    if name == "passage":
        return passages[value] if value else None
    if name == "passages":
        return tuple(passages[chunk] for chunk in value)
    if name == "critique":
        return critique_of(value, value["distributions"])
    if name == "segment":
        return segment_from(value, passages)
    return tuple(value) if isinstance(value, list) else value

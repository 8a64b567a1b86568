"""Traces: a whole search as JSON, ``selfrag.trace/1``, with every candidate and its critique.

A trace can be checked against the sources later (`citations`) and re-ranked under other weights without a model (`rescore`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from selfrag._util import write_whole
from selfrag.answers.schema import (
    TRACE_SCHEMA,
    AnswerJson,
    EventJson,
    PassageJson,
    TraceJson,
    answer_json,
    critique_json,
    distributions_json,
    passage_json,
)
from selfrag.errors import InputError
from selfrag.types import Answer, ConfidenceWeights, Critique, Event, Header, Passage, SearchOptions, Segment, Weights


class Recorder:
    """An observer that records every event except the single pieces of text."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        if type(event).__name__ != "Wrote":
            self.events.append(event)


def trace_json(answer: Answer, events: Sequence[Event]) -> TraceJson:
    passages: dict[str, Passage] = {}
    written = [event_json(event, passages) for event in events]
    return {
        "schema": TRACE_SCHEMA,
        "answer": answer_json(answer),
        "options": plain(answer.options, passages),
        "events": written,
        "passages": {chunk: passage_json(passage) for chunk, passage in passages.items()},
    }


def event_json(event: Event, passages: dict[str, Passage]) -> EventJson:
    """An event by its name; passages are named by chunk id and collected in ``passages``."""
    found = {field.name: plain(getattr(event, field.name), passages) for field in fields(event)}
    return cast("EventJson", {"event": type(event).__name__.lower(), **found})


def plain(value: object, passages: dict[str, Passage]) -> Any:
    if isinstance(value, Passage):
        passages[value.chunk] = value
        return value.chunk
    if isinstance(value, Critique):
        return {**critique_json(value), "distributions": distributions_json(value)}
    if isinstance(value, Segment):
        carried = {"text": value.text, "carry": value.carry, "finished": value.finished}
        return {**carried, "passage": plain(value.passage, passages), "critique": plain(value.critique, passages)}
    if isinstance(value, tuple):
        return [plain(item, passages) for item in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), passages) for field in fields(value)}
    return value


@dataclass(frozen=True)
class Trace:
    """A stored search. ``answer`` is the JSON of the answer as it was given."""

    answer: AnswerJson
    options: SearchOptions
    events: tuple[EventJson, ...]
    passages: Mapping[str, Passage]


def save(path: Path, answer: Answer, events: Sequence[Event]) -> None:
    """Written whole or not at all."""
    write_whole(path, [json.dumps(trace_json(answer, events), ensure_ascii=False, indent=1).encode() + b"\n"])


def load(path: Path) -> Trace:
    """The trace that `save` wrote. Raises InputError if the file is missing or not a trace."""
    mend = 'make one with: selfrag ask "…" --save-trace FILE'
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != TRACE_SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {TRACE_SCHEMA!r}")
        for segment in document["answer"]["segments"]:
            segment.setdefault("quote", None)  # traces of version 0.1 have none
        return read(document)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", mend) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a trace: {error}", mend) from error


def read(document: TraceJson) -> Trace:
    """The trace in this JSON. Raises KeyError, TypeError or ValueError if it is not one."""
    passages = {chunk: passage_from(row) for chunk, row in document["passages"].items()}
    return Trace(document["answer"], options_from(document["options"]), tuple(document["events"]), passages)


def passage_from(row: PassageJson) -> Passage:
    lines = (row["lines"][0], row["lines"][1]) if row["lines"] else None
    headers = tuple(Header(**each) for each in row.get("headers", ()))
    return Passage(row["chunk"], row["title"], row["text"], row["source"], lines, row["page"], row.get("place"), headers=headers)


def options_from(row: Mapping[str, Any]) -> SearchOptions:
    weights = {"weights": Weights(**row["weights"]), "confidence": ConfidenceWeights(**row.get("confidence", {}))}
    return SearchOptions(**{**row, **weights, "choices": tuple(row["choices"])})

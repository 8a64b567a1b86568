"""Traces: a whole search as JSON, ``selfrag.trace/1``, with every candidate and its critique.

A trace can be checked against the sources later (`citations`) and re-ranked under other weights without a model (`rescore`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from selfrag._util import write_whole
from selfrag.answers.schema import Json, answer_json, critique_json, passage_json
from selfrag.errors import InputError
from selfrag.types import Answer, Critique, Event, Passage, SearchOptions, Segment, Weights

TRACE_SCHEMA = "selfrag.trace/1"


class Recorder:
    """An observer that keeps every event but the single pieces of text."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        if type(event).__name__ != "Wrote":
            self.events.append(event)


def trace_json(answer: Answer, events: Sequence[Event]) -> Json:
    passages: dict[str, Passage] = {}
    written = [event_json(event, passages) for event in events]
    return {
        "schema": TRACE_SCHEMA,
        "answer": answer_json(answer),
        "options": asdict(answer.options),
        "events": written,
        "passages": {chunk: passage_json(passage) for chunk, passage in passages.items()},
    }


def event_json(event: Event, passages: dict[str, Passage]) -> Json:
    """An event by its name; passages are named by chunk id and collected in ``passages``."""
    row: Json = {"event": type(event).__name__.lower()}
    for field in fields(event):
        value = getattr(event, field.name)
        row[field.name] = plain(value, passages)
    return row


def plain(value: object, passages: dict[str, Passage]) -> Any:
    if isinstance(value, Passage):
        passages[value.chunk] = value
        return value.chunk
    if isinstance(value, Critique):
        return {**critique_json(value), "distributions": {k: dict(v) for k, v in value.distributions.items()}}
    if isinstance(value, Segment):
        carried = {"text": value.text, "carry": value.carry, "finished": value.finished}
        return {**carried, "passage": plain(value.passage, passages), "critique": plain(value.critique, passages)}
    if isinstance(value, tuple):
        return [plain(item, passages) for item in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value  # type: ignore[call-overload]


@dataclass(frozen=True)
class Trace:
    """A search read back. ``answer`` is the JSON of the answer as it was given."""

    answer: Json
    options: SearchOptions
    events: tuple[Json, ...]
    passages: Mapping[str, Passage]


def save(path: Path, answer: Answer, events: Sequence[Event]) -> None:
    """Written whole or not at all."""
    write_whole(path, [json.dumps(trace_json(answer, events), ensure_ascii=False, indent=1).encode() + b"\n"])


def load(path: Path) -> Trace:
    """The trace that `save` wrote. Raises InputError for a file that is not there, or that is none."""
    mend = 'make one with: selfrag ask "…" --save-trace FILE'
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != TRACE_SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, not {TRACE_SCHEMA!r}")
        passages = {chunk: passage_from(row) for chunk, row in document["passages"].items()}
        return Trace(document["answer"], options_from(document["options"]), tuple(document["events"]), passages)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", mend) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a trace: {error}", mend) from error


def passage_from(row: Json) -> Passage:
    lines = (row["lines"][0], row["lines"][1]) if row["lines"] else None
    return Passage(row["chunk"], row["title"], row["text"], row["source"], lines, row["page"], row.get("place"))


def options_from(row: Json) -> SearchOptions:
    return SearchOptions(**{**row, "weights": Weights(**row["weights"]), "choices": tuple(row["choices"])})

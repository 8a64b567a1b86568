"""Answers and searches as JSON: one schema for `ask --json`, batch rows and trace files, and what a stored search can still tell.

A trace holds every candidate with its critique, so that it can be checked against the sources later, and ranked anew under other
weights without a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from selfrag import beam, reflection
from selfrag.errors import InputError
from selfrag.files import write_whole
from selfrag.types import (
    Answer,
    Cited,
    Critique,
    Event,
    Expanded,
    Passage,
    SearchOptions,
    Segment,
    Support,
    Timing,
    Usage,
    Weights,
)

SCHEMA = "selfrag.answer/1"
TRACE_SCHEMA = "selfrag.trace/1"

Json = dict[str, Any]


# --- answers -------------------------------------------------------------------------------------------------------------------


def answer_json(answer: Answer, id: str | int | None = None) -> Json:
    """The document of ``ask --json``, a row of ``batch``, the head of a trace: all the same keys in the same order."""
    options, decision = answer.options, answer.decision
    return error_json(answer.question, "", id) | {
        "status": answer.status,
        "answer": answer.text,
        "score": answer.score,
        "retrieval": {
            "mode": options.mode,
            "decision": decision.action == "retrieve",
            "probability": decision.probability,
            "threshold": options.threshold,
        },
        "segments": [cited_json(cited) for cited in answer.segments],
        "citations": [{"n": n, **passage_json(passage)} for n, passage in enumerate(answer.evidence, 1)],
        "candidates": {"expanded": answer.expanded, "pruned": answer.pruned},
        "exact": answer.exact,
        "reflection": answer.reflection,
        "model": answer.model,
        "engine": answer.engine,
        "collection": answer.collection,
        "usage": asdict(answer.usage),
        "timing_ms": asdict(answer.timing),
        "warnings": list(answer.warnings),
        "error": None,
    }


def error_json(question: str, error: str, id: str | int | None = None) -> Json:
    """A row for a question that could not be answered: every key of the schema, ``status`` "error", and why."""
    return {
        "schema": SCHEMA,
        "id": id,
        "question": question,
        "status": "error",
        "answer": "",
        "score": 0.0,
        "retrieval": {"mode": "adaptive", "decision": False, "probability": None, "threshold": 0.0},
        "segments": [],
        "citations": [],
        "candidates": {"expanded": 0, "pruned": 0},
        "exact": False,
        "reflection": "tokens",
        "model": "",
        "engine": "",
        "collection": "",
        "usage": asdict(Usage()),
        "timing_ms": asdict(Timing()),
        "warnings": [],
        "error": error,
    }


def cited_json(cited: Cited) -> Json:
    """A group that the segment does not carry counts 0 in ``critique`` and is missing from ``distributions``."""
    return {
        "text": cited.segment.text,
        "citation": cited.citation,
        "critique": critique_json(cited.segment.critique),
        "score": cited.score,
        "distributions": {group: dict(found) for group, found in cited.segment.critique.distributions.items()},
    }


def critique_json(critique: Critique) -> Json:
    return {
        "isrel": critique.isrel,
        "issup": critique.issup,
        "isuse": critique.isuse,
        "sequence": critique.sequence,
        "retrieval": critique.retrieval,
    }


def passage_json(passage: Passage) -> Json:
    return {
        "title": passage.title,
        "source": passage.source,
        "lines": list(passage.lines) if passage.lines else None,
        "page": passage.page,
        "chunk": passage.chunk,
        "text": passage.text,
    }


# --- traces --------------------------------------------------------------------------------------------------------------------


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
    return Passage(row["chunk"], row["title"], row["text"], row["source"], lines, row["page"])


def options_from(row: Json) -> SearchOptions:
    return SearchOptions(**{**row, "weights": Weights(**row["weights"]), "choices": tuple(row["choices"])})


# --- what a stored search can still tell ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Whether a citation still holds. ``moved``: the words are in the source, but no longer at those lines."""

    n: int
    source: str
    state: Literal["unchanged", "moved", "changed", "missing"]


def verify(answer: Json, read: Callable[[str], str]) -> list[Check]:
    """Compares each citation's words with its source. ``read`` gives a source's text, or raises InputError or OSError.

    White space is not compared. ``answer`` is any document of the answer schema.
    """
    return [Check(row["n"], row["source"], state_of(row, read)) for row in answer["citations"]]


def state_of(row: Json, read: Callable[[str], str]) -> Literal["unchanged", "moved", "changed", "missing"]:
    try:
        text = read(row["source"])
    except (OSError, InputError):
        return "missing"
    wanted = " ".join(row["text"].split())
    if row["lines"]:
        first, last = row["lines"]
        if wanted in " ".join(" ".join(text.split("\n")[first - 1 : last]).split()):
            return "unchanged"
        return "moved" if wanted in " ".join(text.split()) else "changed"
    return "unchanged" if wanted in " ".join(text.split()) else "changed"


def rescore(trace: Trace, weights: Weights, require_support: Support | None = None) -> Json:
    """The answer that the stored candidates give under other weights, in the answer schema; no model is asked.

    Only candidates that were written can win: after a pruned search, or where the beam would have gone elsewhere, a new search
    may find a better one. A trace made with ``--no-prune`` holds every candidate of its first step.
    """
    options = replace(trace.options, weights=reflection.check_weights(weights), require_support=require_support)
    paths = {0: beam.Path(0)}
    parents, ended = set(), set()
    for order, row in enumerate(row for row in trace.events if row["event"] == Expanded.__name__.lower()):
        segment = segment_from(row["segment"], trace.passages)
        if row["path"] not in paths or not reflection.supported(segment.critique, require_support):
            continue
        parent = paths[row["path"]]
        if not parent.gains(segment):
            ended.add(parent.id)
            continue
        parents.add(row["path"])
        scores = (*parent.scores, reflection.segment_score(segment.critique, weights))
        paths[row["candidate"]] = beam.Path(row["candidate"], (*parent.segments, segment), scores, True, order)
    leaves = [path for path in paths.values() if path.segments and (path.id in ended or path.id not in parents)]
    best = min(leaves, key=lambda p: (-p.score, p.order), default=beam.Path(0))
    return answer_again(trace, best, options)


def segment_from(row: Json, passages: Mapping[str, Passage]) -> Segment:
    c = row["critique"]
    critique = Critique(c["isrel"], c["issup"], c["isuse"], c["sequence"], c["distributions"], c.get("retrieval", 0.0))
    passage = passages[row["passage"]] if row["passage"] else None
    return Segment(row["text"], passage, critique, row["carry"], finished=row["finished"])


def answer_again(trace: Trace, path: beam.Path, options: SearchOptions) -> Json:
    cited, evidence = beam.cite(path)
    text = beam.text_of(cited)
    abstained = not text or reflection.doubtful(path.segments, options.abstain_isrel, options.abstain_issup)
    return {
        **trace.answer,
        "status": "abstained" if abstained else "answered",
        "answer": "" if abstained else text,
        "score": path.score,
        "segments": [cited_json(c) for c in cited],
        "citations": [{"n": n, **passage_json(p)} for n, p in enumerate(evidence, 1)],
    }

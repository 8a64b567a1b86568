"""Answers as JSON: one schema, ``selfrag.answer/1``, for `ask --json`, batch rows and the head of a trace."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from selfrag.types import Answer, Cited, Critique, Passage, Timing, Usage

SCHEMA = "selfrag.answer/1"

Json = dict[str, Any]


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
        "place": passage.place,
        "chunk": passage.chunk,
        "text": passage.text,
    }

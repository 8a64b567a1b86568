"""Output rows as a batch writes them, made by hand for the tests of what reads them."""

from __future__ import annotations

from typing import Any

from selfrag.answers.schema import error_json


def passage(source: str, text: str = "", isrel: float = 0.5) -> dict[str, Any]:
    return {
        "title": source,
        "source": f"{source}.md",
        "lines": [1, 2],
        "page": None,
        "place": None,
        "chunk": source,
        "text": text,
        "isrel": isrel,
    }


def row(
    id: str,
    answer: str = "Paris",
    *,
    cited: str | None = "France",
    found: tuple[str, ...] = ("France", "Spain"),
    isrel: float = 0.9,
    issup: float = 0.8,
    status: str = "answered",
    probability: float | None = 0.7,
    **columns: Any,
) -> dict[str, Any]:
    """A question answered in one segment from the passage ``cited``; ``columns`` are the input's."""
    judged = {"ISREL": {"[Relevant]": isrel, "[Irrelevant]": 1 - isrel}} if cited else {}
    support = {"[Fully supported]": issup, "[Partially supported]": 0.0, "[No support / Contradictory]": 1 - issup}
    segment = {
        "text": answer,
        "citation": 1 if cited else None,
        "quote": None,
        "critique": {
            "isrel": isrel if cited else 0.0,
            "issup": issup if cited else 0.0,
            "isuse": 0.5,
            "sequence": 0.4,
            "retrieval": 0.0,
        },
        "score": 2.0,
        "distributions": {
            **judged,
            **({"ISSUP": support} if cited else {}),
            "ISUSE": {f"[Utility:{k}]": float(k == 4) for k in range(1, 6)},
        },
    }
    return {
        **error_json(f"Question {id}?", "", id),
        "status": status,
        "error": None,
        "answer": answer if status == "answered" else "",
        "confidence": isrel * issup if cited else None,
        "retrieval": {"mode": "adaptive", "decision": bool(found), "probability": probability, "threshold": 0.2},
        "segments": [segment] if answer else [],
        "citations": [{"n": 1, **passage(cited)}] if cited else [],
        "candidates": {"expanded": 2, "pruned": 1},
        "model": "m",
        "passages": [passage(name, isrel=0.9 if name == "France" else 0.2) for name in found],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "cached_tokens": 0},
        "timing_ms": {"retrieve": 1.0, "generate": 2.0, "total": 100.0},
        "line": 1,
        "hash": id,
        **({"answers": ["Paris"], "sources": ["France"]} | columns),
    }

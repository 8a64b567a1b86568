"""Writes docs/schema/*.json, the JSON Schema of answers, batch rows and traces, from the types in selfrag/answers/schema.py.

python tools/answer_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from selfrag.answers import schema

FOLDER = Path(__file__).parents[1] / "docs" / "schema"
TYPES = {"selfrag.answer.1": schema.AnswerJson, "selfrag.batch-row.1": schema.BatchRow, "selfrag.trace.1": schema.TraceJson}


def schemas() -> dict[str, dict[str, Any]]:
    """Each schema by the name of its file, without the ending."""
    return {name: made(name, kind) for name, kind in TYPES.items()}


def made(name: str, kind: Any) -> dict[str, Any]:
    found = TypeAdapter(kind).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{name}.json", **untitled(found)}


def untitled(found: Any) -> Any:
    """Without the titles that pydantic makes of every name."""
    if isinstance(found, dict):
        return {key: untitled(value) for key, value in found.items() if not (key == "title" and isinstance(value, str))}
    return [untitled(item) for item in found] if isinstance(found, list) else found


def text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, document in schemas().items():
        (FOLDER / f"{name}.json").write_text(text(document), encoding="utf-8")

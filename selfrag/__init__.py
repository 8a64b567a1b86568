"""Ask your own documents, with a probability behind every sentence.

    collection = selfrag.open_collection(home, "default")
    engine = selfrag.open_engine("auto", "path/of/a/reflection/model")
    answer = await selfrag.Agent(selfrag.TokenReflector(engine), collection).ask("When was the Eiffel Tower built?")
    print(selfrag.answer_json(answer))

Names are imported when they are first used, so that ``import selfrag`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfrag.algorithm.search import Agent
    from selfrag.answers.schema import answer_json
    from selfrag.engines import open_engine
    from selfrag.errors import SelfragError
    from selfrag.index import open_collection
    from selfrag.models import resolve as resolve_model
    from selfrag.reflectors.tokens import TokenReflector
    from selfrag.types import Answer, Passage, SearchOptions, Weights

__all__ = [
    "Agent",
    "Answer",
    "Passage",
    "SearchOptions",
    "SelfragError",
    "TokenReflector",
    "Weights",
    "answer_json",
    "open_collection",
    "open_engine",
    "resolve_model",
]

_HOMES = {
    "Agent": "selfrag.algorithm.search",
    "Answer": "selfrag.types",
    "Passage": "selfrag.types",
    "SearchOptions": "selfrag.types",
    "SelfragError": "selfrag.errors",
    "TokenReflector": "selfrag.reflectors.tokens",
    "Weights": "selfrag.types",
    "answer_json": "selfrag.answers.schema",
    "open_collection": "selfrag.index",
    "open_engine": "selfrag.engines",
    "resolve_model": "selfrag.models",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'selfrag' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), {"resolve_model": "resolve"}.get(name, name))

"""Ask your own documents, with a probability behind every sentence.

    async with selfrag.open_agent("papers") as agent:
        answer = await agent.ask("What does the second experiment show?")
    print(answer.text, selfrag.answer_json(answer))

Names are imported when they are first used, so that ``import selfrag`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfrag._version import __version__
    from selfrag.agent import Agent, open_agent
    from selfrag.answers.schema import answer_json
    from selfrag.engines import open_engine
    from selfrag.errors import (
        CollectionError,
        ConfigError,
        EngineBusy,
        EngineError,
        InputError,
        Interrupted,
        LockedError,
        ModelError,
        SelfragError,
        UsageError,
    )
    from selfrag.index import open_collection, open_retriever
    from selfrag.models import resolve as resolve_model
    from selfrag.reflectors.prompted import PromptedReflector
    from selfrag.reflectors.tokens import TokenReflector
    from selfrag.types import Answer, Engine, Passage, Reflector, Retriever, SearchOptions, Weights

_HOMES = {
    "selfrag._version": ("__version__",),
    "selfrag.agent": ("Agent", "open_agent"),
    "selfrag.answers.schema": ("answer_json",),
    "selfrag.engines": ("open_engine",),
    "selfrag.errors": (
        "CollectionError",
        "ConfigError",
        "EngineBusy",
        "EngineError",
        "InputError",
        "Interrupted",
        "LockedError",
        "ModelError",
        "SelfragError",
        "UsageError",
    ),
    "selfrag.index": ("open_collection", "open_retriever"),
    "selfrag.models": ("resolve_model",),
    "selfrag.reflectors.prompted": ("PromptedReflector",),
    "selfrag.reflectors.tokens": ("TokenReflector",),
    "selfrag.types": ("Answer", "Engine", "Passage", "Reflector", "Retriever", "SearchOptions", "Weights"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Answer",
    "CollectionError",
    "ConfigError",
    "Engine",
    "EngineBusy",
    "EngineError",
    "InputError",
    "Interrupted",
    "LockedError",
    "ModelError",
    "Passage",
    "PromptedReflector",
    "Reflector",
    "Retriever",
    "SearchOptions",
    "SelfragError",
    "TokenReflector",
    "UsageError",
    "Weights",
    "__version__",
    "answer_json",
    "open_agent",
    "open_collection",
    "open_engine",
    "open_retriever",
    "resolve_model",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'selfrag' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), {"resolve_model": "resolve"}.get(name, name))

"""HyDE (Gao et al. 2023): a question is searched together with a hypothetical passage that an instruct model generates for it.

The hypothetical passage is averaged with the question's vector; it is never shown or cited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfrag.types import Engine, Message, Request

_PASSAGE_TOKENS = 120


@dataclass(frozen=True, slots=True)
class Hyde:
    """Generates hypothetical passages with ``engine``, the instruct model ``model``; ``render`` fills prompts/hyde.txt."""

    model: str
    engine: Engine
    render: Callable[..., str]

    async def write(self, question: str) -> tuple[str, ...]:
        """The hypothetical passage for ``question``, or nothing if the model generates nothing. Raises EngineError."""
        prompt = Message("user", self.render(question=question))
        completion = await self.engine.complete(Request((prompt,), _PASSAGE_TOKENS))
        passage = " ".join("".join(token.text for token in completion.tokens).split())
        return (passage,) if passage else ()

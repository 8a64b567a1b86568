"""Contextual retrieval (Anthropic 2024): an instruct model says where a chunk stands in its document.

The context is embedded and matched with its chunk; it is never shown or cited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from selfrag.index.sync.chunks import digest
from selfrag.types import Engine, Message, Request

_PART = 12_000
"""Characters of a document that stand before its chunks, about 3,000 tokens; a longer document is taken in such parts."""
_CONTEXT_TOKENS = 100

Render = Callable[..., str]


async def _write(engine: Engine, prompt: str, max_tokens: int) -> str:
    completion = await engine.complete(Request((Message("user", prompt),), max_tokens))
    return " ".join("".join(token.text for token in completion.tokens).split())


async def _write_all(engine: Engine, prompts: Sequence[str]) -> list[str]:
    return await asyncio.gather(*(_write(engine, prompt, _CONTEXT_TOKENS) for prompt in prompts))


class ContextWriter:
    """Situates chunks. ``render`` fills prompts/context.txt with title, document and chunk: the document comes first, so that all
    chunks of a part share a prefix, which the engine prefills once. ``open_engine`` is called for the first chunk: a run without
    new chunks costs nothing.
    """

    def __init__(self, model: str, open_engine: Callable[[], Engine], render: Render) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._render = render
        self._loop = asyncio.Runner()
        self.fingerprint = f"{model} {digest(render(title='', document='', chunk=''))[:8]}"

    def part(self, text: str, start: int) -> str:
        """The part of a document given as context for the chunk at ``start``."""
        begin = start // _PART * _PART
        return text[max(0, begin - _PART // 10) : begin + _PART + _PART // 10]

    def write(self, title: str, part: str, chunks: Sequence[str]) -> list[str]:
        """One or two sentences for each chunk. Raises ModelError, EngineError."""
        self._engine = self._engine or self._open_engine()
        prompts = [self._render(title=title, document=part, chunk=chunk) for chunk in chunks]
        return self._loop.run(_write_all(self._engine, prompts))

    def close(self) -> None:
        if self._engine is not None:
            self._loop.run(self._engine.close())
        self._loop.close()

"""What an instruct model writes about chunks while they are indexed: their contexts, and the triples that they state.

A context (contextual retrieval, Anthropic 2024) says where a chunk stands in its document. It is embedded and matched with its
chunk; it is never shown or cited. Triples give the graph of names (graph.py) names that no rule finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfrag import prompts
from selfrag.index.sync.chunks import digest, own_title
from selfrag.ingest import Chunk, Document
from selfrag.types import Engine, Message, Request

TOGETHER = 16
"""Chunks that the model reads at the same time."""
_PART = 12_000
"""Characters of a document that stand before its chunks, about 3,000 tokens; a longer document is taken in such parts."""
_TOKENS = {"context": 100, "triples": 200}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What the model is given of a chunk. ``part`` is the part of its document around it, empty if the prompt has no place for
    it."""

    title: str
    part: str
    chunk: str


class InstructModel:
    """The instruct model ``name``. ``open_engine`` is called for the first prompt: a run without new chunks costs nothing."""

    def __init__(self, name: str, open_engine: Callable[[], Engine]) -> None:
        self.name = name
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._loop = asyncio.Runner()
        self._tasks: list[asyncio.Task[None]] = []

    def write(self, asked: Sequence[str], max_tokens: int, keep: Callable[[int, str], None]) -> None:
        """Calls ``keep`` with each prompt's number and answer as soon as it is there. Raises ModelError, EngineError."""
        self._engine = self._engine or self._open_engine()
        try:
            self._loop.run(self._write(self._engine, asked, max_tokens, keep))
        except BaseException:  # Ctrl-C, too: nobody keeps what the others would still write
            for task in self._tasks:
                task.cancel()
            raise

    async def _write(self, engine: Engine, asked: Sequence[str], max_tokens: int, keep: Callable[[int, str], None]) -> None:
        async def one(number: int) -> None:
            completion = await engine.complete(Request((Message("user", asked[number]),), max_tokens))
            keep(number, "".join(token.text for token in completion.tokens).strip())

        self._tasks = [asyncio.ensure_future(one(number)) for number in range(len(asked))]
        await asyncio.gather(*self._tasks)

    def close(self) -> None:
        if self._engine is not None:
            self._loop.run(self._engine.close())
        self._loop.close()


class Annotator:
    """Asks ``model`` about chunks with prompts/``prompt``.txt. A prompt with a variable ``document`` has the document first, so
    that all chunks of a part share a prefix, which the engine prefills once. ``fingerprint`` names the model and the prompt.
    """

    def __init__(self, model: InstructModel, prompt: str) -> None:
        self.prompt = prompt
        self._model = model
        self._template = prompts.load(prompt)
        self._max_tokens = _TOKENS[prompt]
        self.fingerprint = f"{model.name} {digest(self._rendered(Excerpt('', '', '')))[:8]}"

    def excerpt(self, path: str, document: Document, chunk: Chunk) -> Excerpt:
        if "document" not in self._template.variables:
            return Excerpt(own_title(path, document), "", chunk.text)
        begin = chunk.start // _PART * _PART
        part = document.text[max(0, begin - _PART // 10) : begin + _PART + _PART // 10]
        return Excerpt(document.title, part, chunk.text)

    def key(self, excerpt: Excerpt) -> str:
        """What the model writes about ``excerpt`` is cached under this."""
        return digest(self.fingerprint, excerpt.title, excerpt.part, excerpt.chunk)

    def write(self, excerpts: Sequence[Excerpt], keep: Callable[[int, str], None]) -> None:
        """Calls ``keep`` with the number and the text of each as soon as it is written. Raises ModelError, EngineError."""
        self._model.write([self._rendered(each) for each in excerpts], self._max_tokens, keep)

    def _rendered(self, excerpt: Excerpt) -> str:
        values = {"title": excerpt.title, "document": excerpt.part, "chunk": excerpt.chunk}
        return self._template.render(**{name: values[name] for name in self._template.variables})

"""Measures one question: tokens, exactness, and the time during which at least one call was running."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from selfrag.types import Completion, Engine, OnToken, Request, Usage


class Stopwatch:
    """Wall time in milliseconds during which at least one of several overlapping pieces of work was running."""

    def __init__(self) -> None:
        self._running = 0
        self._since = 0.0
        self._total = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._running == 0:
            self._since = time.perf_counter()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._total += time.perf_counter() - self._since

    @property
    def milliseconds(self) -> float:
        return round(self._total * 1000, 3)


class CountingEngine:
    """Forwards everything to another engine, and counts."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.model, self.exact = engine.name, engine.model, engine.exact
        self.watch = Stopwatch()
        self.usage = Usage()
        self.every_exact = True
        self.stated = False

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        with self.watch.running():
            done = await self.engine.complete(request, on_token)
        self.every_exact &= done.exact
        self.stated |= done.stated
        written = len(done.tokens) if done.completion_tokens is None else done.completion_tokens
        self.usage = Usage(
            self.usage.prompt_tokens + done.prompt_tokens,
            self.usage.completion_tokens + written,
            self.usage.cached_tokens + done.cached_tokens,
            self.usage.requests + done.requests,
        )
        return done

    async def close(self) -> None:
        await self.engine.close()

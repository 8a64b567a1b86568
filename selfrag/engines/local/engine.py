"""An engine whose model runs in this process, for any model backend; log-probabilities are exact."""

from __future__ import annotations

import asyncio

from selfrag.engines.local.scheduler import Job, Scheduler
from selfrag.engines.local.sequence import LanguageModel
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, Finish, OnToken, Request, Token


class LocalEngine:
    """Serves ``language_model``, which ``model`` names.

    ``cache_bytes`` bounds the KV cache, in use or kept for reuse; one request always fits. ``cache_tokens`` is the same in
    tokens. ``step_tokens`` is about how many prompt tokens a step prefills (default: what suits the model).

    Raises ModelError when the model has no embeddings for the vocabulary's reflection tokens.
    """

    exact = True

    def __init__(
        self,
        name: str,
        model: str,
        tokenizer: PromptTokenizer,
        language_model: LanguageModel,
        *,
        cache_bytes: int,
        cache_tokens: int | None = None,
        step_tokens: int | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        if tokenizer.control and max(tokenizer.control.values()) >= language_model.embeddings:
            raise ModelError(f"{model} has reflection tokens in its tokenizer, but no embeddings for them")
        self._context = language_model.context
        room = cache_tokens or cache_bytes // language_model.kv_bytes
        self._scheduler = Scheduler(language_model, tokenizer.ends, room, step_tokens or language_model.step_tokens)

    @property
    def prefilled(self) -> int:
        """The number of tokens computed so far, without wrong guesses."""
        return self._scheduler.prefilled

    @property
    def sequences_in_use(self) -> int:
        """How many requests hold KV cache now."""
        return len(self._scheduler.cache.active)

    @property
    def steps(self) -> int:
        """How many steps were computed so far."""
        return self._scheduler.steps

    @property
    def tokens_kept(self) -> int:
        """The KV cache's current size in tokens, in use or kept."""
        return self._scheduler.cache.tokens

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        """Raises EngineError if the request does not fit the model's context, or for any failure in the thread."""
        job = self._job(request)
        await asyncio.sleep(0)  # requests made together are all encoded before a pass begins with the first of them alone
        self._scheduler.put(job)
        tokens: list[Token] = []
        finish: Finish | None = None
        try:
            while finish is None:
                event = await job.events.get()
                if isinstance(event, BaseException):
                    raise event
                token, finish = event
                tokens.append(token)
                if on_token is not None and not on_token(token):
                    finish = "cancelled"
        finally:
            job.cancelled = True
        return Completion(tuple(tokens), finish, len(job.ids), job.cached)

    async def close(self) -> None:
        """Ends the thread after its present step; requests under way fail with EngineError."""
        await self._scheduler.close()

    def _job(self, request: Request) -> Job:
        stops, watched = self.tokenizer.stops(request), self.tokenizer.watched(request)
        ids = self.tokenizer.encode(request.prompt)
        if len(ids) + request.max_tokens > self._context:
            raise EngineError(
                f"a prompt of {len(ids)} tokens and {request.max_tokens} new ones exceed the model's context of "
                f"{self._context} tokens",
                "ask for fewer or shorter passages (-k, --max-segments)",
            )
        return Job(ids, request.max_tokens, stops, watched, self.tokenizer.reader(ids), asyncio.get_running_loop())

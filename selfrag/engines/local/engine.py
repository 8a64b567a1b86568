"""The engine for one machine without a server: a transformers model, driven token by token in a thread of its own.

Each step of the thread computes, in one packed pass, the next token of everything that is being written and the prompts that
have come in since. Requests join between steps and leave when they are done or given up. Log-probabilities are exact.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from selfrag.engines.local.prefix_cache import Prefixes
from selfrag.engines.local.torch_model import PackedModel, Row
from selfrag.engines.tokenizer import Reader, Vocabulary
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, Finish, OnToken, ReflectionKind, Request, Token

_CACHE_BYTES = 2 << 30
_STEP_TOKENS = {"cpu": 512, "cuda": 8192}

_Event = tuple[Token, Finish | None] | BaseException


@dataclass(slots=True, eq=False)
class _Job:
    """A request on its way through the thread. Only ``cancelled`` is written from outside."""

    ids: list[int]
    max_tokens: int
    stops: frozenset[int]
    watched: Mapping[str, int]
    reader: Reader
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[_Event] = field(default_factory=asyncio.Queue)
    cancelled: bool = False
    cached: int = 0
    written: int = 0
    row: Row | None = None

    def tell(self, event: _Event) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.cancelled = True


class TransformersEngine:
    """Serves the checkpoint folder or Hugging Face name ``model``.

    ``cache_tokens`` is how many tokens' keys and values are kept, in use or for later (default: what 2 GiB hold, and at least
    the model's context); ``step_tokens`` about how many prompt tokens a step reads, which bounds how long the others wait;
    ``threads`` the CPU threads of the computation. ``prefilled`` counts the tokens computed so far.

    Raises:
        ModelError: when the model cannot be loaded or lacks reflection tokens.
    """

    name = "transformers"
    exact = True

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        cache_tokens: int | None = None,
        step_tokens: int | None = None,
        reflection: ReflectionKind = "tokens",
    ) -> None:
        self.model = model
        self.vocabulary = Vocabulary.load(model, reflection)
        self._packed = PackedModel(model, device, dtype)
        if self.vocabulary.control and max(self.vocabulary.control.values()) >= self._packed.embeddings:
            raise ModelError(f"{model} has reflection tokens in its tokenizer, but no embeddings for them")
        fitting = max(_CACHE_BYTES // self._packed.kv_bytes, self._packed.context)
        self._prefixes = Prefixes(self._packed.allocate, cache_tokens or fitting)
        self._step_tokens = step_tokens or _STEP_TOKENS.get(self._packed.device.type, 2048)
        self.prefilled = 0
        self._inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: deque[_Job] = deque()
        self._writing: list[_Job] = []
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, args=(threads,), name="selfrag-engine", daemon=True)
        self._thread.start()

    @property
    def rows_in_use(self) -> int:
        """How many requests hold keys and values now."""
        return len(self._prefixes.active)

    @property
    def tokens_kept(self) -> int:
        """Tokens of room that keys and values take now, in use or kept."""
        return self._prefixes.tokens

    # --- the caller's side -----------------------------------------------------------------------------------------------------

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        """Raises EngineError when the request does not fit the model's context, and whatever goes wrong in the thread."""
        job = self._job(request)
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            self._inbox.put(job)
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
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    def _job(self, request: Request) -> _Job:
        stops, watched = self.vocabulary.stops(request), self.vocabulary.watched(request)
        ids = self.vocabulary.encode(request.prompt)
        if len(ids) + request.max_tokens > self._packed.context:
            raise EngineError(
                f"a prompt of {len(ids)} tokens and {request.max_tokens} new ones exceed the model's context of "
                f"{self._packed.context} tokens",
                "ask for fewer or shorter passages (-k, --max-segments)",
            )
        return _Job(ids, request.max_tokens, stops, watched, self.vocabulary.reader(ids), asyncio.get_running_loop())

    # --- the thread's side -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self, threads: int | None) -> None:
        if threads:
            torch.set_num_threads(threads)
        while self._collect():
            self._drop_cancelled()
            self._admit()
            if self._writing:
                try:
                    self._step()
                except Exception as error:
                    self._fail(error)
        self._fail(EngineError("the engine was closed"))

    def _collect(self) -> bool:
        """Takes in what has come; waits when there is nothing else to do. False when the engine is to close."""
        wait = not self._writing and not self._waiting
        while wait or not self._inbox.empty():
            job = self._inbox.get()
            if job is None:
                return False
            self._waiting.append(job)
            wait = False
        return True

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.cancelled)
        for job in [job for job in self._writing if job.cancelled]:
            self._leave(job)

    def _admit(self) -> None:
        """Gives rows to waiting requests in their order, as many as a step may read, and at least one if there is room."""
        budget = self._step_tokens
        while self._waiting and budget > 0:
            job = self._waiting[0]
            row = self._prefixes.claim(job.ids, job.max_tokens)
            if row is None:
                return
            self._waiting.popleft()
            job.row, job.cached = row, row.shared[1] if row.shared else row.computed
            budget -= len(job.ids) - job.cached
            self._writing.append(job)

    def _step(self) -> None:
        rows = [job.row for job in self._writing if job.row is not None]
        self.prefilled += sum(len(row.tokens) - (row.shared[1] if row.shared else row.computed) for row in rows)
        logprobs = self._packed.forward(rows)
        best_logprobs, best = (column.tolist() for column in logprobs.max(dim=-1))
        watched = [sorted(set(job.watched.values())) for job in self._writing]
        for i, job in enumerate(list(self._writing)):
            told = dict(zip(watched[i], logprobs[i, watched[i]].tolist(), strict=True))
            self._written(job, best[i], best_logprobs[i], {name: told[at] for name, at in job.watched.items()})

    def _written(self, job: _Job, token_id: int, logprob: float, watched: Mapping[str, float]) -> None:
        job.written += 1
        finish: Finish | None = None
        if token_id in job.stops:
            finish = "stop"
        elif token_id in self.vocabulary.ends:
            finish = "end"
        elif job.written >= job.max_tokens:
            finish = "length"
        if finish is not None:
            self._leave(job)
        elif job.row is not None:
            job.row.tokens.append(token_id)
        job.tell((job.reader.token(token_id, logprob, watched), finish))  # last: an answer to it finds the row free

    def _leave(self, job: _Job) -> None:
        self._writing.remove(job)
        if job.row is not None:
            self._prefixes.release(job.row)

    def _fail(self, error: Exception) -> None:
        """Every request under way learns of it; what the failed pass has left in the rows is thrown away."""
        failed = [*self._writing, *self._waiting]
        while not self._inbox.empty():
            failed += [job for job in [self._inbox.get()] if job is not None]
        for job in failed:
            job.tell(error if isinstance(error, EngineError) else _failure(error))
        self._writing.clear()
        self._waiting.clear()
        self._prefixes.clear()


def _failure(error: Exception) -> EngineError:
    failure = EngineError(f"the model failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

"""The loop that runs a model in its own thread, step by step.

Each step computes the next token of every running sequence, further ones if they were guessed (`prompt_lookup`), and prefills new
prompts. Requests join between steps and leave when they are done or cancelled. Independent of how a model computes.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from selfrag.engines.local.prefix_cache import PrefixCache
from selfrag.engines.local.prompt_lookup import PromptLookup
from selfrag.engines.local.sequence import LanguageModel, Next, Sequence
from selfrag.engines.tokenizer import Reader
from selfrag.errors import EngineError
from selfrag.types import Finish, Token

_GOES_ON = 16
"""A request with at most this many tokens to prefill continues a kept sequence: it runs first, before that is evicted."""

_GUESSES = 8
"""Most tokens that a sequence guesses at a step."""

Event = tuple[Token, Finish | None] | BaseException


@dataclass(slots=True, eq=False)
class Job:
    """A request in the scheduler. Only ``cancelled`` is set from outside."""

    ids: list[int]
    max_tokens: int
    stops: frozenset[int]
    watched: Mapping[str, int]
    reader: Reader
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    cancelled: bool = False
    cached: int = 0
    written: int = 0
    sequence: Sequence | None = None
    guesses: PromptLookup | None = None

    def tell(self, event: Event) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)
        except RuntimeError:  # the loop is closed: no listener is left
            self.cancelled = True


class Scheduler:
    """Runs ``model`` for the jobs given to `put`.

    ``ends`` are the ids that end a text; ``cache_tokens`` bounds the tokens of the cache, in use or kept; ``step_tokens`` is
    about how many prompt tokens a step prefills, which bounds how long the others wait. ``prefilled`` counts the computed tokens
    without wrong guesses, ``steps`` the steps.
    """

    def __init__(self, model: LanguageModel, ends: frozenset[int], cache_tokens: int, step_tokens: int) -> None:
        self._model = model
        self._ends = ends
        self._step_tokens = step_tokens
        self.cache = PrefixCache(model.allocate, cache_tokens)
        self.prefilled = self.steps = 0
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._going_on: deque[Job] = deque()
        self._writing: list[Job] = []
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="selfrag-engine", daemon=True)
        self._thread.start()

    # --- the caller's side -----------------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Raises EngineError after ``close``."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            self._inbox.put(job)

    async def close(self) -> None:
        """Ends the thread after its present step; requests under way fail with EngineError."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- the thread's side -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with self._model.running():
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
        """Accepts new requests; waits when idle. False when the engine closes."""
        wait = not (self._writing or self._waiting or self._going_on)
        while wait or not self._inbox.empty():
            job = self._inbox.get()
            if job is None:
                return False
            goes_on = self.cache.missing(job.ids) <= _GOES_ON
            (self._going_on if goes_on else self._waiting).append(job)
            wait = False
        return True

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.cancelled)
        self._going_on = deque(job for job in self._going_on if not job.cancelled)
        for job in [job for job in self._writing if job.cancelled]:
            self._leave(job)

    def _admit(self) -> None:
        """Starts sequences for waiting requests in order, those that continue a kept one first: as many as a step may prefill,
        and at least one if there is room.
        """
        budget = self._step_tokens
        while (self._going_on or self._waiting) and budget > 0:
            queue = self._going_on or self._waiting
            job = queue[0]
            sequence = self.cache.claim(job.ids, job.max_tokens)
            if sequence is None:
                return
            queue.popleft()
            job.sequence, job.cached = sequence, sequence.start
            budget -= len(job.ids) - job.cached
            self._writing.append(job)

    def _step(self) -> None:
        jobs = [(job, job.sequence) for job in self._writing if job.sequence is not None]
        sequences = [sequence for _, sequence in jobs]
        self.prefilled += sum(len(sequence.tokens) - sequence.start for sequence in sequences)
        for job, sequence in jobs:
            self._guess(job, sequence)
        self.steps += 1
        followers = self._model.forward(sequences, [list(job.watched.values()) for job, _ in jobs])
        for (job, sequence), found in zip(jobs, followers, strict=True):
            self._accept(job, sequence, found)

    def _guess(self, job: Job, sequence: Sequence) -> None:
        """Adds guesses to a sequence that is being generated, not to one in prefill."""
        most = min(_GUESSES, job.max_tokens - job.written - 1)
        if most <= 0 or len(sequence.tokens) - sequence.start > _GOES_ON:
            return
        if job.guesses is None:
            job.guesses = PromptLookup(sequence.tokens)
        guessed = job.guesses.next(most)
        sequence.tokens += guessed
        sequence.guessed = len(guessed)

    def _accept(self, job: Job, sequence: Sequence, followers: list[Next]) -> None:
        """Accepts the tokens up to the first wrong guess, and discards the other guesses."""
        sure = len(sequence.tokens) - sequence.guessed
        guessed = sequence.tokens[sure:]
        del sequence.tokens[sure:]
        sequence.computed, sequence.guessed = sure, 0
        for follower, guess in zip(followers, [*guessed, None], strict=True):
            if not self._written(job, sequence, follower) or follower.token != guess:
                return
            sequence.computed += 1
            self.prefilled += 1

    def _written(self, job: Job, sequence: Sequence, follower: Next) -> bool:
        """Whether the job continues after this token."""
        job.written += 1
        finish: Finish | None = None
        if follower.token in job.stops:
            finish = "stop"
        elif follower.token in self._ends:
            finish = "end"
        elif job.written >= job.max_tokens:
            finish = "length"
        if finish is None:
            sequence.tokens.append(follower.token)
            if job.guesses is not None:
                job.guesses.append(follower.token)
        else:
            self._leave(job)
        watched = dict(zip(job.watched, follower.watched, strict=True))
        token = job.reader.token(follower.token, follower.logprob, watched)
        job.tell((token, finish))  # last: an answer to it finds the room free
        return finish is None

    def _leave(self, job: Job) -> None:
        self._writing.remove(job)
        if job.sequence is not None:
            self.cache.release(job.sequence)

    def _fail(self, error: Exception) -> None:
        """Fails every running request and discards the failed step's sequences."""
        failed = [*self._writing, *self._going_on, *self._waiting]
        while not self._inbox.empty():
            failed += [job for job in [self._inbox.get()] if job is not None]
        for job in failed:
            job.tell(error if isinstance(error, EngineError) else _failure(error))
        self._writing.clear()
        self._going_on.clear()
        self._waiting.clear()
        self.cache.clear()


def _failure(error: Exception) -> EngineError:
    failure = EngineError(f"the model failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

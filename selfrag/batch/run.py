"""Answers many questions, several at once: each is answered, fails in its row, or is left for the next run.

Knows neither models nor terminals: ``ask`` answers one question, a `Sink` stores finished rows, ``tell`` receives the progress.
Rows are read when they are needed, so memory does not grow with the input.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from selfrag.answers.schema import AnswerJson, FoundJson, answer_json, error_json, passage_json
from selfrag.batch.formats import RESERVED
from selfrag.batch.journal import Sink
from selfrag.batch.rows import Row
from selfrag.errors import EngineBusy, InputError, SelfragError
from selfrag.types import Answer, Event, Observer, Opened, Passage, Retrieved, SearchOptions

Json = dict[str, Any]
Ask = Callable[[str, SearchOptions, Observer, str | None], Awaitable[Answer]]
"""`search.Agent.ask`: question, options, observer, and the instruction if the model reads something else than the question."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to run. ``retry`` counts tries after the first, ``timeout`` is seconds per question, retries included.

    ``fail_on_error`` stops the run when more than that share (below 1) or that number (1 and more) of the rows have failed.
    ``keep_passages`` writes the text of every retrieved passage into the row, not only of the cited ones.
    """

    concurrency: int = 8
    retry: int = 2
    timeout: float | None = None
    fail_on_error: float | None = None
    keep_passages: bool = False
    pause: float = 1.0


@dataclass(slots=True)
class Tally:
    """The progress of a run. ``total`` is None while the input's length is unknown; ``resumed`` counts rows of earlier runs;
    ``why`` is the error message of the first failed row."""

    total: int | None = None
    resumed: int = 0
    answered: int = 0
    abstained: int = 0
    failed: int = 0
    stopped: Literal["", "interrupted", "failures"] = ""
    why: str = ""
    times: deque[float] = field(default_factory=lambda: deque([time.monotonic()], maxlen=256))

    @property
    def finished(self) -> int:
        return self.answered + self.abstained + self.failed

    @property
    def rate(self) -> float:
        """Rows per second over the last ones, 0 before the second."""
        span = self.times[-1] - self.times[0]
        return (len(self.times) - 1) / span if span > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.resumed - self.finished) / self.rate

    def count(self, record: Json) -> None:
        status = record["status"]
        self.why = self.why or record["error"] or ""
        self.answered += status == "answered"
        self.abstained += status == "abstained"
        self.failed += status == "error"
        self.times.append(time.monotonic())


class Batch:
    """One run over rows."""

    def __init__(
        self,
        ask: Ask,
        options: SearchOptions,
        sink: Sink,
        plan: Plan | None = None,
        total: int | None = None,
        tell: Callable[[Tally], None] = lambda _: None,
    ) -> None:
        self.ask, self.options, self.sink, self.tell = ask, options, sink, tell
        self.plan = plan or Plan()
        self.tally = Tally(total)
        self.tasks: list[asyncio.Task[None]] = []
        self.source: ReadAhead | None = None

    async def run(self, rows: Iterable[Row]) -> Tally:
        """Answers the rows that the sink does not have. Raises what reading the input or writing a row raises."""
        self.source = ReadAhead(self.wanted(rows), self.plan.concurrency)
        self.tasks = [asyncio.create_task(self.work(self.source)) for _ in range(self.plan.concurrency)]
        try:
            await asyncio.gather(*self.tasks)
        except asyncio.CancelledError:
            if not self.tally.stopped:
                raise
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
        if not self.tally.stopped and too_many(self.tally, self.plan.fail_on_error, self.tally.finished):
            self.tally.stopped = "failures"
        return self.tally

    def stop(self) -> None:
        """The first time, lets questions in flight finish; the second time, cancels them."""
        if self.tally.stopped == "interrupted":
            for task in self.tasks:
                task.cancel()
        self.tally.stopped = "interrupted"
        if self.source:
            self.source.end()
        self.tell(self.tally)

    def wanted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            known = self.sink.done.get(row.key)
            if self.tally.stopped:
                return
            if known is None:
                yield row
            elif known == row.digest:
                self.tally.resumed += 1
            else:
                problem = f"line {row.line}: the id {row.key!r} was answered for another question"
                raise InputError(problem, "--restart starts over; -o names another file")

    async def work(self, source: ReadAhead) -> None:
        while not self.tally.stopped and (row := await source.next()) is not None:
            record = await self.answer(row)
            self.sink.append(record)
            self.tally.count(record)
            if too_many(self.tally, self.plan.fail_on_error, self.tally.total):
                self.tally.stopped = self.tally.stopped or "failures"
                source.end()
            self.tell(self.tally)

    # --- one question ----------------------------------------------------------------------------------------------------------

    async def answer(self, row: Row) -> Json:
        """The output row of one input row, whatever happens; only cancellation goes through."""
        if row.problem:
            return output_row(row, error_json(row.question, f"line {row.line}: {row.problem}", row.id), ())
        limit = asyncio.timeout(self.plan.timeout)
        try:
            async with limit:
                answer, passages = await self.persist(row)
        except TimeoutError as error:
            why = f"no answer within {self.plan.timeout:g} s" if limit.expired() else f"TimeoutError: {error}"
        except SelfragError as error:
            why = error.message
        except Exception as error:  # any error fails this row only; the others continue
            log.debug("question %s failed", row.key, exc_info=True)
            why = f"{type(error).__name__}: {error}"
        else:
            return output_row(row, answer_json(answer, row.id), passages)
        return output_row(row, error_json(row.question, why, row.id), ())

    async def persist(self, row: Row) -> tuple[Answer, tuple[FoundJson, ...]]:
        """Retries, with growing pauses, after errors that may be temporary."""
        options = replace(self.options, choices=row.choices) if row.choices else self.options
        for attempt in range(self.plan.retry + 1):
            seen = Seen(self.plan.keep_passages)
            try:
                return await self.ask(row.question, options, seen, row.instruction), seen.passages()
            except EngineBusy:
                if attempt == self.plan.retry:
                    raise
            await asyncio.sleep(min(60.0, self.plan.pause * 2**attempt) * random.uniform(0.75, 1.25))
        raise AssertionError("unreachable")


def too_many(tally: Tally, limit: float | None, total: int | None) -> bool:
    """Whether more rows failed than ``limit`` allows: a share of ``total`` below 1, a number otherwise."""
    if limit is None or (0 < limit < 1 and total is None):
        return False
    return tally.failed > (limit * total if 0 < limit < 1 and total is not None else limit)


def output_row(row: Row, record: AnswerJson, passages: Sequence[FoundJson]) -> Json:
    """The answer's fields, the input's other columns under their names (``input_NAME`` where an answer has that field), and
    where the row came from."""
    kept = {f"input_{name}" if name in RESERVED else name: value for name, value in row.extra.items()}
    return {**record, "passages": list(passages), **kept, "line": row.line, "hash": row.digest}


class Seen:
    """An observer: what was retrieved for the question, in rank order, with the ISREL that each passage got."""

    def __init__(self, keep_text: bool) -> None:
        self.keep_text = keep_text
        self.found: tuple[Passage, ...] = ()
        self.isrel: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, Retrieved) and event.step == event.path == 0:
            self.found = event.passages
        elif isinstance(event, Opened) and event.step == event.path == 0 and event.passage:
            self.isrel[event.passage.chunk] = event.critique.isrel

    def passages(self) -> tuple[FoundJson, ...]:
        return tuple(self._row(passage) for passage in self.found)

    def _row(self, passage: Passage) -> FoundJson:
        row: FoundJson = {**passage_json(passage), "isrel": self.isrel.get(passage.chunk)}
        if not self.keep_text:
            del row["text"], row["headers"]
        return row


class ReadAhead:
    """Reads rows in a thread, at most ``ahead`` rows ahead, so that a slow input does not block the event loop.

    It is a daemon thread, since a thread that waits for standard input cannot be stopped.
    """

    def __init__(self, rows: Iterable[Row], ahead: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Row | Exception | None] = asyncio.Queue()
        self.room = threading.Semaphore(ahead)
        threading.Thread(target=self.read, args=(rows,), daemon=True).start()

    def read(self, rows: Iterable[Row]) -> None:
        last: Exception | None = None
        try:
            for row in rows:
                self.room.acquire()
                self.put(row)
        except Exception as error:  # raised by `next`, where the run is
            last = error
        self.put(last)

    def put(self, item: Row | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)

    async def next(self) -> Row | None:
        """The next row, None after the last; raises what reading raised."""
        item = await self.queue.get()
        if isinstance(item, Row):
            self.room.release()
            return item
        self.queue.put_nowait(item)  # for the other workers
        if item is not None:
            raise item
        return None

    def end(self) -> None:
        self.queue.put_nowait(None)


@contextmanager
def interruptible(batch: Batch) -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM stop the batch in an orderly way. Does nothing outside the main thread, which gets no signals."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {s: signal.signal(s, lambda *_: loop.call_soon_threadsafe(batch.stop)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

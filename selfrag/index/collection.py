"""A collection as the rest of the program sees it: search, sync, maintenance."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfrag.errors import CollectionError, SelfragError
from selfrag.index import generations
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.embedders import WINDOW
from selfrag.index.handle import Handle
from selfrag.index.search.hybrid import Fusion, Hit, Question, Searcher
from selfrag.types import Passage

if TYPE_CHECKING:
    from selfrag.index.sync import pipeline

_TOGETHER = 64


@dataclass(slots=True)
class _Waiting:
    question: Question
    answer: asyncio.Future[list[Hit]]
    taken: bool = False


@dataclass
class Collection(Handle):
    """One collection; a `Retriever`. Opening it opens no file; `search` opens what it needs, `sync` is the only writer.

    ``window`` is the number of texts embedded together.
    """

    fusion: Fusion = field(default_factory=Fusion)
    window: int = WINDOW

    def __post_init__(self) -> None:
        super().__post_init__()
        self._searcher: Searcher | None = None
        self._work = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # --- searching --------------------------------------------------------------------------------------------------------

    async def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages. Concurrent calls are batched: embedded and answered together."""
        return [hit.passage for hit in await self.find(Question(query, k))]

    async def find(self, question: Question) -> list[Hit]:
        """`search` with filters and hypotheses; also returns how each passage was found."""
        mine = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        await asyncio.sleep(0)  # whoever asks in this moment comes along
        if not mine.taken:
            batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            for each in batch:
                each.taken = True
            work = asyncio.create_task(self._answer(batch))
            self._tasks.add(work)  # it goes on for the others if this caller is cancelled
            work.add_done_callback(self._tasks.discard)
        return await mine.answer

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            found = await asyncio.to_thread(self.find_now, [each.question for each in batch])
        except Exception as error:
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, hits in zip(batch, found, strict=True):
            if not each.answer.done():
                each.answer.set_result(hits)

    def find_now(self, questions: Sequence[Question]) -> list[list[Hit]]:
        """Synchronous `find` for several questions."""
        with self._work, _sqlite_errors(self.name):
            return self._current().search(questions)

    def warm(self) -> None:
        """Opens what a search needs, ahead of time. Errors are raised by the search, not here."""
        with suppress(SelfragError, OSError), self._work, _sqlite_errors(self.name):
            self._current().open()

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passage with this chunk id and its neighbours in the source, in order; empty if it does not exist."""
        with self._work, _sqlite_errors(self.name):
            return self._current().neighbours(chunk, before, after)

    def of_source(self, path: str) -> list[Passage]:
        """Every chunk of the source at ``path``, in order; empty if it is not in the collection."""
        with self._work, _sqlite_errors(self.name):
            return self._current().of_source(path)

    def drawn(self, count: int, seed: str) -> list[Passage]:
        """``count`` passages at random, fewer where there are not so many; the same ones for the same ``seed``."""
        with self._work, _sqlite_errors(self.name):
            return self._current().drawn(count, seed)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the last search bypassed Chroma, if Chroma is damaged or missing; its results are brute-force, so still correct."""
        if self._searcher is None or self._searcher.mirror.problem is None:
            return ()
        mirror = self._searcher.mirror
        return (f"the vectors of {self.name!r} were searched without Chroma: {mirror.problem} → {mirror.mend}",)

    def close(self) -> None:
        with self._work:
            self._close()

    def _current(self) -> Searcher:
        """The searcher of the current generation."""
        generation = self.generation()
        if self._searcher is None or self._searcher.catalog.path.parent != generation:
            self._close()
            try:
                catalog = Catalog.open(generations.catalog_in(generation))
            except CollectionError:
                if generations.current(self.folder) == generation:
                    raise
                return self._current()  # a rebuild has switched in this moment
            self._searcher = Searcher(catalog, self.mirror(catalog), lambda: self.checked_embedder(catalog))
        self._searcher.fusion = self.fusion
        return self._searcher

    def _close(self) -> None:
        searcher, self._searcher = self._searcher, None
        if searcher is not None:
            searcher.mirror.close()
            searcher.catalog.close()

    # --- bringing it up to date -------------------------------------------------------------------------------------------

    def sync(
        self,
        paths: Sequence[str | os.PathLike[str]] = (),
        options: pipeline.Options | None = None,
        observer: pipeline.Observer = lambda _: None,
        stop: threading.Event | None = None,
    ) -> pipeline.SyncReport:
        """Brings the collection up to date with ``paths``, which it remembers, or with all remembered paths if none are given.

        Removes files that no longer exist below these paths. Raises InputError for a missing path, LockedError while another
        process writes, CollectionError if the fingerprint does not match (``rebuild`` fixes it), Interrupted after ``stop`` was
        set.
        """
        from selfrag.index.sync import pipeline  # the readers of documents come with it; a search does without
        from selfrag.index.sync.run import Update

        started = time.monotonic()
        report = pipeline.SyncReport(self.name)
        update = Update(self, options or pipeline.Options(), observer, stop or threading.Event(), report, self.window)
        with _sqlite_errors(self.name):
            update.run([os.path.abspath(path) for path in paths])
        report.seconds = round(time.monotonic() - started, 3)
        return report


@contextmanager
def _sqlite_errors(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise CollectionError(f"The catalog of {name!r} cannot be read: {error}.", f"selfrag status -c {name}") from error

"""A collection, as the rest of the program sees it: search it, bring it up to date, look after it."""

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

    ``window`` texts are embedded together.
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
        """The best ``k`` passages; as many calls at once as one likes, they are embedded and answered together."""
        return [hit.passage for hit in await self.find(Question(query, k))]

    async def find(self, question: Question) -> list[Hit]:
        """The same with filters and hypotheses, and with how each passage was found."""
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
        """`find` for several questions, without an event loop."""
        with self._work, _sqlite_errors(self.name):
            return self._current().search(questions)

    def warm(self) -> None:
        """Opens what a search needs, for a caller who has other things to open. What goes wrong is left to the search."""
        with suppress(SelfragError, OSError), self._work, _sqlite_errors(self.name):
            self._current().open()

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passage with this chunk id, between those around it in its source; empty if there is none."""
        with self._work, _sqlite_errors(self.name):
            return self._current().neighbours(chunk, before, after)

    def of_source(self, path: str) -> list[Passage]:
        """Every chunk of the source at ``path``, in order; empty if it is not in the collection."""
        with self._work, _sqlite_errors(self.name):
            return self._current().of_source(path)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the last search did without Chroma, if Chroma is damaged or gone; its results were exact all the same."""
        if self._searcher is None or self._searcher.mirror.problem is None:
            return ()
        mirror = self._searcher.mirror
        return (f"the vectors of {self.name!r} were searched without Chroma: {mirror.problem} → {mirror.mend}",)

    def close(self) -> None:
        with self._work:
            self._close()

    def _current(self) -> Searcher:
        """The searcher of the generation that is served now."""
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
        """Brings the collection up to date with ``paths``, which it remembers, or with all that it remembers if none are given.

        Files below these paths that are no more are removed. Raises InputError for a path that is not there, LockedError while
        another process writes, CollectionError if the fingerprint does not fit (``rebuild`` mends it), Interrupted after
        ``stop`` was set.
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

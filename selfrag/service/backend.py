"""What every service shares: an open agent that returns answers, passages, sources and its state."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from selfrag._version import __version__
from selfrag.agent import Agent, comparable, find_model, find_profile, fitted_options, open_agent
from selfrag.answers.schema import answer_json
from selfrag.config.options import search_options
from selfrag.config.settings import Settings
from selfrag.conversation.history import History
from selfrag.errors import InputError, SelfragError, UsageError
from selfrag.service.queue import Queue
from selfrag.service.requests import Answered, Documents, Place, Query, Question
from selfrag.types import Observer, Passage, SearchOptions

if TYPE_CHECKING:
    from selfrag.index.collection import Collection
    from selfrag.index.retriever import CollectionRetriever

Json = dict[str, Any]


class Answering(Protocol):
    """What the tools of an MCP client need."""

    async def ask(self, asked: Question) -> Answered: ...

    async def search(self, query: Query) -> tuple[list[Passage], tuple[str, ...]]: ...

    async def read(self, place: Place) -> Json: ...

    async def status(self) -> Json: ...


class Keeper:
    """Keeps the answers of a service in the history, each in a session of its own, if the settings say so."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def keep(self, asked: Question, found: Answered) -> Answered:
        """Stores ``found`` and returns it; if the history cannot be written, with a warning."""
        if not (self.settings.history and asked.history):
            return found
        try:
            await asyncio.to_thread(self._add, asked, found)
        except SelfragError as error:
            return replace(found, warnings=(*found.warnings, f"the answer was not kept: {error.message}"))
        return found

    def _add(self, asked: Question, found: Answered) -> None:
        document = answer_json(found.answer)
        conditions = {"options": asdict(found.answer.options), **found.described}
        with History.open(self.settings.paths.conversations, self.settings.history_mb * 2**20) as history:
            history.add(document, asked.typed, conditions=conditions)


class Backend:
    """One open agent for all requests. ``collections`` are searched if a request names none, and ``also`` with them where nothing
    relevant was found."""

    def __init__(
        self, settings: Settings, agent: Agent, collections: Sequence[str], queue: Queue, also: Sequence[str] = ()
    ) -> None:
        from selfrag.index.embedders import open_embedder

        self.settings, self.agent, self.queue, self.keeper = settings, agent, queue, Keeper(settings)
        self.collections, self.also = tuple(collections) or (settings.collection,), tuple(also)
        self.started = time.time()
        self._model = find_model(settings)
        self._fitted = fitted_options(self._model, find_profile(settings))
        self._opened: dict[str, Collection] = {}
        self._embedder = cache(open_embedder)

    # --- asking -----------------------------------------------------------------------------------------------------------

    async def ask(self, asked: Question, observer: Observer | None = None) -> Answered:
        """Waits for its turn and answers. Raises UsageError, CollectionError, EngineError, and EngineBusy where too many wait."""
        options = self.options(asked)
        retriever = None if options.mode == "never" else self.retriever(asked.documents)
        wider = retriever.wider if retriever else None
        agent = Agent(self.agent.reflector, retriever, comparable(options, retriever, self._model), wider=wider)
        async with self.queue.turn():
            answer = await agent.ask(asked.question, observer=observer)
        found = Answered(answer, retriever.warnings if retriever else (), agent.describe())
        return await self.keeper.keep(asked, found)

    def options(self, asked: Question) -> SearchOptions:
        """The options of a question: its own first, then the service's settings, then the values fitted for the model. ``also``
        turns ``correct`` on."""
        more = {"correct": True} if asked.documents.also else {}
        given = {**({} if asked.only else self.settings.search), **asked.options, **more}
        return search_options(given, self._fitted, asked.choices)

    async def search(self, query: Query) -> tuple[list[Passage], tuple[str, ...]]:
        """The best passages, and warnings. Raises CollectionError."""
        k = query.k or self.options(Question(query.query)).k
        retriever = self.retriever(query.documents)
        return [hit.passage for hit in await retriever.find(query.query, k)], retriever.warnings

    def retriever(self, documents: Documents) -> CollectionRetriever:
        """The documents as one retriever; collections stay open between requests. Raises CollectionError and UsageError."""
        from selfrag.index.retriever import CollectionRetriever
        from selfrag.index.search.hybrid import Filter

        names, also = places(documents, self.collections, self.also)
        opened, wanted = self._collections(names), Filter.of(documents.source, documents.where)
        inner = self.agent.retriever if isinstance(self.agent.retriever, CollectionRetriever) else CollectionRetriever(())
        retriever = CollectionRetriever(opened, wanted, reranker=inner.reranker, graph=inner.graph)
        if further := [each for each in self._collections(also) if each not in opened]:
            retriever.wider = CollectionRetriever([*opened, *further], wanted, reranker=inner.reranker, graph=inner.graph)
        return retriever

    def _collections(self, names: Sequence[str]) -> list[Collection]:
        return [self._collection(name) for name in dict.fromkeys(names)]

    def _collection(self, name: str) -> Collection:
        from selfrag.index import open_collection

        if name not in self._opened:
            opened = open_collection(self.settings.paths.data, name, chroma_url=self.settings.chroma)
            opened.open_embedder = self._embedder
            self._opened[name] = opened
        return self._opened[name]

    # --- reading ----------------------------------------------------------------------------------------------------------

    async def read(self, place: Place) -> Json:
        """The indexed text of a source around a place. It opens no file: only indexed text can be read.

        Raises InputError for a source that is not in the collections.
        """
        for collection in self._collections(place.collections or self.collections):
            found = await asyncio.to_thread(collection.of_source, place.source)
            if found:
                return _excerpt(place, collection.name, found)
        searched = ", ".join(place.collections or self.collections)
        raise InputError(f"{place.source!r} is not a source of {searched}", "take `source` from a citation, to the letter")

    async def status(self) -> Json:
        """The state of the service."""
        from selfrag.index import maintenance

        rows = await asyncio.to_thread(maintenance.overview, self.settings.paths.data)
        engine = self.agent.reflector.engine
        return {
            "schema": "selfrag.status/1",
            "version": __version__,
            "pid": os.getpid(),
            "seconds": round(time.time() - self.started, 1),
            "model": engine.model,
            "engine": engine.name,
            "reflection": self.agent.reflector.kind,
            "collections": list(self.collections),
            "also": list(self.also),
            "available": [
                {"collection": row.collection, "sources": row.sources, "chunks": row.chunks, "problem": row.problem}
                for row in rows
            ],
            "options": asdict(self.options(Question("?"))),
            "questions": asdict(self.queue.counts),
        }

    def close(self) -> None:
        for collection in self._opened.values():
            collection.close()


@asynccontextmanager
async def open_backend(
    settings: Settings, collections: Sequence[str] = (), queue: Queue | None = None, also: Sequence[str] = ()
) -> AsyncIterator[Backend]:
    """Opens the agent that ``settings`` name for as long as the service runs. Raises what `open_agent` raises."""
    async with open_agent(collections, also=also, settings=settings) as agent:
        backend = Backend(settings, agent, collections, queue or Queue(), also)
        try:
            yield backend
        finally:
            backend.close()


def places(documents: Documents, collections: Sequence[str], also: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The collections that a request asks, and those for where these hold nothing relevant. Its own stand for the service's
    ``collections`` and ``also``: one that names collections is about no others."""
    return documents.collections or collections, documents.also or (() if documents.collections else also)


def _excerpt(place: Place, collection: str, found: Sequence[Passage]) -> Json:
    """The chunks that lie in the wanted lines or on the wanted page."""
    if place.page is not None:
        wanted = [each for each in found if each.page == place.page]
    elif place.line is not None:
        low, high = place.line - place.context, place.line + place.context
        wanted = [each for each in found if each.lines and each.lines[0] <= high and each.lines[1] >= low]
    else:
        wanted = list(found[:5])
    if not wanted:
        pages, lines = {each.page for each in found}, [each.lines[1] for each in found if each.lines]
        has = f"{len(pages)} pages with text" if place.page is not None else f"lines up to {max(lines, default=0)}"
        raise UsageError(f"nothing of {place.source} is indexed there; it has {has}", "name another line or page")
    pieces = [{"lines": each.lines, "page": each.page, "chunk": each.chunk, "text": each.text} for each in wanted]
    first, last = wanted[0], wanted[-1]
    return {
        "source": first.source,
        "title": first.title,
        "collection": collection,
        "lines": [first.lines[0], last.lines[1]] if first.lines and last.lines else None,
        "page": place.page,
        "pieces": pieces,
        "text": "\n".join(each.text for each in wanted),
    }

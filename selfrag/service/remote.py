"""A running `selfrag api` in place of a backend: an MCP server that finds one loads no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from selfrag.agent import find_model, find_profile, fitted_options
from selfrag.answers.trace import passage_from
from selfrag.config.options import search_options
from selfrag.config.settings import Settings
from selfrag.service import client, registry
from selfrag.service.backend import Keeper, places
from selfrag.service.registry import Running
from selfrag.service.requests import Answered, Documents, Place, Query, Question
from selfrag.types import Passage

Json = dict[str, Any]


class RemoteBackend:
    """Asks ``running`` with the collections and search options of ``settings``, not with the service's own.

    Every method raises `client.ServiceLost` where the service does not answer, and what the service's errors say.
    """

    def __init__(self, running: Running, settings: Settings, collections: Sequence[str], also: Sequence[str] = ()) -> None:
        self.running, self.settings, self.keeper = running, settings, Keeper(settings)
        self.collections, self.also = tuple(collections) or (settings.collection,), tuple(also)

    async def ask(self, asked: Question) -> Answered:
        options = {**self.settings.search, **asked.options}
        more = {"choices": asked.choices, "options": options, "only": True, "history": False}
        _, also = places(asked.documents, self.collections, self.also)
        body = {"question": asked.question, **self._documents(asked.documents), "also": also, **more}
        return await self.keeper.keep(asked, await client.ask(self.running, body, lambda _: None))

    async def search(self, query: Query) -> tuple[list[Passage], tuple[str, ...]]:
        k = query.k or self._options()["k"]
        found = await client.post(self.running, "/v1/search", {"query": query.query, **self._documents(query.documents), "k": k})
        passages = [replace(passage_from(row), score=row["score"]) for row in found["passages"]]
        return passages, tuple(found["warnings"])

    async def read(self, place: Place) -> Json:
        return await client.post(
            self.running, "/v1/read", {**asdict(place), "collections": place.collections or self.collections}
        )

    async def status(self) -> Json:
        """The service's state, with the collections and options that are asked here."""
        found = await client.get(self.running, "/v1/status")
        return {**found, "collections": list(self.collections), "also": list(self.also), "options": self._options()}

    def _documents(self, documents: Documents) -> Json:
        found = {"source": documents.source, "where": documents.where}
        return {**found, "collections": documents.collections or self.collections}

    def _options(self) -> Json:
        fitted = fitted_options(find_model(self.settings), find_profile(self.settings))
        return asdict(search_options(self.settings.search, fitted))


def finder(settings: Settings, collections: Sequence[str] = (), also: Sequence[str] = ()) -> Callable[[], RemoteBackend | None]:
    """Looks for a service with the same settings at every call: one may have started or ended."""

    def find() -> RemoteBackend | None:
        running = registry.find(settings, (*(collections or (settings.collection,)), *also))
        return RemoteBackend(running, settings, collections, also) if running else None

    return find

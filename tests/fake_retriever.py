"""A hand-written retriever for tests of the search."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selfrag.types import Passage


class FakeRetriever:
    """Returns what ``find`` gives for a query, and remembers the queries."""

    warnings: tuple[str, ...] = ()

    def __init__(self, find: Callable[[str], list[Passage]], name: str = "fake") -> None:
        self.find = find
        self.name = name
        self.queries: list[str] = []

    def describe(self) -> Mapping[str, object]:
        return {"collection": self.name}

    async def search(self, query: str, k: int) -> list[Passage]:
        self.queries.append(query)
        return self.find(query)[:k]

    async def close(self) -> None:
        pass

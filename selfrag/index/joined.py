"""Several collections as one retriever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from selfrag.index.collection import Collection
from selfrag.index.retrieve import Hit, Question, collapse
from selfrag.types import Passage


class Joined:
    """Asks every collection and merges by fused score, which is 0 to 1 within each, so it compares across embedders."""

    def __init__(self, collections: Sequence[Collection]) -> None:
        self._collections = tuple(collections)
        self.name = ",".join(each.name for each in collections)

    async def search(self, query: str, k: int) -> list[Passage]:
        return [hit.passage for hit in await self.find(Question(query, k))]

    async def find(self, question: Question) -> list[Hit]:
        found = await asyncio.gather(*(each.find(question) for each in self._collections))
        hits = sorted((hit for hits in found for hit in hits), key=lambda hit: (-hit.passage.score, hit.passage.chunk))
        return collapse(hits, question.k)

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]:
        found = (each.neighbours(chunk, before, after) for each in self._collections)
        return next(filter(None, found), [])

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(warning for each in self._collections for warning in each.warnings)

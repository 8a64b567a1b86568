"""The one retriever: one or several collections, narrowed by a filter, searched with HyDE and re-ranked if wanted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from itertools import zip_longest
from typing import Protocol

from selfrag.index.rerankers import Reranker
from selfrag.index.search.hybrid import Filter, Hit, Question, collapse
from selfrag.index.search.hyde import Hyde
from selfrag.index.search.rerank import DEPTH, rerank
from selfrag.types import Graph, Passage


class Searchable(Protocol):
    """A collection, stored or temporary."""

    @property
    def name(self) -> str: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def embedder_name(self) -> str: ...

    async def find(self, question: Question) -> list[Hit]: ...

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]: ...

    def drawn(self, count: int, seed: str) -> list[Passage]: ...

    def close(self) -> None: ...


class CollectionRetriever:
    """Asks every collection and merges the hits by fused score, which is 0 to 1 within each, so it compares across embedders.

    ``filter`` restricts the sources. ``hyde`` generates a hypothetical passage for every query. ``graph`` says whether to search
    the graph of names, too. ``reranker`` reorders the top passages of all collections together. ``wider`` also searches further
    collections, for questions that these do not answer.
    """

    wider: CollectionRetriever | None = None

    def __init__(
        self,
        collections: Sequence[Searchable],
        filter: Filter | None = None,
        hyde: Hyde | None = None,
        reranker: Reranker | None = None,
        graph: Graph = "off",
    ) -> None:
        self.collections = tuple(collections)
        self.filter = filter or Filter()
        self.hyde = hyde
        self.reranker = reranker
        self.graph = graph
        self.name = ",".join(each.name for each in collections)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong in a search that still returned results."""
        return tuple(warning for each in (self.wider or self).collections for warning in each.warnings)

    def describe(self) -> dict[str, object]:
        """Everything besides the documents that the passages of a query depend on."""
        described: dict[str, object] = {"collection": self.name}
        if self.wider:
            described["wider"] = self.wider.name
        if self.filter.sources:
            described["source"] = list(self.filter.sources)
        if self.filter.where:
            described["where"] = [f"{key}={value}" for key, value in self.filter.where]
        if self.hyde:
            described["hyde"] = self.hyde.model
        if self.graph != "off":
            described["graph"] = self.graph
        if self.reranker:
            described["reranker"] = self.reranker.name
        return described

    def embeds_by(self, embedder: str) -> bool:
        """Whether `Passage.dense` is the cosine of question and passage by this embedder, whatever the collection."""
        return not self.hyde and all(each.embedder_name() == embedder for each in (self.wider or self).collections)

    async def search(self, query: str, k: int) -> list[Passage]:
        """The best ``k`` passages, best first. Raises CollectionError, and EngineError from HyDE's model or a re-ranker's
        server."""
        return [hit.passage for hit in await self.find(query, k)]

    async def find(self, query: str, k: int) -> list[Hit]:
        """`search`, with how each passage was found."""
        wide = max(k, DEPTH) if self.reranker else k
        question = Question(query, wide, self.filter, await self.hyde.write(query) if self.hyde else (), self.graph)
        found = await asyncio.gather(*(each.find(question) for each in self.collections))
        if len(found) == 1:
            hits = found[0]
        else:
            merged = sorted((hit for hits in found for hit in hits), key=lambda hit: (-hit.passage.score, hit.passage.chunk))
            hits = collapse(merged, wide)
        if self.reranker:
            hits = await asyncio.to_thread(rerank, self.reranker, query, hits)
        return hits[:k]

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passage with this chunk id and its neighbours in the source, in order; empty if it does not exist."""
        found = (each.neighbours(chunk, before, after) for each in self.collections)
        return next(filter(None, found), [])

    def drawn(self, count: int, seed: str) -> list[Passage]:
        """``count`` passages at random, as many from each collection; the same ones for the same ``seed``."""
        found = [each.drawn(count, seed) for each in self.collections]
        return [passage for together in zip_longest(*found) for passage in together if passage is not None][:count]

    def warm(self) -> None:
        """Opens what a search of stored collections needs, one thread for each."""
        from selfrag.index.collection import Collection

        for each in self.collections:
            if isinstance(each, Collection):
                threading.Thread(target=each.warm, name="selfrag-warm", daemon=True).start()

    def use_hyde(self, hyde: Hyde) -> None:
        self.hyde = hyde
        if self.wider:
            self.wider.hyde = hyde

    async def close(self) -> None:
        """Closes the collections, the re-ranker and HyDE's engine."""
        for each in (self.wider or self).collections:
            each.close()
        if self.reranker:
            self.reranker.close()
        if self.hyde:
            await self.hyde.engine.close()

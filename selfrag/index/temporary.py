"""An in-memory collection of documents given for one question: searched like a stored one, discarded when closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import NO_HINTS, Source
from selfrag.index.embedders import Embedder
from selfrag.index.search.hybrid import Hit, Question, Searcher
from selfrag.index.sync.chunks import digest, index_chunks
from selfrag.index.vectors.brute_force import Found
from selfrag.index.vectors.replica import Mirror
from selfrag.ingest import Document, split
from selfrag.types import Passage


class _NoMirror(Mirror):
    """Brute-force search over the catalog's vectors, without a second copy of them."""

    def query(self, vectors: NDArray[np.float32], k: int) -> Found:
        return self.exact.nearest(vectors, k)

    @contextmanager
    def reading(self) -> Iterator[None]:
        yield


class TemporaryCollection:
    """``documents`` by name; chunks, vectors and citations equal those of an indexed collection."""

    warnings: tuple[str, ...] = ()

    def __init__(self, documents: Mapping[str, Document], embedder: Embedder) -> None:
        self.name = ",".join(documents)
        self._embedder_name = embedder.name
        self._catalog = Catalog.in_memory()
        self._work = threading.Lock()
        for source, document in documents.items():
            self._put(source, document, embedder)
        self._catalog.writable = False  # from now on it is only read
        self._searcher = Searcher(self._catalog, _NoMirror(self._catalog, None), lambda: embedder)

    def _put(self, source: str, document: Document, embedder: Embedder) -> None:
        indexed = index_chunks(source, document, split(document), headings=True)
        names = list(indexed.texts)
        vectors = embedder.documents([indexed.texts[name] for name in names])
        self._catalog.put_embeddings((name, row.astype("<f4").tobytes()) for name, row in zip(names, vectors, strict=True))
        described = Source(
            source, digest(document.text), NO_HINTS, "ok", None, document.reader, document.title, document.metadata
        )
        self._catalog.put(described, indexed.entries)

    def embedder_name(self) -> str:
        return self._embedder_name

    async def find(self, question: Question) -> list[Hit]:
        """The best passages for a question, and how each was found."""
        return await asyncio.to_thread(self._find, question)

    def _find(self, question: Question) -> list[Hit]:
        with self._work:
            return self._searcher.search([question])[0]

    def neighbours(self, chunk: str, before: int = 1, after: int = 1) -> list[Passage]:
        """The passage with this chunk id, between those around it in its source; empty if it does not exist."""
        with self._work:
            return self._searcher.neighbours(chunk, before, after)

    def drawn(self, count: int, seed: str) -> list[Passage]:
        """``count`` passages at random, fewer where there are not so many; the same ones for the same ``seed``."""
        with self._work:
            return self._searcher.drawn(count, seed)

    def close(self) -> None:
        self._catalog.close()

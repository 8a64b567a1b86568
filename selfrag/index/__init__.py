"""Collections of documents: SQLite is the source of truth, Chroma holds the vectors.

collection = index.open_collection(home, "default")
collection.sync(["~/Documents"])             # bring it up to date with a folder
passages = await collection.search("…", 5)   # a `Retriever`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from selfrag._util import is_url
from selfrag.index import generations
from selfrag.index.embedders import EMBEDDED
from selfrag.index.generations import names

if TYPE_CHECKING:
    from selfrag.index.collection import Collection
    from selfrag.index.embedders import Embedder
    from selfrag.index.retriever import CollectionRetriever, Searchable
    from selfrag.index.search.hybrid import Filter
    from selfrag.index.search.hyde import Hyde
    from selfrag.types import Graph

__all__ = ["names", "open_collection", "open_retriever"]


def open_collection(home: Path, name: str = "default", *, chroma_url: str | None = None, create: bool = False) -> Collection:
    """The collection ``name`` of the data folder ``home``; with ``create`` it need not exist: `Collection.sync` creates it.

    Raises CollectionError if it does not exist, UsageError for an invalid name.
    """
    from selfrag.index.collection import Collection

    collection = Collection(home, name, chroma_url)
    if not create and generations.current(collection.folder) is None:
        raise collection.missing()
    return collection


def open_retriever(
    home: Path,
    collections: Sequence[str],
    *,
    chroma_url: str | None = None,
    filter: Filter | None = None,
    hyde: Hyde | None = None,
    reranker: str = "none",
    graph: Graph = "off",
    files: Sequence[str] = (),
    embedder: str = EMBEDDED,
    also: Sequence[str] = (),
) -> CollectionRetriever:
    """One collection, or several searched together, and a temporary one of ``files`` (paths, ``-`` for stdin, URLs), whose texts
    ``embedder`` embeds. The ``wider`` retriever also searches the collections ``also``.

    Raises CollectionError for a missing collection, InputError for an unreadable file, ModelError for a re-ranker that cannot be
    loaded.
    """
    from selfrag.index.embedders import open_embedder
    from selfrag.index.rerankers import open_reranker
    from selfrag.index.retriever import CollectionRetriever

    opened = {name: open_collection(home, name, chroma_url=chroma_url) for name in (*collections, *also)}
    shared = cache(open_embedder)
    for each in opened.values():
        each.open_embedder = shared
    asked = [*_temporary(files, shared, embedder), *(opened.pop(name) for name in dict.fromkeys(collections))]
    retriever = CollectionRetriever(asked, filter, hyde, open_reranker(reranker), graph)
    if opened:
        retriever.wider = CollectionRetriever([*asked, *opened.values()], filter, hyde, retriever.reranker, graph)
    return retriever


def _temporary(files: Sequence[str], open_embedder: Callable[[str], Embedder], embedder: str) -> list[Searchable]:
    """The files as an in-memory collection; None without files."""
    if not files:
        return []
    from selfrag.index.temporary import TemporaryCollection
    from selfrag.ingest.given import read_given

    return [TemporaryCollection({_source_of(file): read_given(file) for file in files}, open_embedder(embedder))]


def _source_of(file: str) -> str:
    """How a file is cited: as if it were indexed."""
    return "stdin" if file == "-" else file if is_url(file) else os.path.abspath(file)

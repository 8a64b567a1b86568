"""Vectors in Chroma, in process or behind a server. The only module that imports chromadb; it handles ids and vectors, no texts.

The content is derived from the catalog and disposable. Ids are chunk keys, so writes are idempotent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import chromadb
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.config import Settings
from numpy.typing import NDArray

from selfrag.errors import CollectionError
from selfrag.index.vectors.errors import VectorError

_PAGE = 2000
GRAPH = {"space": "cosine", "max_neighbors": 32, "ef_construction": 200, "ef_search": 200}
"""For new stores; chosen in benchmarks/results/hnsw.md. An existing store keeps its HNSW index, which also works; `repair`
rebuilds it with these.
"""


class ChromaVectors:
    """One Chroma collection of unit vectors under cosine distance. Every method raises VectorError when Chroma fails."""

    def __init__(self, client: ClientAPI, name: str, create: bool) -> None:
        self._client = client
        self.name = name
        with _chroma_errors():
            if create:
                self._collection = client.get_or_create_collection(name, embedding_function=None, configuration={"hnsw": GRAPH})  # type: ignore[arg-type]
            else:
                self._collection = client.get_collection(name, embedding_function=None)
            self._batch = min(_PAGE, client.get_max_batch_size())

    def upsert(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        for at in range(0, len(ids), self._batch):
            with _chroma_errors():
                self._collection.upsert(ids=list(ids[at : at + self._batch]), embeddings=vectors[at : at + self._batch])

    def delete(self, ids: Sequence[str]) -> None:
        for at in range(0, len(ids), self._batch):
            with _chroma_errors():
                self._collection.delete(ids=list(ids[at : at + self._batch]))

    def count(self) -> int:
        with _chroma_errors():
            return int(self._collection.count())

    def ids(self) -> set[str]:
        found: set[str] = set()
        for page in self._pages():
            found.update(page)
        return found

    def get(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The stored vectors of those of ``ids`` that exist."""
        with _chroma_errors():
            got = self._collection.get(ids=list(ids), include=["embeddings"])
        vectors = got["embeddings"]
        return {} if vectors is None else dict(zip(got["ids"], np.asarray(vectors, dtype=np.float32), strict=True))

    def query(self, vectors: NDArray[np.float32], k: int) -> list[list[tuple[str, float]]]:
        """For each row of ``vectors`` the ``k`` nearest ids with their cosine similarity, best first."""
        with _chroma_errors():
            found = self._collection.query(query_embeddings=vectors, n_results=k, include=["distances"])
        distances = found["distances"] or []
        return [
            [(key, 1.0 - float(distance)) for key, distance in zip(*row, strict=True)]
            for row in zip(found["ids"], distances, strict=True)
        ]

    def drop(self) -> None:
        """Deletes the collection."""
        with _chroma_errors():
            self._client.delete_collection(self.name)

    def close(self) -> None:
        with _chroma_errors():
            self._client.close()  # type: ignore[attr-defined]

    def _pages(self) -> Iterator[list[str]]:
        at = 0
        while True:
            with _chroma_errors():
                page = self._collection.get(include=[], limit=50 * _PAGE, offset=at)["ids"]
            if not page:
                return
            yield page
            at += len(page)


class _chroma_errors:
    """Turns whatever Chroma raises (its errors share no base with those of its native code) into VectorError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, VectorError | KeyboardInterrupt | SystemExit | GeneratorExit):
            return
        raise VectorError(f"{type(error).__name__}: {error}", isinstance(error, httpx.TransportError)) from error


def open_folder(folder: Path, name: str, create: bool = False) -> ChromaVectors:
    """The collection ``name`` of the in-process Chroma in ``folder``. VectorError if it is missing or damaged."""
    if not create and not (folder / "chroma.sqlite3").exists():
        raise VectorError(f"no Chroma store in {folder}")
    with _chroma_errors():
        client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    return ChromaVectors(client, name, create)


def open_server(url: str, name: str, create: bool = False) -> ChromaVectors:
    """The collection ``name`` of the Chroma server at ``url``. VectorError if the collection is missing or the server does not
    answer.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CollectionError(f"{url!r} is not the address of a Chroma server.", "--chroma http://HOST:PORT")
    ssl = parts.scheme == "https"
    port = parts.port or (443 if ssl else 8000)
    try:
        client = chromadb.HttpClient(parts.hostname, port, ssl=ssl, settings=Settings(anonymized_telemetry=False))
    except Exception as error:  # of many kinds, by what it is that answers there
        raise VectorError(f"no Chroma server answers at {url}", silent=True) from error
    return ChromaVectors(client, name, create)

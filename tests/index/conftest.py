"""A folder of documents and a collection of it, with an embedder that counts how much it is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selfrag.index.collection import Collection
from selfrag.index.embedders.hashing import HashingEmbedder
from selfrag.index.sync.pipeline import Options, SyncReport


class CountingEmbedder(HashingEmbedder):
    """Hashed word counts; ``embedded`` are the texts that it was given. A name ``fake-N`` is another embedder for every N."""

    def __init__(self, name: str = "fake-1") -> None:
        super().__init__(64)
        self.name = name
        self.fingerprint = {"revision": name, "dimension": 64}
        self.embedded: list[str] = []
        self.before: Callable[[], None] = lambda: None

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.before()
        self.embedded += texts
        return super().documents(texts)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().documents(texts)


class Place:
    """A folder ``docs``, a home, and shorthands for what tests do with them."""

    def __init__(self, folder: Path) -> None:
        self.docs = folder / "docs"
        self.home = folder / "data"
        self.docs.mkdir()
        self.embedders: dict[str, CountingEmbedder] = {}
        self.collection = self.open()

    def open(self, name: str = "default") -> Collection:
        return Collection(self.home, name, open_embedder=self.embedder)

    def embedder(self, name: str = "fake-1") -> CountingEmbedder:
        return self.embedders.setdefault(name, CountingEmbedder(name))

    def write(self, name: str, text: str) -> Path:
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def sync(self, **options: object) -> SyncReport:
        given = {"embedder": "fake-1" if self.collection.is_new() else None, **options}
        return self.collection.sync([self.docs], Options(**given))  # type: ignore[arg-type]

    def counts(self, **options: object) -> dict[str, int]:
        """What a sync did, in the numbers that are not 0."""
        report = self.sync(**options)
        names = ("new", "updated", "moved", "removed", "unchanged")
        found = {name: getattr(report, name) for name in names} | {"skipped": len(report.skipped)}
        return {name: count for name, count in found.items() if count}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)

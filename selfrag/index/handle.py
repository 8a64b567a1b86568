"""A handle on a collection: its folder, generations, catalog and embedder. Search and sync both use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from selfrag.errors import CollectionError
from selfrag.index import generations
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import differences
from selfrag.index.catalog.sqlite import sqlite_errors
from selfrag.index.embedders import Embedder, open_embedder
from selfrag.index.vectors.replica import Mirror


@dataclass
class Handle:
    """The collection ``name`` of the data folder ``home``, whether or not it exists.

    ``chroma_url`` None uses the one that the collection was made with. ``open_embedder`` is called once, with the embedder's
    name.
    """

    home: Path
    name: str
    chroma_url: str | None = None
    open_embedder: Callable[[str], Embedder] = open_embedder
    _embedders: dict[str, Embedder] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder = generations.folder_of(self.home, self.name)

    def generation(self) -> Path:
        """The folder of the current generation. Raises CollectionError if the collection does not exist."""
        generation = generations.current(self.folder)
        if generation is None:
            raise self.missing()
        return generation

    def is_new(self) -> bool:
        """Whether no collection of this name exists yet."""
        return generations.current(self.folder) is None

    def made_with(self) -> dict[str, object]:
        """The fingerprint: embedder, context and the versions that the chunks depend on; empty for a new collection."""
        generation = generations.current(self.folder)
        if generation is None:
            return {}
        with self.opened(generation, old=True) as catalog:
            return catalog.table("made_with")

    def embedder_name(self) -> str:
        """The name of the embedder that it was made with; empty for a new collection."""
        return str(self.made_with().get("embedder", ""))

    def missing(self) -> CollectionError:
        have = ", ".join(generations.names(self.home))
        return CollectionError(
            f"There is no collection {self.name!r}" + (f"; there are: {have}." if have else "."), self.fix("index PATH")
        )

    def fix(self, command: str) -> str:
        """A command line of the program for this collection, for error messages."""
        return f"selfrag {command}" + ("" if self.name == "default" else f" -c {self.name}")

    def url(self, catalog: Catalog) -> str | None:
        return self.chroma_url or str(catalog.meta("chroma") or "") or None

    @contextmanager
    def opened(self, generation: Path, writable: bool = False, old: bool = False) -> Iterator[Catalog]:
        """The catalog of a generation; with ``old`` also one of version 1. Raises CollectionError, also for SQLite's errors while
        it is open.
        """
        path = generations.catalog_in(generation)
        with sqlite_errors(path), closing(Catalog.open(path, writable, old)) as catalog:
            yield catalog

    def mirror(self, catalog: Catalog) -> Mirror:
        """The vectors of ``catalog``."""
        return Mirror(catalog, self.url(catalog), self.fix("repair"))

    # --- the embedder and the fingerprint ---------------------------------------------------------------------------------

    def embedder(self, name: str) -> Embedder:
        if name not in self._embedders:
            self._embedders[name] = self.open_embedder(name)
        return self._embedders[name]

    def checked_embedder(self, catalog: Catalog) -> Embedder:
        """The collection's embedder. Raises CollectionError if its vectors would not match the stored ones."""
        embedder = self.embedder(str(catalog.table("made_with")["embedder"]))
        stored, now = catalog.table("vectors"), dict(embedder.fingerprint)
        if not stored and catalog.writable:
            catalog.set_meta(vectors=now)
        elif stored and stored != now:
            raise CollectionError(
                f"The collection {self.name!r} was made with another embedder ({differences(stored, now)}).",
                self.fix("index --rebuild"),
            )
        return embedder

"""The vector store as a mirror of the catalog: keeps the two equal, and detects differences.

Chroma is used only while it is known to equal the catalog: its state is ``clean``, nothing is pending, and its index files are
those that its writer left (sizes and times, or else digests). In every other case (an active writer, a killed writer, a damaged
store, a read-only folder) search falls back to brute force over the catalog's vectors (brute_force.py): slower, but exact. So a
search never waits for a writer, and never depends on Chroma's files.

A writer marks the mirror ``dirty``, durably, before it touches Chroma, and ``clean`` after it has closed it. It finds ``dirty``
only after a kill; then the store is checked in a process of its own and, in doubt, rebuilt from the catalog.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from selfrag.errors import CollectionError
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.locks import chroma_alone, chroma_still
from selfrag.index.vectors.brute_force import BruteForce, Found
from selfrag.index.vectors.checksums import Seal, compare_seal, make_seal
from selfrag.index.vectors.errors import VectorError
from selfrag.index.vectors.matrix import stacked

if TYPE_CHECKING:
    from selfrag.index.vectors.chroma import ChromaVectors
    from selfrag.index.vectors.chroma_reader import ChromaReader

APPLY = 1000


class State(TypedDict):
    place: str
    name: str
    state: str
    version: int
    store: int
    seal: Seal


class Mirror:
    """The vectors of one generation of a collection; ``url`` is a Chroma server's, None for the folder beside the catalog.

    ``problem`` is why the last search bypassed Chroma, ``mend`` the fix for the last failure: the command ``repair``, or starting
    the server.
    """

    def __init__(self, catalog: Catalog, url: str | None, repair: str = "selfrag repair") -> None:
        self.catalog = catalog
        self.exact = BruteForce(catalog)
        self.url = url
        self.problem: str | None = None
        self.mend = self._repair = repair
        self._vectors: ChromaVectors | ChromaReader | None = None
        self._version = -1
        self._still = False

    @property
    def folder(self) -> Path:
        """Chroma's folder. Every rebuilt store gets a new one, so that no process holds replaced files open."""
        return self.catalog.path.parent / f"chroma-{self.state()['store']}"

    # --- searching --------------------------------------------------------------------------------------------------------

    def query(self, vectors: NDArray[np.float32], k: int) -> Found:
        """For each row the ``k`` nearest chunks with their cosine similarity, best first."""
        found = self._ask_chroma(vectors, k)
        return self.exact.nearest(vectors, k) if found is None else found

    def warm(self) -> None:
        """Opens the store that `query` would ask, if it would ask one."""
        self._reachable()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Locks writers out of Chroma meanwhile; if one is active already, queries bypass Chroma and use brute force."""
        with chroma_still(self.catalog.path.parent) as self._still:
            yield

    def _ask_chroma(self, vectors: NDArray[np.float32], k: int) -> Found | None:
        opened = self._reachable()
        if opened is None:
            return None
        try:
            return opened.query(vectors, k)
        except VectorError as error:
            self.problem = self.why(error)
            return None

    def _reachable(self) -> ChromaVectors | ChromaReader | None:
        """The store; None if it may differ from the catalog, or cannot be opened."""
        state = self.state()
        elsewhere = state["place"] != (self.url or "")
        if not self._still or elsewhere or state["state"] != "clean" or self.catalog.pending(1):
            return None
        try:
            return self._opened(state)
        except VectorError as error:
            self.problem = self.why(error)
            return None

    def _opened(self, state: State) -> ChromaVectors | ChromaReader:
        if self._vectors is None or self._version != state["version"]:
            self.close()
            if damage := self.damage():
                raise VectorError(damage)
            vectors = self._open_reader(state["name"])
            if vectors.count() != (expected := self.catalog.counts().chunks):
                raise VectorError(f"Chroma has {vectors.count()} vectors for {expected} chunks")
            self._vectors, self._version = vectors, state["version"]
        return self._vectors

    def _open_reader(self, name: str) -> ChromaVectors | ChromaReader:
        if self.url is None:
            from selfrag.index.vectors.chroma_reader import open_reader

            if reader := open_reader(self.folder, name):
                return reader
        return self.open_vectors(name, create=False)

    def close(self) -> None:
        vectors, self._vectors = self._vectors, None
        if vectors is not None:
            vectors.close()

    # --- writing ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The mirror, opened by the only writer. Writes what is pending on exit."""
        with ExitStack() as held:
            writer = Writer(self, held)
            yield writer
            writer.apply()

    def reset(self) -> None:
        """Deletes the vectors; a writer rebuilds them from the catalog."""
        state, folder = self.state(), self.folder
        self.close()
        fresh = {"place": self.url or "", "state": "dirty", "store": state["store"] + 1, "seal": {}}
        self.catalog.make_durable(mirror={**state, **fresh})
        self.catalog.expect_all()
        shutil.rmtree(folder, ignore_errors=True)
        self.drop_on_server()

    def drop_on_server(self) -> None:
        """Deletes the vectors from the Chroma server, if they are on one. Raises CollectionError if it does not answer."""
        if self.url is None:
            return
        try:
            vectors = self.open_vectors(self.state()["name"], create=True)
            vectors.drop()
            vectors.close()
        except VectorError as error:
            raise CollectionError(f"The vectors could not be deleted: {self.why(error)}.", self.mend) from error

    def needs_writing(self) -> bool:
        """Whether the mirror may differ from the catalog; cheap, since it reads only the file system."""
        state = self.state()
        return state["state"] != "clean" or state["place"] != (self.url or "") or bool(self.catalog.pending(1) or self.damage())

    def check(self) -> list[str]:
        """What is wrong with the mirror, every vector compared; in a process of its own, since damaged files may crash it."""
        if self.never_written():
            return []
        if damage := self.damage(thorough=True):
            return [damage]
        if self.url is not None and (silence := self._silence(self.url)):
            return [silence]
        if self.url is None and not os.access(self.catalog.path.parent, os.W_OK):
            return []  # Chroma opens no store that it cannot write to; the digests agree
        command = [sys.executable, "-m", "selfrag.index.vectors.verify", str(self.catalog.path), self.url or ""]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.splitlines()
        return [f"Chroma cannot read its files (exit status {done.returncode}: {done.stderr.strip()[-200:]})"]

    def _silence(self, url: str) -> str | None:
        """What is wrong if no server answers there."""
        from selfrag.index.vectors import chroma

        try:
            chroma.open_server(url, self.state()["name"])
        except VectorError as error:
            return self.why(error) if error.silent else None
        return None

    def why(self, error: VectorError) -> str:
        """The error as text; sets `mend` to the fix for it."""
        self.mend = f"start the Chroma server {self.url}" if error.silent else self._repair
        return str(error)

    def never_written(self) -> bool:
        state = self.state()
        return state["version"] == 0 and state["state"] == "clean"

    def state(self) -> State:
        stored = cast("State | None", self.catalog.meta("mirror"))
        return stored or State(
            place=self.url or "", name=f"selfrag-{self.catalog.meta('id')}", state="clean", version=0, store=1, seal={}
        )

    def damage(self, thorough: bool = False) -> str | None:
        """How the index files differ from those that the last writer left; None if they are equal or missing."""
        state = self.state()
        if state["place"] or state["version"] == 0 or state["state"] != "clean":
            return None
        return compare_seal(self.folder, state["seal"], thorough)

    def open_vectors(self, name: str, create: bool) -> ChromaVectors:
        from selfrag.index.vectors import chroma

        if self.url is None:
            return chroma.open_folder(self.folder, name, create)
        return chroma.open_server(self.url, name, create)


class Writer:
    """Writes pending vectors to Chroma, opened on first use."""

    def __init__(self, mirror: Mirror, held: ExitStack) -> None:
        self._mirror = mirror
        self._catalog = mirror.catalog
        self._held = held
        self.vectors: ChromaVectors | None = None

    def apply(self, at_least: int = 1, rebuild: bool = False) -> None:
        """Writes the pending vectors, if there are ``at_least`` this many; with ``rebuild`` all, into a new store.

        Raises CollectionError if Chroma fails; the catalog stays intact, and pending vectors stay pending.
        """
        if not rebuild and len(self._catalog.pending(at_least)) < at_least and (self.vectors or not self._mirror.needs_writing()):
            return
        try:
            vectors = self.vectors or self._open(rebuild)
            while keys := self._catalog.pending(APPLY):
                self._write(vectors, keys)
        except VectorError as error:
            why = self._mirror.why(error)
            raise CollectionError(f"The vectors could not be written: {why}.", self._mirror.mend) from error

    def _write(self, vectors: ChromaVectors, keys: list[str]) -> None:
        rows = list(self._catalog.vectors(keys))
        if rows:
            vectors.upsert([key for key, _ in rows], stacked(vector for _, vector in rows))
        if gone := sorted(set(keys) - {key for key, _ in rows}):
            vectors.delete(gone)
        self._catalog.confirm(keys)

    def _open(self, rebuild: bool) -> ChromaVectors:
        mirror = self._mirror
        mirror.close()
        self._held.enter_context(chroma_alone(mirror.catalog.path.parent))
        state = mirror.state()
        broken = mirror.damage() if state["state"] == "clean" else mirror.check()
        if rebuild or broken or state["place"] != (mirror.url or ""):
            mirror.reset()
        self._catalog.make_durable(mirror={**mirror.state(), "state": "dirty"})
        self.vectors = mirror.open_vectors(state["name"], create=True)
        self._held.callback(self._close)
        return self.vectors

    def _close(self) -> None:
        """Closes Chroma; the mirror is clean if nothing is pending."""
        if self.vectors is None:
            return
        self.vectors.close()
        if self._catalog.pending(1):
            return
        state = self._mirror.state()
        seal = {} if self._mirror.url else make_seal(self._mirror.folder)
        self._catalog.make_durable(mirror={**state, "state": "clean", "version": state["version"] + 1, "seal": seal})

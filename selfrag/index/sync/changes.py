"""Classifies a file's change since the last run, and rebuilds its entries if needed. Touches no database.

Runs in a thread beside the embedder. A file counts as unchanged if its `stat` values are; otherwise its bytes decide.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from selfrag import ingest
from selfrag.errors import InputError
from selfrag.index.catalog.rows import NO_HINTS, Hints, Source
from selfrag.index.sync.chunks import digest

Load = Callable[[Path], bytes]
Kind = Literal["new", "updated", "moved", "unchanged", "touched", "skipped", "stale", "gone"]
_RACY_NS = 2_000_000_000
"""A file written this shortly before it was read may be written again under the same time stamp: FAT counts two seconds."""
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file and the action for it. New, updated and moved files have ``document`` and ``chunks``, unless only planned.

    ``touched`` has new hints but the same content, ``stale`` was indexed but cannot be opened now, ``gone`` no longer exists.
    """

    kind: Kind
    source: Source
    document: ingest.Document | None = None
    chunks: tuple[ingest.Chunk, ...] = ()
    replaces: str | None = None
    known: bool = True


class Preparer:
    """Has the files of the last run, and by the hash of their content those that may have moved: ``lost`` and other missing ones.
    Chunks have at most ``capacity`` characters."""

    def __init__(
        self,
        known: Mapping[str, Source],
        lost: Mapping[str, Source],
        plan_only: bool = False,
        load: Load = ingest.load,
        capacity: int = ingest.CAPACITY,
    ) -> None:
        self._known = known
        self._plan_only = plan_only
        self._load = load
        self._capacity = capacity
        self._lost = lost
        self._gone: dict[str, list[str]] = {}
        for path, source in known.items():
            if source.hash is not None and source.status == "ok":
                self._gone.setdefault(source.hash, []).append(path)

    def all(self, files: Mapping[str, Hints]) -> Iterator[Prepared]:
        for path, hints in files.items():
            yield self.one(path, hints)

    def one(self, path: str, hints: Hints) -> Prepared:
        before = self._known.get(path)
        if before is not None and before.hints == hints and before.status != "stale":
            return Prepared("unchanged", before)
        try:
            data, hints = _steady(path, self._load)
        except FileNotFoundError:
            return Prepared("gone", before or Source(path, None, NO_HINTS), known=before is not None)
        except InputError as error:
            return _unreadable(path, hints, before, error)
        return self._compared(path, data, hints, before)

    def _compared(self, path: str, data: bytes, hints: Hints, before: Source | None) -> Prepared:
        name = digest(data)
        if before is not None and before.hash == name:
            readable = replace(before, status="ok", reason=None) if before.status == "stale" else before
            return Prepared("touched", replace(readable, hints=hints))
        moved = None if before is not None else self._moved_from(path, name)
        kind: Kind = "updated" if before is not None and before.status != "skipped" else "moved" if moved else "new"
        if self._plan_only:
            return Prepared(kind, Source(path, name, hints), replaces=moved)
        try:
            document = ingest.parse(Path(path), data)
            chunks = tuple(ingest.split(document, self._capacity))
        except InputError as error:
            return Prepared("skipped", Source(path, name, hints, "skipped", error.message), replaces=moved)
        lost = "\n".join(document.lost) or None
        source = Source(path, name, hints, "ok", lost, document.reader, document.title, document.metadata)
        return Prepared(kind, source, document, chunks, moved)

    def _moved_from(self, path: str, name: str) -> str | None:
        """A vanished file with this content, preferably of the same file name."""
        same = self._gone.get(name, [])
        gone = [old for old in same if old != path and (old in self._lost or not os.path.lexists(old))]
        if not gone:
            return None
        found = min(gone, key=lambda old: (os.path.basename(old) != os.path.basename(path), old not in self._lost))
        same.remove(found)
        return found


def _steady(path: str, load: Load) -> tuple[bytes, Hints]:
    """Consistent content and hints; hints that match nothing if the file is too recent for its times to be reliable.

    Raises FileNotFoundError if it is missing, InputError if it cannot be read or keeps changing.
    """
    for attempt in range(_TRIES):
        before = Hints.of(os.stat(path))
        try:
            data = load(Path(path))
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise error.__cause__ from None
            raise
        after = Hints.of(os.stat(path))
        if before == after and len(data) == after.size:
            return data, NO_HINTS if time.time_ns() - after.mtime_ns < _RACY_NS else after
        time.sleep(0.05 * (attempt + 1))
    raise InputError("it changes while it is read")


def _unreadable(path: str, hints: Hints, before: Source | None, error: InputError) -> Prepared:
    """A file that cannot be read: an indexed one keeps its chunks, any other is skipped and retried next time."""
    if before is not None and before.status != "skipped" and "too large" not in error.message:
        reason = f"{error.message}; its last readable version is kept"
        return Prepared("stale", replace(before, path=path, hints=NO_HINTS, status="stale", reason=reason))
    stays = hints if error.message.startswith("too large") else NO_HINTS
    return Prepared("skipped", Source(path, None, stays, "skipped", error.message))

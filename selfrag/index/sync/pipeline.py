"""A collection brought up to date with its folders: scan, read, embed, store.

One thread reads and splits files while this one embeds others. Texts of many files are embedded together, then each file is
stored by itself. A stop (Ctrl-C, a kill) loses only the files in progress; computed vectors are kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol

from selfrag.errors import Interrupted, TextsRefused
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import NO_HINTS, Hints, Source
from selfrag.index.embedders import WINDOW, Embedder
from selfrag.index.sync.changes import Prepared, Preparer
from selfrag.index.sync.chunks import Indexed, digest, index_chunks
from selfrag.index.sync.scan import Scan
from selfrag.index.vectors.replica import APPLY, Writer
from selfrag.ingest import CAPACITY, Chunk, Document

_AHEAD = 32
_SPARE = 20_000


class Situate(Protocol):
    """Writes the contexts of chunks, given a part of their document; ``fingerprint`` names the model and the prompt."""

    fingerprint: str

    def part(self, text: str, start: int) -> str: ...

    def write(self, title: str, part: str, chunks: Sequence[str]) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to bring a collection up to date. None keeps the collection's setting, or uses the default of a new one.

    ``include`` and ``exclude`` are git-style patterns, kept for the roots given. ``context`` is ``headings``, ``none`` or
    ``llm``, which needs ``situate``. ``chunk_words`` is the size of chunks. The entries of a folder that is empty now are kept,
    unless ``allow_empty``: its disk may not be mounted.
    """

    embedder: str | None = None
    context: str | None = None
    chunk_words: int | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    rebuild: bool = False
    dry_run: bool = False
    allow_empty: bool = False
    situate: Situate | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note for the user about a file that was read, or about an ignore file."""

    path: str
    note: str


@dataclass(slots=True)
class SyncReport:
    """What a run did. Counts are of files; ``chunks`` counts all chunks of the collection. ``skipped`` lists every file, or part
    of one, that was left out; ``notes`` the guesses about files read now, and how much ignore files excluded; ``emptied`` the
    folders that are empty now, with the number of their files that are kept."""

    collection: str
    new: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    chunks: int = 0
    seconds: float = 0.0
    embedded: int = 0
    emptied: dict[str, int] = field(default_factory=dict)
    plan: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """``files`` of ``total`` are done, ``embedded`` texts so far; ``path`` is the current file."""

    stage: str
    files: int
    total: int
    embedded: int
    path: str = ""


Observer = Callable[[Progress], None]


@dataclass(slots=True)
class Job:
    """The inputs of a run. ``embedder`` is opened for the first text without a vector."""

    catalog: Catalog
    writer: Writer
    embedder: Callable[[], Embedder]
    report: SyncReport
    headings: bool = True
    situate: Situate | None = None
    observer: Observer = lambda _: None
    stop: threading.Event = field(default_factory=threading.Event)
    window: int = WINDOW
    capacity: int = CAPACITY


def run(job: Job, scan: Scan, lost: Mapping[str, Source], known: Mapping[str, Source]) -> None:
    """Stores what ``scan`` found, replacing what is ``known``, and removes what is ``lost``.

    Raises Interrupted after ``job.stop`` was set, once the current file is stored.
    """
    _Run(job, len(scan.files)).all(scan, lost, known)


def plan(scan: Scan, lost: Mapping[str, Source], known: Mapping[str, Source], report: SyncReport) -> None:
    """Fills ``report`` with what `run` would do; opens changed files to distinguish edits from moves, writes nothing."""
    moved = set()
    for prepared in Preparer(known, lost, plan_only=True).all(scan.files):
        _count(report, prepared)
        moved.add(prepared.replaces)
        if prepared.kind not in ("unchanged", "touched"):
            report.plan.append((prepared.kind, prepared.source.path))
    report.removed += len(lost.keys() - moved)
    report.plan += [("removed", path) for path in sorted(lost.keys() - moved)]


class _Run:
    def __init__(self, job: Job, total: int) -> None:
        self.job = job
        self.total = total
        self.done = 0
        self.waiting: list[tuple[Prepared, Indexed]] = []
        self.texts: dict[str, str] = {}
        self.moved: set[str] = set()
        self.refused: dict[str, str] = {}
        self.known: Mapping[str, Source] = {}
        self.shown = 0.0

    def all(self, scan: Scan, lost: Mapping[str, Source], known: Mapping[str, Source]) -> None:
        self.known = known
        changed = {path: hints for path, hints in scan.files.items() if not _same(known.get(path), hints)}
        for path in scan.files.keys() - changed.keys():
            self._settle(Prepared("unchanged", known[path]))
        for prepared in _ahead(Preparer(known, lost, capacity=self.job.capacity), changed):
            self._check_stop()
            self._settle(prepared)
            if len(self.texts) >= self.job.window:
                self._store()
        self._store()
        left = sorted(lost.keys() - self.moved)
        self.job.catalog.remove(left)
        self.job.report.removed += len(left)

    def _settle(self, prepared: Prepared) -> None:
        self._show("reading", prepared.source.path)
        catalog, source = self.job.catalog, prepared.source
        if prepared.replaces is not None:
            self.moved.add(prepared.replaces)
        if prepared.document is not None:
            self._take(prepared)
            return
        _count(self.job.report, prepared)
        self.done += 1
        if prepared.kind == "skipped":
            catalog.put(source, (), prepared.replaces)
        elif prepared.kind == "gone":
            catalog.remove([source.path])
        elif prepared.kind != "unchanged":
            catalog.note(source)

    def _take(self, prepared: Prepared) -> None:
        assert prepared.document is not None
        contexts = self._situate(self.job.situate, prepared.document, prepared.chunks) if self.job.situate else ()
        indexed = index_chunks(prepared.source.path, prepared.document, prepared.chunks, self.job.headings, contexts)
        have = self.job.catalog.known_embeddings(indexed.texts)
        self.texts.update({name: text for name, text in indexed.texts.items() if name not in have})
        self.waiting.append((prepared, indexed))

    def _situate(self, writer: Situate, document: Document, chunks: Sequence[Chunk]) -> list[str]:
        """The context of each chunk; those of one part of the document are generated together and stored at once."""
        contexts: list[str] = []
        for part, some in groupby(chunks, key=lambda chunk: writer.part(document.text, chunk.start)):
            self._check_stop()
            texts = [chunk.text for chunk in some]
            names = [digest(writer.fingerprint, document.title, part, text) for text in texts]
            have = self.job.catalog.contexts(names)
            missing = [(name, text) for name, text in zip(names, texts, strict=True) if name not in have]
            if missing:
                self._show("situating", force=True)
                written = writer.write(document.title, part, [text for _, text in missing])
                have |= dict(zip([name for name, _ in missing], written, strict=True))
                self.job.catalog.put_contexts(have)
            contexts += [have[name] for name in names]
        return contexts

    def _store(self) -> None:
        """Embeds the waiting texts, in windows, then stores their files one by one."""
        names = sorted(self.texts, key=lambda name: len(self.texts[name]))
        for at in range(0, len(names), self.job.window):
            self._embed(names[at : at + self.job.window])
        for prepared, indexed in self.waiting:
            reason = next((self.refused[name] for name in indexed.texts if name in self.refused), None)
            if reason is None:
                self.job.catalog.put(prepared.source, indexed.entries, prepared.replaces)
                _count(self.job.report, prepared)
            else:
                self._refuse(prepared, reason)
            self.done += 1
        self.waiting.clear()
        self.texts.clear()
        self.refused.clear()
        self._show("storing", force=True)
        self.job.writer.apply(APPLY)

    def _refuse(self, prepared: Prepared, reason: str) -> None:
        """Skips a file with a text that cannot be embedded, or keeps its old version; the next run retries it."""
        path, before = prepared.source.path, self.known.get(prepared.replaces or prepared.source.path)
        if before is not None and before.status != "skipped":
            reason = f"{reason}; its last version is kept"
            kept = replace(before, path=path, hints=NO_HINTS, status="stale", reason=reason)
            if prepared.replaces is None:
                self.job.catalog.note(kept)
        else:
            kept = Source(path, None, NO_HINTS, "skipped", reason)
            self.job.catalog.put(kept, (), prepared.replaces)
        _count(self.job.report, Prepared("skipped", kept))

    def _embed(self, names: Sequence[str]) -> None:
        self._check_stop()
        try:
            vectors = self.job.embedder().documents([self.texts[name] for name in names])
        except TextsRefused as error:
            vectors = error.vectors
            self.refused.update({names[at]: reason for at, reason in error.refused.items()})
        taken = [(name, row) for name, row in zip(names, vectors, strict=True) if name not in self.refused]
        self.job.catalog.put_embeddings((name, row.astype("<f4").tobytes()) for name, row in taken)
        self.job.report.embedded += len(taken)
        self._show("embedding", force=True)

    def _show(self, stage: str, path: str = "", force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self.shown >= 0.05:
            self.shown = now
            self.job.observer(Progress(stage, self.done, self.total, self.job.report.embedded, path))

    def _check_stop(self) -> None:
        if self.job.stop.is_set():
            raise Interrupted("Stopped; what was done is kept.", "run the same command again to resume")


def _ahead(preparer: Preparer, files: Mapping[str, Hints]) -> Iterator[Prepared]:
    """The results of ``preparer`` for ``files``, in order, computed in a thread a few files ahead."""
    todo = iter(files.items())
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        made: deque[Future[Prepared]] = deque()
        try:
            while True:
                while len(made) < _AHEAD and (each := next(todo, None)) is not None:
                    made.append(pool.submit(preparer.one, *each))
                if not made:
                    return
                yield made.popleft().result()
        finally:
            for future in made:
                future.cancel()


def _same(source: Source | None, hints: Hints) -> bool:
    return source is not None and source.hints == hints and source.status != "stale"


def _count(report: SyncReport, prepared: Prepared) -> None:
    kind = prepared.kind
    if kind == "new":
        report.new += 1
    elif kind == "updated":
        report.updated += 1
    elif kind == "moved":
        report.moved += 1
    elif kind == "gone":
        report.removed += prepared.known
    elif prepared.source.status == "ok":
        report.unchanged += 1
    if prepared.source.reason is not None:
        report.skipped += [Skipped(prepared.source.path, reason) for reason in prepared.source.reason.split("\n")]
    if prepared.document is not None:
        report.notes += [Note(prepared.source.path, note) for note in prepared.document.notes]

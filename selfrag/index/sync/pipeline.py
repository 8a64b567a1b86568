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
from functools import partial
from itertools import islice

from selfrag.errors import Interrupted, TextsRefused
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import NO_HINTS, Hints, Source
from selfrag.index.embedders import WINDOW, Embedder
from selfrag.index.sync.annotate import TOGETHER, Annotator
from selfrag.index.sync.changes import Prepared, Preparer
from selfrag.index.sync.chunks import Indexed, Written, index_chunks
from selfrag.index.sync.scan import Scan
from selfrag.index.vectors.replica import APPLY, Writer
from selfrag.ingest import CAPACITY

_AHEAD = 32
_SPARE = 20_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to bring a collection up to date. None keeps the collection's setting, or uses the default of a new one.

    ``include`` and ``exclude`` are git-style patterns, kept for the roots given. ``context`` is ``headings``, ``none`` or
    ``llm``, which needs ``situate``. ``graph`` is ``names`` or ``llm``, which needs ``extract``. ``chunk_words`` is the size of
    chunks. The entries of a folder that is empty now are kept, unless ``allow_empty``: its disk may not be mounted.
    """

    embedder: str | None = None
    context: str | None = None
    graph: str | None = None
    chunk_words: int | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    rebuild: bool = False
    dry_run: bool = False
    allow_empty: bool = False
    situate: Annotator | None = None
    extract: Annotator | None = None


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
class Extracted:
    """What a model's triples gave: of ``chunks`` that belong to the files read in this run, ``empty`` have no name from them; the
    others have ``names``, counted once a chunk."""

    chunks: int = 0
    empty: int = 0
    names: int = 0


@dataclass(slots=True)
class SyncReport:
    """What a run did. Counts are of files; ``chunks`` counts all chunks of the collection. ``skipped`` lists every file, or part
    of one, that was left out; ``notes`` the guesses about files read now, and how much ignore files excluded; ``emptied`` the
    folders that are empty now, with the number of their files that are kept; ``triples`` is None without ``--graph llm``."""

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
    triples: Extracted | None = None


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
    situate: Annotator | None = None
    extract: Annotator | None = None
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
        self.read = 0
        self.taken: list[Prepared] = []
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
        self._index()
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
        self.taken.append(prepared)
        annotated = self.job.situate or self.job.extract
        if not annotated or sum(len(each.chunks) for each in self.taken) >= TOGETHER:
            self._index()

    def _index(self) -> None:
        """Makes entries of the files taken, and notes which of their texts have to be embedded."""
        contexts, triples = self._annotated(self.job.situate), self._annotated(self.job.extract)
        for prepared in self.taken:
            assert prepared.document is not None
            count = len(prepared.chunks)
            some = [*islice(contexts, count)], [*islice(triples, count)]
            indexed = index_chunks(prepared.source.path, prepared.document, prepared.chunks, self.job.headings, *some)
            if self.job.extract:
                self._count_names(indexed)
            have = self.job.catalog.known_embeddings(indexed.texts)
            self.texts.update({name: text for name, text in indexed.texts.items() if name not in have})
            self.waiting.append((prepared, indexed))
        self.taken.clear()

    def _annotated(self, annotator: Annotator | None) -> Iterator[Written]:
        """What the model writes about each chunk of the files taken; what it has not written before is stored as it comes."""
        if annotator is None:
            return iter(())
        excerpts = [
            annotator.excerpt(each.source.path, each.document, chunk)
            for each in self.taken
            if each.document is not None
            for chunk in each.chunks
        ]
        keys = [annotator.key(excerpt) for excerpt in excerpts]
        have = self.job.catalog.contexts(keys)
        missing = {key: excerpt for key, excerpt in zip(keys, excerpts, strict=True) if key not in have}
        for at in range(0, len(missing), TOGETHER):
            some = [*missing][at : at + TOGETHER]
            self._check_stop()
            self._show(f"{annotator.prompt} of chunk {self.read + 1:,}", force=True)
            annotator.write([missing[key] for key in some], partial(self._keep, have, some))
        return ((key, have[key]) for key in keys)

    def _keep(self, have: dict[str, str], keys: Sequence[str], number: int, text: str) -> None:
        self.job.catalog.put_contexts({keys[number]: text})
        have[keys[number]] = text
        self.read += 1

    def _count_names(self, indexed: Indexed) -> None:
        counted = self.job.report.triples = self.job.report.triples or Extracted()
        counted.chunks += len(indexed.entries)
        counted.empty += sum(not entry.names for entry in indexed.entries)
        counted.names += sum(len(entry.names) for entry in indexed.entries)

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

"""The frame of a sync: the lock, the generation to write to, its fingerprint, and the roots to scan."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

from selfrag import ingest
from selfrag.errors import CollectionError, InputError, Interrupted, UsageError
from selfrag.index import generations
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.catalog.rows import Source, differences
from selfrag.index.embedders import EMBEDDED
from selfrag.index.handle import Handle
from selfrag.index.locks import only_writer
from selfrag.index.sync import pipeline
from selfrag.index.sync.annotate import Annotator
from selfrag.index.sync.scan import Scan, is_empty, scan
from selfrag.index.tantivy_index import TantivyIndex
from selfrag.index.vectors.replica import Writer

CONTEXTS = ("headings", "none", "llm")
GRAPHS = ("names", "llm")
Roots = dict[str, dict[str, list[str]]]
_GRAPH: dict[str, object] = {"graph": GRAPHS[0]}
"""What a fingerprint that does not name the graph means."""
_SPARE = 20_000
"""Unused embeddings to keep in case their text comes back."""


class Update:
    """One run of `Collection.sync`."""

    def __init__(
        self,
        handle: Handle,
        options: pipeline.Options,
        observer: pipeline.Observer,
        stop: threading.Event,
        report: pipeline.SyncReport,
        window: int,
    ) -> None:
        if options.context not in (None, *CONTEXTS):
            raise UsageError(f"Unknown context {options.context!r}.", f"--context {'|'.join(CONTEXTS)}")
        if options.graph not in (None, *GRAPHS):
            raise UsageError(f"Unknown graph {options.graph!r}.", f"--graph {'|'.join(GRAPHS)}")
        self.handle = handle
        self.options = options
        self.observer = observer
        self.stop = stop
        self.report = report
        self.window = window

    def run(self, paths: Sequence[str]) -> None:
        for path in paths:
            if not os.path.lexists(path):
                raise InputError(f"No such file or folder: {path}", f"if it is gone for good: selfrag rm {path}")
        if self.options.dry_run:
            self._plan(paths)
            return
        if not paths and generations.current(self.handle.folder) is None:
            raise self.handle.missing()
        with only_writer(generations.make(self.handle.folder), self.handle.name), closing(self._catalog()) as catalog:
            self._remember(catalog, paths)
            self._sync(catalog, paths)
            self._forget_moved_roots(catalog)
            catalog.drop_unused(_SPARE)
            if catalog.path.parent != generations.current(self.handle.folder):
                generations.serve(self.handle.folder, catalog.path.parent)
            self.report.chunks = catalog.counts().chunks

    def _plan(self, paths: Sequence[str]) -> None:
        generation = generations.current(self.handle.folder)
        if generation is None:
            looked = scan({path: _patterns(self.options, {}) for path in paths}, self.handle.home)
            pipeline.plan(looked, {}, {}, self.report)
            self._tell(looked)
            return
        with self.handle.opened(generation) as catalog:
            roots = catalog.roots()
            roots.update({path: _patterns(self.options, roots.get(path, {})) for path in paths})
            looked, lost, known = self._look(catalog, roots, paths)
            pipeline.plan(looked, lost, known, self.report)
            self.report.chunks = catalog.counts().chunks

    # --- the generation ---------------------------------------------------------------------------------------------------

    def _catalog(self) -> Catalog:
        folder = self.handle.folder
        served = generations.current(folder)
        if served is None:
            catalog = generations.new_generation(folder, self._made_with(None))
            catalog.set_meta(chroma=self.handle.chroma_url or "")
            generations.serve(folder, catalog.path.parent)
            return catalog
        catalog = Catalog.open(generations.catalog_in(served), writable=True)
        if self.options.rebuild:
            with closing(catalog):
                return self._rebuilt(catalog)
        self._check(catalog)
        if self.handle.chroma_url is not None:
            catalog.set_meta(chroma=self.handle.chroma_url)
        return catalog

    def _made_with(self, before: Mapping[str, object] | None) -> dict[str, object]:
        """The fingerprint of chunks and vectors, as far as known without opening the embedder."""
        old = before or {}
        context = self.options.context or old.get("context") or CONTEXTS[0]
        graph = self.options.graph or old.get("graph") or GRAPHS[0]
        return {
            "embedder": self.options.embedder or old.get("embedder") or EMBEDDED,
            "context": context,
            "chunk_words": self.options.chunk_words or old.get("chunk_words") or ingest.WORDS,
            **({"context_model": self._model("context", self.options.situate, old)} if context == "llm" else {}),
            **({"graph": graph, "graph_model": self._model("graph", self.options.extract, old)} if graph == "llm" else {}),
            **ingest.FINGERPRINT,
            **ingest.fingerprint(),
        }

    def _model(self, use: str, annotator: Annotator | None, old: Mapping[str, object]) -> object:
        if annotator is None and f"{use}_model" not in old:
            raise self._needs_model(use)
        return annotator.fingerprint if annotator else old[f"{use}_model"]

    def _needs_model(self, use: str) -> UsageError:
        return UsageError(f"The {use} 'llm' needs an instruct model.", self.handle.fix(f"index --{use} llm --model M"))

    def _check(self, catalog: Catalog) -> None:
        before = catalog.table("made_with")
        wanted = self._made_with(before)
        if ingest.keeps_recognised(before.get("ocr")):
            wanted["ocr"] = before["ocr"]
        ocr = {"ocr": wanted["ocr"]} if "ocr" in wanted else {}
        then = {**{key: value for key, value in before.items() if key != "ocr"}, **ocr}
        if then != wanted:
            raise CollectionError(
                f"The collection {self.handle.name!r} was made otherwise ({differences(_GRAPH | then, _GRAPH | wanted)}).",
                self.handle.fix("index --rebuild"),
            )
        if before != wanted:  # only what OCR is for has to be read again
            catalog.read_again(wanted, ingest.PICTURED)

    def _rebuilt(self, old: Catalog) -> Catalog:
        """A new generation next to ``old``, with its roots, and with its vectors if the embedder is the same."""
        made_with = self._made_with(old.table("made_with"))
        embedder = self.handle.embedder(str(made_with["embedder"]))
        catalog = generations.new_generation(self.handle.folder, made_with)
        for path, options in old.roots().items():
            catalog.put_root(path, options)
        catalog.set_meta(chroma=self.handle.url(old) or "", vectors=dict(embedder.fingerprint))
        same = old.table("vectors") == dict(embedder.fingerprint)
        try:
            catalog.copy_from(old, embeddings=same)
        except CollectionError:
            if not old.problems():
                raise  # no room, say; what a damaged catalog does not give is written again
        return catalog

    # --- the files --------------------------------------------------------------------------------------------------------

    def _remember(self, catalog: Catalog, paths: Sequence[str]) -> None:
        roots = catalog.roots()
        for path in paths:
            catalog.put_root(path, _patterns(self.options, roots.get(path, {})))

    def _look(self, catalog: Catalog, roots: Roots, paths: Sequence[str]) -> tuple[Scan, dict[str, Source], dict[str, Source]]:
        """The files under ``paths``, or under all roots; the known files that no longer exist; and all known files."""
        asked = list(roots) if self.options.rebuild or not paths else list(paths)
        looked_at = {root: roots[root] for root in roots if any(_below(root, path) for path in asked)}
        absent = [root for root in looked_at if not os.path.lexists(root)]
        found = scan({root: options for root, options in looked_at.items() if root not in absent}, self.handle.home)
        known = catalog.sources()
        empty = {} if self.options.allow_empty else self._emptied(looked_at, known)
        self.report.emptied = empty
        kept = [*found.closed, *empty, *(root for root in absent if root in asked)]
        self.report.skipped += [
            pipeline.Skipped(root, "it is not there; what was known of it is kept") for root in absent if root in asked
        ]
        self.report.skipped += [
            pipeline.Skipped(
                root,
                f"it is empty; what was known of it ({count:,} file{'s' if count > 1 else ''}) is kept; --allow-empty removes it",
            )
            for root, count in empty.items()
        ]
        self._tell(found)
        lost = {
            path: source
            for path, source in known.items()
            if path not in found.files
            and any(_below(path, root) for root in asked)
            and not any(_below(path, each) for each in kept)
        }
        return found, lost, known

    def _tell(self, found: Scan) -> None:
        self.report.skipped += [pipeline.Skipped(*each) for each in sorted(found.skipped.items())]
        self.report.notes += [pipeline.Note(path, f"left out {left}") for path, left in sorted(found.ignored.items())]

    def _emptied(self, roots: Iterable[str], known: Iterable[str]) -> dict[str, int]:
        """Folders that are empty now but had known files, with their number: an unmounted disk looks like this."""
        empty = [root for root in roots if os.path.isdir(root) and is_empty(root)]
        counts = {root: sum(_below(path, root) for path in known) for root in empty}
        return {root: count for root, count in counts.items() if count}

    def _forget_moved_roots(self, catalog: Catalog) -> None:
        """Roots that no longer exist and have no known files left, since all their files were found elsewhere."""
        gone = [root for root in catalog.roots() if not os.path.lexists(root)]
        known = catalog.sources() if gone and self.report.moved else {}
        for root in gone:
            if known and not any(_below(path, root) for path in known):
                catalog.drop_root(root)

    def _sync(self, catalog: Catalog, paths: Sequence[str]) -> None:
        found, lost, known = self._look(catalog, catalog.roots(), paths)
        made_with = catalog.table("made_with")
        situate, extract = self.options.situate, self.options.extract
        for use, annotator in (("context", situate), ("graph", extract)):
            if made_with.get(use) == "llm" and annotator is None:
                raise self._needs_model(use)
        with self._writing(catalog) as writer:
            job = pipeline.Job(
                catalog,
                writer,
                lambda: self.handle.checked_embedder(catalog),
                self.report,
                headings=made_with["context"] != "none",
                situate=situate if made_with["context"] == "llm" else None,
                extract=extract if made_with.get("graph") == "llm" else None,
                observer=self.observer,
                stop=self.stop,
                window=self.window,
                capacity=ingest.capacity_of(int(str(made_with["chunk_words"]))),
            )
            try:
                pipeline.run(job, found, lost, known)
            except Interrupted:
                writer.apply()
                raise

    @contextmanager
    def _writing(self, catalog: Catalog) -> Iterator[Writer]:
        with self.handle.mirror(catalog).writing() as writer:
            yield writer
        TantivyIndex(catalog).write()


def _patterns(options: pipeline.Options, before: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    include = before.get("include", ()) if options.include is None else options.include
    exclude = before.get("exclude", ()) if options.exclude is None else options.exclude
    return {"include": list(include), "exclude": list(exclude)}


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))

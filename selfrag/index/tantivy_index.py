"""A tantivy index of a large collection's words, a copy of the catalog: BM25 in milliseconds instead of a quarter of a second
with FTS5.

FTS5 in the catalog stays the source of truth. The copy is used only while it is known to equal the catalog: no chunk is
``unwritten``, and its files are those that the last writer left (same sizes and times, or else digests). In every other case (an
active or killed writer, a damaged file, a read-only folder) FTS5 answers: slower, but correct. A writer records changed chunks in
the transaction that changes them, and deletes the records after tantivy's commit; it rebuilds the index, in a new folder, if the
files differ from those of the last writer.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from selfrag.errors import CollectionError
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.vectors.checksums import Seal, changed_file, digest

if TYPE_CHECKING:
    import tantivy

log = logging.getLogger(__name__)

WORTH = 20_000
"""Chunks from which an index of their words is kept; with fewer FTS5 is quick enough (benchmarks/results/scale.md)."""

_TOKENIZER = "words"
_HEAP = 50_000_000
_LOCKS = (".tantivy-meta.lock", ".tantivy-writer.lock")

Scored = list[tuple[int, float]]
"""Rows of the table of chunks with their BM25 scores, best first."""


class State(TypedDict):
    folder: int
    seal: Seal


class TantivyIndex:
    """The index beside ``catalog``."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._opened: tuple[State, _Index] | None = None

    # --- searching --------------------------------------------------------------------------------------------------------

    def search(self, terms: Sequence[str], depth: int, allowed: Collection[int] | None) -> Scored | None:
        """The ``depth`` best chunks for ``terms`` (of `fulltext.terms`) in the sources ``allowed``; None: ask FTS5.

        Call it within a transaction of the catalog.
        """
        state = self._state()
        if state is None or self._unwritten() or any(term.endswith("*") for term in terms):
            return None
        try:
            return self._open(state).search(terms, depth, allowed)
        except (OSError, ValueError) as error:  # tantivy raises ValueError for whatever it cannot read
            log.debug("FTS5 is asked: %s", error)  # a writer may have gone on in this moment; `selfrag status` tells of damage
            return None

    def _open(self, state: State) -> _Index:
        if self._opened is None or self._opened[0] != state:
            self._opened = None
            if damage := compare(self._folder(state), state["seal"], thorough=False):
                raise ValueError(damage)
            self._opened = state, _Index(self._folder(state), create=False)
        return self._opened[1]

    def check(self) -> list[str]:
        """What is wrong with the files, every digest compared."""
        state = self._state()
        if state is None:
            return []
        damage = compare(self._folder(state), state["seal"], thorough=True)
        if damage is None and (lacking := self._unwritten()):
            damage = f"the index of words lacks {lacking} chunks"
        return [damage] if damage else []

    # --- writing ----------------------------------------------------------------------------------------------------------

    def write(self, rebuild: bool = False) -> None:
        """Brings the index up to date, or rebuilds it, so that nothing deleted stays in it. Only for the one writer.

        Raises CollectionError if that fails; FTS5 answers meanwhile.
        """
        count = self.catalog.counts().chunks
        state = self._state()
        if count < WORTH:
            if state is not None or self._unwritten():
                self._settle(None, self._numbers())
            self._sweep(None)
            return
        anew = rebuild or state is None or compare(self._folder(state), state["seal"], thorough=False) is not None
        if not anew and not self._unwritten():
            return
        try:
            self._write(state, anew)
        except (OSError, ValueError) as error:
            raise CollectionError(
                f"The index of words cannot be written: {error}.", "free some space, check the permissions, run it again"
            ) from error

    def _write(self, state: State | None, anew: bool) -> None:
        before = state["folder"] if state else 0
        new = State(folder=before + 1 if anew else before, seal={})
        folder = self._folder(new)
        if anew:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        numbers = self._numbers()
        self._opened = None
        _Index(folder, create=anew).write(self._texts(None if anew else numbers), [] if anew else numbers)
        new["seal"] = seal(folder)
        self._settle(new, numbers)
        self._sweep(new)

    def _settle(self, state: State | None, numbers: Iterable[int]) -> None:
        """The index equals the catalog for these chunks."""
        with self.catalog.transaction() as db:
            db.executemany("DELETE FROM unwritten WHERE chunk = ?", [(number,) for number in numbers])
            db.execute("INSERT OR REPLACE INTO meta VALUES ('words', ?)", (json.dumps(state),))

    def _sweep(self, state: State | None) -> None:
        kept = self._folder(state) if state else None
        for each in self.catalog.path.parent.glob("words-*"):
            if each != kept:
                shutil.rmtree(each, ignore_errors=True)

    def _numbers(self) -> list[int]:
        return [row[0] for row in self.catalog.db.execute("SELECT chunk FROM unwritten")]

    def _texts(self, numbers: Sequence[int] | None) -> Iterable[tuple[int, int, str]]:
        """Row, source and words of those of these chunks that exist, or of all."""
        query = "SELECT chunks.id, source, head || char(10) || body FROM chunks JOIN words ON words.rowid = chunks.id"
        if numbers is None:
            yield from self.catalog.db.execute(query)
            return
        for number in numbers:
            yield from self.catalog.db.execute(f"{query} WHERE chunks.id = ?", (number,))

    # --- state ------------------------------------------------------------------------------------------------------------

    def _state(self) -> State | None:
        return cast("State | None", self.catalog.meta("words"))

    def _unwritten(self) -> int:
        return int(self.catalog.db.execute("SELECT count(*) FROM unwritten").fetchone()[0])

    def _folder(self, state: State) -> Path:
        return self.catalog.path.parent / f"words-{state['folder']}"


class _Index:
    """tantivy: one field that holds title, headings and text. Raises OSError and ValueError."""

    def __init__(self, folder: Path, create: bool) -> None:
        import tantivy

        self.tantivy = tantivy
        schema = tantivy.SchemaBuilder()
        schema.add_integer_field("chunk", fast=True, indexed=True)
        schema.add_integer_field("source", indexed=True)
        schema.add_text_field("text", tokenizer_name=_TOKENIZER)
        self.index = tantivy.Index(schema.build(), path=str(folder)) if create else tantivy.Index.open(str(folder))
        self.analyzer = self._analyzer()
        self.index.register_tokenizer(_TOKENIZER, self._analyzer())

    def _analyzer(self) -> tantivy.TextAnalyzer:
        found = self.tantivy.TextAnalyzerBuilder(self.tantivy.Tokenizer.simple())
        for each in (self.tantivy.Filter.lowercase(), self.tantivy.Filter.ascii_fold(), self.tantivy.Filter.stemmer("english")):
            found = found.filter(each)
        return found.build()

    def write(self, texts: Iterable[tuple[int, int, str]], gone: Iterable[int]) -> None:
        """Deletes the chunks ``gone`` and adds ``texts``, in one commit."""
        writer = self.index.writer(heap_size=_HEAP, num_threads=1)
        for number in gone:
            writer.delete_documents_by_term("chunk", number)
        for number, source, text in texts:
            writer.add_document(self.tantivy.Document(chunk=number, source=source, text=text))
        writer.commit()
        writer.wait_merging_threads()

    def search(self, terms: Sequence[str], depth: int, allowed: Collection[int] | None) -> Scored:
        query, must = self.tantivy.Query, self.tantivy.Occur.Must
        wanted = query.boolean_query([(self.tantivy.Occur.Should, each) for each in map(self._term, terms) if each])
        if allowed is not None:
            among = query.term_set_query(self.index.schema, "source", list(allowed))
            wanted = query.boolean_query([(must, wanted), (must, query.const_score_query(among, 0.0))])
        searcher = self.index.searcher()
        hits = searcher.search(wanted, depth, count=False).hits
        numbers = cast("list[int]", searcher.fast_field_values("chunk", [address for _, address in hits]))
        return [(number, score) for number, (score, _) in zip(numbers, hits, strict=True)]

    def _term(self, term: str) -> tantivy.Query | None:
        """A word as a query; a phrase if tantivy splits it; None if nothing is left of it."""
        found = self.analyzer.analyze(term.strip('"'))
        if not found:
            return None
        query, schema = self.tantivy.Query, self.index.schema
        return query.term_query(schema, "text", found[0]) if len(found) == 1 else query.phrase_query(schema, "text", [*found])


def seal(folder: Path) -> Seal:
    """Size, modification time and digest of every file except the locks."""
    files = [path for path in sorted(folder.iterdir()) if path.name not in _LOCKS]
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns, digest(path)) for path in files}


def compare(folder: Path, sealed: Mapping[str, Sequence[object]], thorough: bool) -> str | None:
    """The first difference, in words. Digests are taken where the time differs, or of every file if ``thorough``."""
    if found := changed_file(folder, sealed, thorough, "the index of words"):
        return found
    if extra := {path.name for path in folder.iterdir()} - {*sealed, *_LOCKS} if folder.is_dir() else set():
        return f"the index of words has a file that its last writer did not leave: {min(extra)}"
    return None

"""Hybrid search: dense and BM25 candidates, fused scores, near-duplicates collapsed.

Not thread-safe; `Collection.search` batches waiting questions.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from selfrag._util import printable_path
from selfrag.errors import UsageError
from selfrag.index import graph
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.embedders import Embedder
from selfrag.index.search import dedup, fulltext
from selfrag.index.tantivy_index import TantivyIndex
from selfrag.index.vectors.replica import Mirror
from selfrag.types import Graph, Header, Passage

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_QUERY_CHARACTERS = 8000
_KEYS = "SELECT id, key FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
_IDS = "SELECT key, id FROM chunks WHERE key IN (SELECT value FROM json_each(?))"
_PLACE = re.compile(r"(?::\d+(?:-\d+)?| p\.\d+)\Z")

Ranked = list[list[tuple[str, float]]]
"""For each question, chunk keys with their scores, best first."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Convex combination of scores (Bruch et al. 2023): a passage's score is the weighted sum of its dense and BM25 scores.

    Each side gives ``depth`` candidates. Cosines are min-max scaled to [0, 1], BM25 scores divided by the highest; a passage
    missing from a side scores 0 there. ``dense`` and ``bm25`` are the weights; ``head`` and ``body`` weigh the columns of BM25.
    """

    # Chosen on one half of the questions of two collections; on the other half recall@1 is 48.8 and 82.1 %, with reciprocal
    # ranks (k=60) 45.7 and 76.2 (benchmarks/results/fusion.md).

    dense: float = 0.5
    bm25: float = 0.5
    depth: int = 100
    head: float = 0.5
    body: float = 1.0


@dataclass(frozen=True, slots=True)
class Filter:
    """Restricts a search to sources that match a git-style pattern and have every pair of ``where`` in their front matter.

    A pattern matches in any folder, even if it contains a slash; one with a leading slash is an absolute path.
    """

    sources: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, sources: Sequence[str], where: Sequence[str]) -> Filter:
        """From ``key=value`` texts. Raises UsageError for one without ``=``."""
        pairs = [
            (key.strip(), value.strip()) for key, sign, value in (each.partition("=") for each in where) if sign and key.strip()
        ]
        if len(pairs) != len(where):
            raise UsageError(f"--where expects key=value, not {', '.join(each for each in where if '=' not in each)!r}")
        return cls(tuple(sources), tuple(pairs))

    def takes(self, path: str, metadata: Mapping[str, Sequence[str]], spec: GitIgnoreSpec | None) -> bool:
        if spec is not None and not spec.match_file(path.lstrip("/")) and not self._named(path):
            return False
        return all(any(value.casefold() == each.casefold() for each in metadata.get(key, ())) for key, value in self.where)

    def _named(self, path: str) -> bool:
        """Whether a source is named as it is printed, with or without a line or page."""
        shown = (path, printable_path(path))
        return any(source in shown or _PLACE.sub("", source) in shown for source in self.sources)


@dataclass(frozen=True, slots=True)
class Question:
    """``hypotheses`` are generated passages whose vectors are averaged with the question's (HyDE, Gao et al. 2023). ``graph``
    says whether to search the graph of names: always, never, or (auto) if the question has a proper name that the graph knows."""

    text: str
    k: int
    filter: Filter = Filter()
    hypotheses: tuple[str, ...] = ()
    graph: Graph = "off"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and how it was found: its rank on each side, from 1, None where it was not among the candidates.

    ``duplicates`` are near-duplicate passages that were dropped. ``rerank`` is the re-ranker's score.
    """

    passage: Passage
    dense_rank: int | None
    bm25_rank: int | None
    duplicates: tuple[Passage, ...] = ()
    rerank: float | None = None


@dataclass(slots=True)
class Searcher:
    catalog: Catalog
    mirror: Mirror
    embedder: Callable[[], Embedder]
    fusion: Fusion = field(default_factory=Fusion)
    words: TantivyIndex = field(init=False)

    def __post_init__(self) -> None:
        self.words = TantivyIndex(self.catalog)

    def search(self, questions: Sequence[Question]) -> list[list[Hit]]:
        """The best passages for each question, from one consistent state of the catalog."""
        if not self.catalog.db.execute("SELECT 1 FROM chunks LIMIT 1").fetchone():
            return [[] for _ in questions]
        vectors = self._vectors(questions) if self.fusion.dense else None
        with self.mirror.reading(), self.catalog.transaction():
            allowed = [self._allowed(question.filter) for question in questions]
            dense = [[] for _ in questions] if vectors is None else self._dense(vectors, allowed)
            found = [self._one(*each) for each in zip(questions, dense, allowed, strict=True)]
            if vectors is None:
                return found
            return [self._with_cosines(hits, vector) for hits, vector in zip(found, vectors, strict=True)]

    def open(self) -> None:
        """Opens the embedder and the vector store."""
        if self.fusion.dense and self.catalog.db.execute("SELECT 1 FROM chunks LIMIT 1").fetchone():
            self.embedder()
            with self.mirror.reading():
                self.mirror.warm()

    def neighbours(self, key: str, before: int, after: int) -> list[Passage]:
        """The chunk ``key`` with the chunks before and after it in its source."""
        with self.catalog.transaction() as db:
            rows = db.execute(
                "SELECT other.key FROM chunks AS this JOIN chunks AS other ON other.source = this.source"
                " AND other.ordinal BETWEEN this.ordinal - ? AND this.ordinal + ? WHERE this.key = ? ORDER BY other.ordinal",
                (before, after, key),
            )
            return passages(self.catalog, [row[0] for row in rows])

    def of_source(self, path: str) -> list[Passage]:
        """Every chunk of the source at ``path``, in order."""
        with self.catalog.transaction() as db:
            query = "SELECT key FROM chunks JOIN sources ON sources.id = chunks.source WHERE path = ? ORDER BY ordinal"
            return passages(self.catalog, [row[0] for row in db.execute(query, (path,))])

    def drawn(self, count: int, seed: str) -> list[Passage]:
        """``count`` chunks at random, fewer where there are not so many; the same ones for the same ``seed``."""
        source = random.Random(seed)
        with self.catalog.transaction() as db:
            (every,) = db.execute("SELECT count(*) FROM chunks").fetchone()
            keys: dict[str, None] = {}
            while len(keys) < min(count, every):
                # Keys are digests, so the next one after a random key is a random chunk.
                after = f"{source.getrandbits(128):032x}"
                row = db.execute("SELECT key FROM chunks WHERE key > ? ORDER BY key LIMIT 1", (after,)).fetchone()
                keys.update(dict.fromkeys(row or db.execute("SELECT min(key) FROM chunks").fetchone()))
            return passages(self.catalog, list(keys))

    # --- the two sides ----------------------------------------------------------------------------------------------------

    def _dense(self, vectors: NDArray[np.float32], allowed: Sequence[frozenset[int] | None]) -> Ranked:
        found: Ranked = [[] for _ in allowed]
        free = [at for at, sources in enumerate(allowed) if sources is None]
        if free:
            for at, hits in zip(free, self.mirror.query(vectors[free], self.fusion.depth), strict=True):
                found[at] = hits
        for at, sources in enumerate(allowed):
            if sources is not None:
                found[at] = self.mirror.exact.nearest(vectors[at : at + 1], self.fusion.depth, sources)[0]
        return found

    def _vectors(self, questions: Sequence[Question]) -> NDArray[np.float32]:
        embedder = self.embedder()
        vectors = embedder.queries([question.text[:_QUERY_CHARACTERS] for question in questions])
        for at, question in enumerate(questions):
            if question.hypotheses:
                mean = np.vstack([vectors[at : at + 1], embedder.documents(list(question.hypotheses))]).mean(axis=0)
                vectors[at] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return vectors

    def _bm25(self, question: Question, allowed: frozenset[int] | None) -> list[tuple[str, float]]:
        """The chunks with the best BM25 scores: from the index of words if there is one, else from FTS5, exact to 1e-5.

        A word that more than half of all chunks contain adds only a millionth to a score (FTS5's minimum weight), but makes FTS5
        score all of them. So such words are used only if the others do not match enough chunks.
        """
        terms = fulltext.terms(question.text)
        if not terms or self.fusion.bm25 == 0:
            return []
        quick = self.words.search(terms, self.fusion.depth, allowed)
        if quick is not None:
            keys = dict(self.catalog.db.execute(_KEYS, (json.dumps([number for number, _ in quick]),)))
            return sorted(((keys[number], score) for number, score in quick), key=lambda hit: (-hit[1], hit[0]))
        telling = self._telling(terms)
        found = self._scored(telling, allowed) if telling else []
        return found if len(found) >= self.fusion.depth or telling == terms else self._scored(terms, allowed)

    def _telling(self, terms: Sequence[str]) -> list[str]:
        """Those that at most half of all chunks contain."""
        db = self.catalog.db
        half = db.execute("SELECT count(*) FROM chunks").fetchone()[0] / 2  # of words it would read every row
        held = "SELECT count(*) FROM words WHERE words MATCH ?"
        return [term for term in terms if db.execute(held, (term,)).fetchone()[0] <= half]

    def _scored(self, terms: Sequence[str], allowed: frozenset[int] | None) -> list[tuple[str, float]]:
        among = "SELECT id FROM chunks WHERE source IN (SELECT value FROM json_each(:allowed))"
        rows = self.catalog.db.execute(
            "SELECT key, cost FROM (SELECT rowid AS id, bm25(words, :head, :body) AS cost FROM words WHERE words MATCH :match"
            f"{'' if allowed is None else f' AND rowid IN ({among})'} ORDER BY cost LIMIT :depth)"
            " JOIN chunks USING (id) ORDER BY cost, key",
            {
                "match": " OR ".join(terms),
                "head": self.fusion.head,
                "body": self.fusion.body,
                "depth": self.fusion.depth,
                "allowed": json.dumps(sorted(allowed or ())),
            },
        )
        return [(key, -cost) for key, cost in rows]

    def _allowed(self, wanted: Filter) -> frozenset[int] | None:
        if wanted == Filter():
            return None
        from pathspec import GitIgnoreSpec

        spec = GitIgnoreSpec.from_lines(map(_anywhere, wanted.sources)) if wanted.sources else None
        rows = self.catalog.db.execute("SELECT id, path, metadata FROM sources")
        return frozenset(number for number, path, metadata in rows if wanted.takes(path, json.loads(metadata), spec))

    # --- together ---------------------------------------------------------------------------------------------------------

    def _one(self, question: Question, dense: list[tuple[str, float]], allowed: frozenset[int] | None) -> list[Hit]:
        bm25 = self._bm25(question, allowed)
        cosine, points = dict(dense), dict(bm25)

        def ordered(scores: dict[str, float]) -> list[str]:
            # The best of each side score the same where the sides have nothing in common: then what has the words comes first.
            return sorted(scores, key=lambda key: (-scores[key], key not in points, key))

        scores = fuse(self.fusion, dense, bm25)
        order = ordered(scores)
        if question.graph != "off":
            scores = self._walked(question, scores, order, allowed)
            first = order[: graph.KEPT]
            order = [*first, *(key for key in ordered(scores) if key not in first)]
        ranks = [{key: rank for rank, (key, _) in enumerate(side, 1)} for side in (dense, bm25)]
        hits = [
            Hit(
                replace(each, score=scores[each.chunk], dense=cosine.get(each.chunk), bm25=points.get(each.chunk)),
                ranks[0].get(each.chunk),
                ranks[1].get(each.chunk),
            )
            for each in passages(self.catalog, order[: 4 * question.k + 10])
        ]
        return collapse(hits, question.k)

    def _with_cosines(self, hits: list[Hit], vector: NDArray[np.float32]) -> list[Hit]:
        """The hits; those that BM25 or the graph alone found get their cosine, too."""
        missing = self.catalog.vectors([hit.passage.chunk for hit in hits if hit.passage.dense is None])
        cosines = {key: float(np.frombuffer(stored, "<f4") @ vector) for key, stored in missing}
        return [
            replace(hit, passage=replace(hit.passage, dense=cosines[hit.passage.chunk])) if hit.passage.chunk in cosines else hit
            for hit in hits
        ]

    def _walked(
        self, question: Question, scores: dict[str, float], order: Sequence[str], allowed: frozenset[int] | None
    ) -> dict[str, float]:
        """The scores, from 0 to 1, including the passages found in the graph of names. The first `graph.KEPT` of ``order`` keep
        their scores; for the others, a passage's own score and that of the walk from the first passages are added."""
        db = self.catalog.db
        if not order or not graph.exists(db):
            return scores
        if question.graph == "auto" and not graph.knows(db, question.text):
            return scores
        numbers = db.execute(_IDS, (json.dumps(order[: graph.SEEDS]),))
        reached = graph.walk(db, {number: scores[key] for key, number in numbers}, allowed)
        keys = dict(db.execute(_KEYS, (json.dumps([*reached]),)))
        visits = {keys[number]: visited for number, visited in reached.items()}
        kept = {key: scores[key] for key in order[: graph.KEPT]}
        rest = {
            key: scores.get(key, 0.0) + graph.WEIGHT * visits.get(key, 0.0)
            for key in scores.keys() | visits.keys()
            if key not in kept
        }
        # The best of the rest has the score that stood at its place: scores still compare with those of other collections.
        place = scores[order[min(graph.KEPT, len(order) - 1)]]
        most = max(rest.values(), default=0.0) or 1.0
        return kept | {key: place * score / most for key, score in rest.items()}


def _anywhere(pattern: str) -> str:
    """A git-style pattern without a leading slash, rewritten to match in any folder."""
    sign, path = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return pattern if path.startswith("/") else f"{sign}**/{path}"


def fuse(fusion: Fusion, dense: Sequence[tuple[str, float]], bm25: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The fused score of every candidate, from 0 to 1; each side is given best first."""
    scores: dict[str, float] = {}
    for weight, ranked, lowest in ((fusion.dense, dense, dense[-1:]), (fusion.bm25, bm25, ())):
        low = next((score for _, score in lowest), 0.0)
        span = next((score for _, score in ranked), 0.0) - low
        for key, score in ranked:
            scores[key] = scores.get(key, 0.0) + weight * ((score - low) / span if span > 0 else 1.0)
    return scores


def collapse(hits: Sequence[Hit], k: int) -> list[Hit]:
    """The first ``k`` of ``hits`` that do not nearly duplicate a better hit; that hit records its duplicates."""
    kept: list[Hit] = []
    seen: list[frozenset[tuple[str, ...]]] = []
    for hit in hits:
        mine = dedup.shingles(hit.passage.text)
        twin = next((at for at, other in enumerate(seen) if dedup.near_duplicates(mine, other)), None)
        if twin is not None:
            kept[twin] = replace(kept[twin], duplicates=(*kept[twin].duplicates, hit.passage))
        elif len(kept) < k:
            kept.append(hit)
            seen.append(mine)
        else:
            break
    return kept


def passages(catalog: Catalog, keys: Sequence[str]) -> list[Passage]:
    """The existing chunks of these keys, in order, as passages without a score."""
    rows = catalog.db.execute(
        f"SELECT key, text, first_line, last_line, page, place, path, title, {catalog.headers} FROM chunks"
        " JOIN sources ON sources.id = chunks.source"
        " WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps(list(keys)),),
    )
    found = {
        key: Passage(
            key,
            title,
            text,
            path,
            None if first is None else (first, last),
            page,
            place,
            headers=tuple(Header(*each) for each in json.loads(headers)) if headers else (),
        )
        for key, text, first, last, page, place, path, title, headers in rows
    }
    return [found[key] for key in keys if key in found]

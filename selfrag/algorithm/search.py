"""The Self-RAG loop (Asai et al. 2023, Algorithm 1): decide, retrieve, write, critique, keep the best.

A beam over segments. At each step every live path is expanded over its passages, and the best of all candidates, finished answers
included, are kept. The short form of the paper is the same loop with one segment. Candidates that provably cannot be kept are not
written (branch and bound), which does not change the answer. Uses reflectors and retrievers only through their protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from selfrag import prompts
from selfrag.algorithm import correction, reflection, second_look
from selfrag.algorithm.beam import Candidate, Path, Pool, cite, text_of
from selfrag.algorithm.joined import additions, joinable, joined, sides, told_of_sides, unsaid
from selfrag.algorithm.meter import CountingEngine, Stopwatch
from selfrag.algorithm.reflection import path_score
from selfrag.algorithm.sentences import completed, leads, points
from selfrag.algorithm.tasks import together
from selfrag.types import (
    Answer,
    Corrected,
    Critique,
    Decided,
    Decision,
    Event,
    Expanded,
    Joined,
    Message,
    Observer,
    Opened,
    Opening,
    Passage,
    Pruned,
    Reconsidered,
    Reflector,
    Request,
    Retrieved,
    Retriever,
    SearchOptions,
    Segment,
    Selected,
    Timing,
    Wrote,
)

QUERY_TOKENS = 60


class Search:
    """The state of one question."""

    def __init__(
        self,
        reflector: Reflector,
        retriever: Retriever | None,
        options: SearchOptions,
        question: str,
        instruction: str | None,
        observer: Observer | None,
        wider: Retriever | None = None,
    ) -> None:
        self.meter = CountingEngine(reflector.engine)
        self.reflector = reflector.using(self.meter)
        self.retriever, self.wider = retriever, wider
        # A wording of the caller's says itself how much to answer ("in a few words").
        self.options = replace(options, join_isuse=1.0) if instruction else options
        self.question = question
        self.instruction = instruction or worded(question, options.choices)
        self.tell: Callable[[Event], None] = observer or (lambda _: None)
        self.retrieving, self.clock = Stopwatch(), Stopwatch()
        self.ids = 0
        self.root = Path(self.next_id())
        self.decision = Decision("retrieve")
        self.nearest: tuple[tuple[Critique, Passage], ...] = ()
        self.expanded = self.pruned = 0
        self.firsts: list[Path] = []  # what was written as the first segment

    async def run(self) -> Answer:
        with self.clock.running():
            paths = await self.paths()
            answer, warnings = await self.joined(self.chosen(paths)), []
        if not answer.segments and not self.nearest and self.decision.action == "retrieve":
            warnings.append("no passage was found for the question")
        if self.meter.stated:
            warnings.append("the server gives no probabilities: critiques are what the model states, each counted as certain")
        elif not self.meter.every_exact:
            warnings.append("the engine reports only the likeliest tokens: missing probabilities count as zero")
        return self.answer(answer, tuple(warnings))

    # --- Algorithm 1 -----------------------------------------------------------------------------------------------------------

    async def paths(self) -> list[Path]:
        """The paths after the last step, best first, all finished."""
        steps = 1 if self.options.choices else self.options.max_segments
        kept = [self.root]
        for step in range(steps):
            live = [p for p in kept if not p.finished]
            if not live:
                break
            last = step + 1 == steps
            pool = Pool(self.width(last), finished=(p for p in kept if p.finished))
            candidates = await self.candidates(step, live)
            if step == 0 and candidates and not (candidates := self.relevant(candidates)):
                return []
            await self.write(step, candidates, pool, last)
            for path in live:
                if path.segments and not pool.continues(path):  # no candidate extends it: the answer ends here
                    pool.add(replace(path, finished=True), path)
            if step == 0:
                await self.reconsider(pool)
            kept = pool.best()
            self.tell(Selected(step, tuple(p.id for p in kept), tuple(p.score for p in kept)))
        return kept

    def width(self, last: bool) -> int | None:
        """How many paths a step keeps: after the last one only the best counts; a vote needs them all."""
        if self.options.choices:
            return None
        return 1 if last else self.options.beam_width

    async def candidates(self, step: int, live: Sequence[Path]) -> list[Candidate]:
        """Every live path paired with every passage that may extend it, in order of path and passage, ISREL read."""
        wanted = await together(self.expand(step, path) for path in live)
        pairs = [(path, passage, carry) for path, (passages, carry) in zip(live, wanted, strict=True) for passage in passages]
        candidates = await self.opened(step, pairs, 0)
        if step == 0:
            if self.options.correct and self.decision.action == "retrieve":
                candidates += await self.correct(live[0], candidates)
            found = [(c.opening.critique, c.opening.passage) for c in candidates]
            self.nearest = tuple((critique, passage) for critique, passage in found if passage)
        return candidates

    async def opened(self, step: int, pairs: Sequence[tuple[Path, Passage | None, bool]], first: int) -> list[Candidate]:
        """Candidates for ``pairs``, with their ISREL; ``first`` is the index of the first among those of its step."""
        openings = await together(self.open(path, passage, carry) for path, passage, carry in pairs)
        candidates = [Candidate(self.next_id(), pairs[i][0], opening, first + i) for i, opening in enumerate(openings)]
        for c in candidates:
            self.tell(Opened(step, c.parent.id, c.id, c.opening.passage, c.opening.critique))
        return candidates

    async def correct(self, path: Path, candidates: Sequence[Candidate]) -> list[Candidate]:
        """More candidates for the first segment: while no passage is relevant enough, searches again with other queries, then
        also with the wider retriever."""
        more: list[Candidate] = []
        for number in range(1, correction.ROUNDS + 1):
            read = sorted((*candidates, *more), key=lambda c: -c.opening.critique.isrel)
            relevances = [c.opening.critique.isrel for c in read]
            standing = correction.standing(relevances, self.options.abstain_isrel, self.options.found_isrel)
            if standing == "found":
                break
            query = await self.reworded(number, [c.opening.passage for c in read if c.opening.passage])
            if self.wider and self.retriever is not self.wider:
                self.retriever, query = self.wider, query or self.question
            if query is None or self.retriever is None:
                continue
            seen = {c.opening.passage.chunk for c in read if c.opening.passage}
            found = await self.retrieve(query, 2 * self.options.k)
            fresh = tuple(passage for passage in found if passage.chunk not in seen)
            best = max(relevances, default=0.0)
            self.tell(Corrected(0, path.id, number, standing, best, query, fresh, self.retriever.name))
            more += await self.opened(0, [(path, passage, False) for passage in fresh], len(read))
        return more

    async def reworded(self, number: int, passages: Sequence[Passage]) -> str | None:
        """The query of round ``number``: the first one by the model if it follows instructions, otherwise by rule."""
        if number == 1 and self.reflector.kind == "prompted":
            asked = Message("user", prompts.load("rewrite").render(question=self.question).strip())
            completion = await self.reflector.engine.complete(Request((asked,), QUERY_TOKENS))
            said = correction.query_of("".join(token.text for token in completion.tokens), self.question)
            if said is not None:
                return said
        return correction.rewritten(self.question, passages, number)

    async def reconsider(self, pool: Pool) -> None:
        """If the best first segment has a low utility, sentences of the most relevant passages become candidates, too.

        Judging an existing sentence takes a fraction of the time of writing one. Only the best sentence of each passage counts.
        """
        best = next(iter(pool.best()), None)
        if not best or not best.passage or self.options.choices:
            return
        if (isuse := best.segments[0].critique.isuse) >= self.options.reconsider_isuse:
            return
        read = second_look.relevant(self.nearest, self.options.abstain_isrel)
        judged = await together(
            second_look.judged(self.reflector, self.instruction, replace(critique, sequence=1.0), passage)
            for critique, passage in read
        )
        self.tell(Reconsidered(0, self.root.id, isuse, sum(map(len, judged))))
        for (critique, passage), sentences in zip(read, judged, strict=True):
            if sentences:
                self.quote(pool, Opening(passage, critique), max(sentences, key=self.score))

    def quote(self, pool: Pool, opening: Opening, segment: Segment) -> None:
        """Adds a sentence of a passage to ``pool`` as a complete answer."""
        candidate = Candidate(self.next_id(), self.root, opening, self.ids)
        self.tell(Opened(0, self.root.id, candidate.id, opening.passage, opening.critique))
        self.put(0, candidate, segment, pool, last=True)

    async def expand(self, step: int, path: Path) -> tuple[list[Passage | None], bool]:
        """The passages to try for the next segment (None: no passage), and whether they were retrieved before."""
        decision = await self.decide(path)
        if step == 0:
            self.decision = decision
        self.tell(Decided(step, path.id, decision))
        if decision.action == "continue":
            return [path.passage], True
        if decision.action == "none":
            return [None], False
        query = f"{self.question} {path.segments[-1].text}" if path.segments else self.question
        passages = await self.retrieve(query, self.options.k)
        self.tell(Retrieved(step, path.id, query, tuple(passages)))
        return list(passages), False

    async def decide(self, path: Path) -> Decision:
        """A comparison always retrieves: models often take it for a task that needs no evidence."""
        if self.options.mode == "never":
            return Decision("none")
        if self.options.mode == "always" or (sides(self.question) and not path.segments):
            return Decision("retrieve")
        return await self.reflector.decide(self.instruction, path.segments, self.options.threshold)

    async def retrieve(self, query: str, k: int) -> list[Passage]:
        if self.retriever is None:
            return []
        with self.retrieving.running():
            return await self.retriever.search(query, k)

    async def open(self, path: Path, passage: Passage | None, carry: bool) -> Opening:
        """The reflector's opening of the passage, with the scores of the passage's search."""
        opening = await self.reflector.open(self.instruction, path.segments, passage, carry)
        if passage is None or carry:
            return opening
        found = min(1.0, max(0.0, passage.score))
        return replace(opening, critique=replace(opening.critique, retrieval=found, similarity=passage.dense))

    # --- branch and bound ------------------------------------------------------------------------------------------------------

    def relevant(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates whose passage is relevant enough for the first segment. The others are given up: the search would
        abstain from an answer that begins with one. A vote counts all, unless it would abstain anyway."""
        strays = [c for c in candidates if reflection.strays(c.opening.critique, self.options)]
        if self.options.choices and len(strays) < len(candidates):
            return list(candidates)
        for c in strays:
            self.tell(Pruned(0, c.parent.id, c.id, c.opening.passage, "irrelevant"))
        self.pruned += len(strays)
        return [c for c in candidates if c not in strays]

    async def write(self, step: int, candidates: Sequence[Candidate], pool: Pool, last: bool) -> None:
        """Writes the candidates into ``pool``: the promising ones at once, then the others that can still be kept."""
        order = sorted(candidates, key=lambda c: (-self.bound(c, c.opening.critique, 1.0), c.order))
        first = self.promising(order, pool.width) if self.options.prune and pool.width else len(order)
        for wave in (order[:first], order[first:]):
            await together(self.extend(step, c, pool, last) for c in wave)

    def promising(self, order: Sequence[Candidate], width: int) -> int:
        """How many of the first in ``order`` to write at once. Every round takes time, so a candidate waits only if the ones
        before it will probably exclude it. This estimate affects the time, never the answer."""
        expected = sorted((self.expected(candidate) for candidate in order), reverse=True)
        if len(order) <= width:
            return len(order)
        needed = expected[width - 1]
        return max(width, sum(self.bound(c, c.opening.critique, 1.0) >= needed for c in order))

    def expected(self, candidate: Candidate) -> float:
        """An estimate of the path's score with this candidate."""
        return path_score((*candidate.parent.scores, reflection.expected_score(candidate.opening.critique, self.options.weights)))

    async def extend(self, step: int, candidate: Candidate, pool: Pool, last: bool) -> None:
        """Writes one candidate, or gives it up once its bound is strictly below the score that it needs."""
        parent, passage = candidate.parent, candidate.opening.passage
        given_up: list[Pruned] = []
        words: list[str] = []

        def alive(critique: Critique, sequence: float, text: str) -> bool:
            if text:
                words.append(text)
                self.tell(Wrote(candidate.id, text))
            if passage and self.says_nothing("".join(words)):  # what takes its place is judged when it is written
                critique = candidate.opening.critique
            bound, needed = self.bound(candidate, critique, sequence), pool.needed()
            if bound >= needed or not self.may_prune(parent, pool):
                return True
            when: Literal["while writing", "before writing"] = "while writing" if words else "before writing"
            given_up.append(Pruned(step, parent.id, candidate.id, passage, when, bound, needed))
            return False

        segment = await self.reflector.extend(self.instruction, parent.segments, candidate.opening, alive)
        if segment is None:
            self.pruned += 1
            self.tell(given_up[-1])
            return
        self.put(step, candidate, await self.completed(segment), pool, last)

    def put(self, step: int, candidate: Candidate, segment: Segment, pool: Pool, last: bool) -> None:
        """Adds a completed candidate to ``pool``, unless it violates the support constraint."""
        parent, score = candidate.parent, self.score(segment)
        path = parent.grown(candidate.id, candidate.order, segment, score, last)
        self.expanded += 1
        self.tell(Expanded(step, parent.id, candidate.id, segment, path.score))
        if not reflection.supported(segment.critique, self.options.require_support):
            self.tell(Pruned(step, parent.id, candidate.id, candidate.opening.passage, "unsupported"))
            return
        pool.add(path, parent)
        if step == 0:
            self.firsts.append(path)

    def says_nothing(self, text: str) -> bool:
        """Whether ``text`` only leads to what follows or sends the reader elsewhere, where that was not the question."""
        return leads(text) or (points(text) and not self.question.casefold().startswith("where"))

    async def completed(self, segment: Segment) -> Segment:
        """The segment; one that only introduces a list or code of its passage gets that added, and is judged with it. In place of
        one that only sends the reader elsewhere, the best sentence of its passage."""
        if segment.passage is None or self.options.choices:
            return segment
        if not leads(segment.text) and self.says_nothing(segment.text):
            others = await second_look.judged(self.reflector, self.instruction, segment.critique, segment.passage)
            return max((replace(segment, text=s.text, critique=s.critique) for s in others), key=self.score, default=segment)
        text = completed(segment.text, segment.passage.text)
        if text == segment.text:
            return segment
        critique = await self.reflector.judge(self.instruction, segment.passage, text)
        return replace(segment, text=text, critique=second_look.judged_again(segment.critique, critique))

    def may_prune(self, parent: Path, pool: Pool) -> bool:
        """Under the hard constraint, an answer ends with ``parent`` if all its candidates fail; so until one passes, each of them
        matters regardless of its score."""
        free = self.options.require_support is None or not parent.segments
        return self.options.prune and (free or pool.continues(parent))

    def bound(self, candidate: Candidate, critique: Critique, sequence: float) -> float:
        """The upper bound of the path's score with this candidate; the path may also end unchanged, if the candidate adds
        nothing."""
        parent = candidate.parent
        grown = path_score((*parent.scores, reflection.score_bound(critique, self.options.weights, sequence)))
        return max(grown, parent.score) if parent.segments else grown

    def score(self, segment: Segment) -> float:
        return reflection.segment_score(segment.critique, self.options.weights)

    # --- the answer ------------------------------------------------------------------------------------------------------------

    def chosen(self, paths: Sequence[Path]) -> Path:
        """The best finished path; for a closed set of answers, the best path of the answer with the largest sum of scores."""
        if not paths or not self.options.choices:
            return paths[0] if paths else Path(self.next_id())
        named = [(as_choice(p.segments[0].text if p.segments else "", self.options.choices), p) for p in paths]
        valid = [(name, p) for name, p in named if name in self.options.choices] or named
        in_order = sorted(valid, key=lambda pair: pair[1].order)
        totals = reflection.vote((name, p.score) for name, p in in_order)
        winner = max(totals, key=lambda name: totals[name])
        path = next(p for name, p in valid if name == winner)
        return replace(path, segments=(replace(path.segments[0], text=winner),)) if path.segments else path

    async def joined(self, best: Path) -> Path:
        """The answer with what other passages add to it, and the searches for the sides of a question with two."""
        more = additions(best, self.firsts, self.question, self.options)
        if self.options.mode != "never" and joinable(best, self.question, self.options):
            found = {side: await self.side(side) for side in unsaid(self.question, (best, *more))}
            more += told_of_sides((best, *more), found, self.question, self.options)
        if more:
            self.tell(Joined(0, best.id, tuple(path.id for path in more)))
        return joined(best, more)

    async def side(self, question: str) -> Path:
        """The best path of a search for ``question``, with a root of its own; it has no segments where nothing was written."""
        options = replace(self.options, mode="always", max_segments=1, join_isuse=1.0)
        other = Search(self.reflector, self.retriever, options, question, None, self.tell_of_side)
        other.root, other.ids, other.retrieving = Path(self.next_id()), self.ids, self.retrieving
        best = other.chosen(await other.paths())
        self.ids, self.expanded, self.pruned = other.ids, self.expanded + other.expanded, self.pruned + other.pruned
        return best

    def tell_of_side(self, event: Event) -> None:
        """What is decided and kept there decides nothing here."""
        if not isinstance(event, Decided | Selected | Reconsidered):
            self.tell(event)

    def answer(self, path: Path, warnings: tuple[str, ...]) -> Answer:
        cited, evidence = cite(path)
        text = text_of(cited)
        abstained = not text or reflection.doubtful(path.segments, self.options)
        if abstained and not evidence:
            evidence = tuple(passage for _, passage in sorted(self.nearest, key=lambda pair: -pair[0].isrel))
        return Answer(
            question=self.question,
            status="abstained" if abstained else "answered",
            text="" if abstained else text,
            segments=cited,
            evidence=evidence,
            options=self.options,
            decision=self.decision,
            expanded=self.expanded,
            pruned=self.pruned,
            exact=self.meter.every_exact,
            reflection=self.reflector.kind,
            model=self.meter.model,
            engine=self.meter.name,
            collection=self.retriever.name if self.retriever else "",
            usage=self.meter.usage,
            timing=Timing(self.retrieving.milliseconds, self.meter.watch.milliseconds, self.clock.milliseconds),
            score=path.score,
            confidence=reflection.confidence(path.segments, self.options.confidence),
            warnings=warnings,
        )

    def next_id(self) -> int:
        self.ids += 1
        return self.ids - 1


def as_choice(text: str, choices: Sequence[str]) -> str:
    """The choice that ``text`` matches, ignoring case and a final period; otherwise ``text`` itself, stripped."""
    plain = text.strip().removesuffix(".").casefold()
    return next((choice for choice in choices if choice.strip().casefold() == plain), text.strip())


def worded(question: str, choices: Sequence[str]) -> str:
    return prompts.load("selfrag/choices").render(question=question, choices="\n".join(choices)) if choices else question

"""Reflection by the model's own tokens: one generation writes a segment and its critique.

Independent of how the search uses the result; `algorithm.grammar` defines the order of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from selfrag.algorithm import reflection
from selfrag.algorithm.grammar import lead_in, prompt, replayed
from selfrag.algorithm.reflection import IRRELEVANT, ISREL, ISSUP, ISUSE, JUDGEMENTS, RELEVANT, RETRIEVE, LogProbs
from selfrag.types import (
    Alive,
    Completion,
    Control,
    Critique,
    Decision,
    Engine,
    Opening,
    Passage,
    Prompt,
    ReflectionKind,
    Request,
    Segment,
    Text,
    Token,
)

STOP = frozenset((*RETRIEVE, *ISUSE))


@dataclass(frozen=True)
class TokenReflector:
    """Reads every critique as probabilities of the model's own reflection tokens.

    ``max_tokens`` limits a segment. ``temperatures`` and ``biases`` map a group ("Retrieve", "ISREL", "ISSUP", "ISUSE") to the
    temperature (> 0) and the bias (in log-odds) that calibrate it; other groups are not changed. From a passage whose ISREL is at
    least ``relevant_above`` (0 to 1) the model writes after `[Relevant]`, even if `[Irrelevant]` is likelier: a threshold for a
    model that is too strict, like the one for Retrieve. 0 leaves the choice to the model.
    """

    engine: Engine
    max_tokens: int = 100
    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    relevant_above: float = 0.0
    kind: ReflectionKind = "tokens"

    def using(self, engine: Engine) -> TokenReflector:
        return replace(self, engine=engine)

    def describe(self) -> dict[str, object]:
        scaling = {"temperatures": dict(self.temperatures), "biases": dict(self.biases)}
        return {"reflection": self.kind, **scaling, "relevant_above": self.relevant_above}

    async def decide(self, instruction: str, path: Sequence[Segment], threshold: float) -> Decision:
        """Costs nothing after a segment, whose last position already has it; one position at the start."""
        if path:
            return reflection.decide(path[-1].after, threshold, has_evidence=path[-1].passage is not None)
        first = await self._watched(prompt(instruction, path), RETRIEVE)
        return reflection.decide(first, threshold, has_evidence=False)

    async def open(self, instruction: str, path: Sequence[Segment], passage: Passage | None, carry: bool) -> Opening:
        if passage is None or carry:
            return Opening(passage, Critique(), carry)
        first = await self._first(prompt(instruction, path, *lead_in(passage, carry)), JUDGEMENTS)
        if not first.tokens:
            return Opening(passage, Critique(), carry, ended=True)
        token, ended = first.tokens[0], first.finish != "length"
        if not reflection.reports(token.watched, ISREL):
            return Opening(passage, Critique(), carry, token, ended)
        judged, rel = {"ISREL": reflection.distribution(token.watched, ISREL)}, reflection.isrel(token.watched)
        if token.control == IRRELEVANT and 0 < self.relevant_above <= rel:
            token = replace(token, control=RELEVANT, logprob=token.watched[RELEVANT])
        return Opening(passage, Critique(rel, distributions=judged), carry, token, ended)

    async def extend(self, instruction: str, path: Sequence[Segment], opening: Opening, alive: Alive) -> Segment | None:
        """Continues from the opening's first token, so that with a prefix cache the passage is prefilled only once."""
        draft = Draft(opening, self.max_tokens + 1)
        if not alive(opening.critique, 1.0, ""):
            return None
        if opening.ended:
            return draft.segment(finished=True)

        def on_token(token: Token) -> bool:
            draft.add(self._calibrated(token))
            return alive(draft.critique, draft.sequence_bound, token.text)

        before = prompt(instruction, path, *lead_in(opening.passage, opening.carry), *replayed(draft.tokens))
        completion = await self.engine.complete(Request(before, self.max_tokens, STOP, JUDGEMENTS), on_token)
        if completion.finish == "cancelled":
            return None
        return draft.segment(finished=not draft.tokens or draft.tokens[-1].control not in RETRIEVE)

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique:
        """ISSUP and ISUSE of a given ``answer``: two positions. `open` reads ISREL."""
        given = (*lead_in(passage, carry=False), Control(RELEVANT), Text(answer))
        support = await self._watched(prompt(instruction, (), *given), ISSUP)
        verdict = max(ISSUP, key=lambda token: support.get(token, reflection.ABSENT))
        use = await self._watched(prompt(instruction, (), *given, Control(verdict)), ISUSE)
        found: dict[str, Mapping[str, float]] = {}
        if reflection.reports(support, ISSUP):
            found["ISSUP"] = reflection.distribution(support, ISSUP)
        if reflection.reports(use, ISUSE):
            found["ISUSE"] = reflection.distribution(use, ISUSE)
        sup = reflection.issup(support) if "ISSUP" in found else 0.0
        return Critique(issup=sup, isuse=reflection.isuse(use) if "ISUSE" in found else 0.0, distributions=found)

    async def _watched(self, before: Prompt, watch: tuple[str, ...]) -> LogProbs:
        first = await self._first(before, watch)
        return first.tokens[0].watched if first.tokens else {}

    async def _first(self, before: Prompt, watch: tuple[str, ...]) -> Completion:
        done = await self.engine.complete(Request(before, 1, STOP, watch))
        return replace(done, tokens=tuple(map(self._calibrated, done.tokens)))

    def _calibrated(self, token: Token) -> Token:
        return reflection.temper(token, self.temperatures, self.biases)


class Draft:
    """A segment while it is generated: its tokens, its critique so far, and the bound of its sequence term."""

    def __init__(self, opening: Opening, limit: int) -> None:
        self.opening, self.limit = opening, limit
        self.tokens = [opening.token] if opening.token else []
        self.critique = opening.critique
        self._logprob = sum(token.logprob for token in self.tokens)

    def add(self, token: Token) -> None:
        self.tokens.append(token)
        self._logprob += token.logprob
        if token.control is not None:  # words do not change a critique
            self.critique = reflection.critique(self.tokens, self.opening.critique)

    @property
    def sequence_bound(self) -> float:
        return reflection.sequence_bound(self._logprob, self.limit)

    def segment(self, finished: bool) -> Segment:
        kept = tuple(self.tokens if finished else self.tokens[:-1])
        return Segment(
            text=reflection.text_of(kept),
            passage=self.opening.passage,
            critique=reflection.critique(kept, self.opening.critique),
            carry=self.opening.carry,
            tokens=kept,
            finished=finished,
            after={} if finished else self.tokens[-1].watched,
        )

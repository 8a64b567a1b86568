"""Two ways to put the same questions to a model: by its own reflection tokens, or by prompts whose choices are read.

Both return probabilities, so that one table compares them. What runs the model is any engine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from selfrag.algorithm.reflection import (
    END_PARAGRAPH,
    ISREL,
    ISSUP,
    ISUSE,
    PARAGRAPH,
    RELEVANT,
    RETRIEVAL,
    RETRIEVE,
    distribution,
    first_of,
    isrel,
    issup,
    isuse,
    p_retrieve,
    text_of,
)
from selfrag.types import Control, Engine, Message, Part, Request, Text


@dataclass(frozen=True, slots=True)
class Evidence:
    """A question and a passage that may answer it."""

    question: str
    title: str
    passage: str


@dataclass(frozen=True, slots=True)
class Written:
    """An answer with what the model thinks of it: ISREL and ISSUP in [0, 1], ISUSE in [-1, 1]; None where it says nothing.

    It is written whether or not ISREL is high: abstaining is the business of a threshold.
    """

    text: str
    isrel: float
    issup: float | None
    isuse: float | None


class Judge(Protocol):
    """``support`` gives the probabilities of Fully, Partially and No support, in this order, summing to 1."""

    @property
    def name(self) -> str: ...

    async def retrieve(self, question: str) -> float: ...

    async def relevance(self, evidence: Evidence) -> float: ...

    async def support(self, evidence: Evidence, claim: str) -> Sequence[float]: ...

    async def utility(self, evidence: Evidence, answer: str) -> float: ...

    async def answer(self, evidence: Evidence) -> Written: ...


@dataclass(frozen=True, slots=True)
class TokenJudge:
    """Reads the model's own reflection tokens."""

    engine: Engine
    name: str = "reflection tokens"

    async def retrieve(self, question: str) -> float:
        return p_retrieve(await self._after(_instruction(question), RETRIEVE))

    async def relevance(self, evidence: Evidence) -> float:
        return isrel(await self._after(_evidence(evidence), ISREL))

    async def support(self, evidence: Evidence, claim: str) -> Sequence[float]:
        said = await self._after((*_evidence(evidence), Control(RELEVANT), Text(claim)), ISSUP)
        return tuple(distribution(said, ISSUP).values())

    async def utility(self, evidence: Evidence, answer: str) -> float:
        before = (*_evidence(evidence), Control(RELEVANT), Text(answer))
        said = await self._after(before, ISSUP)
        support = max(ISSUP, key=lambda token: said.get(token, -math.inf))
        return isuse(await self._after((*before, Control(support)), ISUSE))

    async def answer(self, evidence: Evidence) -> Written:
        before = (*_evidence(evidence), Control(RELEVANT))
        relevance = await self.relevance(evidence)
        done = await self.engine.complete(Request(before, 48, frozenset(ISUSE), (*ISSUP, *ISUSE)))
        support, use = first_of(done.tokens, ISSUP), first_of(done.tokens, ISUSE)
        return Written(text_of(done.tokens), relevance, issup(support) if support else None, isuse(use) if use else None)

    async def _after(self, before: tuple[Part, ...], watch: tuple[str, ...]) -> Mapping[str, float]:
        done = await self.engine.complete(Request(before, 1, watch=watch))
        return done.tokens[0].watched


def _instruction(question: str) -> tuple[Part, ...]:
    return (Text(f"### Instruction:\n{question}\n\n### Response:\n"),)


def _evidence(e: Evidence) -> tuple[Part, ...]:
    inside = (Control(PARAGRAPH), Text(f"{e.title}\n{e.passage}"), Control(END_PARAGRAPH))
    return (*_instruction(e.question), Control(RETRIEVAL), *inside)


@dataclass(frozen=True, slots=True)
class PromptedJudge:
    """Asks an instruct model with short prompts and reads the probabilities of the answer choices."""

    engine: Engine
    name: str = "prompted"

    async def retrieve(self, question: str) -> float:
        asked = f"{question}\n\nMust facts be looked up in documents to respond to this? Answer Yes or No."
        return _yes(await self._choose(asked, ("Yes", "No")))

    async def relevance(self, evidence: Evidence) -> float:
        asked = f"{_shown(evidence)}\n\nDoes the passage answer the question? Answer Yes or No."
        return _yes(await self._choose(asked, ("Yes", "No")))

    async def support(self, evidence: Evidence, claim: str) -> Sequence[float]:
        asked = (
            f"Passage: {evidence.title}. {evidence.passage}\n\nStatement: {claim}\n\n"
            "Does the passage support the statement? Answer Yes, Partly or No."
        )
        return await self._choose(asked, ("Yes", "Partly", "No"))

    async def utility(self, evidence: Evidence, answer: str) -> float:
        asked = (
            f"{_shown(evidence)}\n\nAnswer: {answer}\n\nRate the answer from 1 (useless) to 5 (perfect). Answer with a number."
        )
        rated = await self._choose(asked, ("1", "2", "3", "4", "5"))
        return sum(weight * p for weight, p in zip((-1.0, -0.5, 0.0, 0.5, 1.0), rated, strict=True))

    async def answer(self, evidence: Evidence) -> Written:
        asked = f"{_shown(evidence)}\n\nAnswer the question with a few words of the passage."
        done = await self.engine.complete(Request((Message("user", asked),), 48))
        text = text_of(done.tokens)
        full, partial, _ = await self.support(evidence, f"{evidence.question} {text}")
        return Written(text, await self.relevance(evidence), full + 0.5 * partial, await self.utility(evidence, text))

    async def _choose(self, asked: str, choices: tuple[str, ...]) -> list[float]:
        done = await self.engine.complete(Request((Message("user", asked),), 1, choices=choices))
        return list(distribution(done.tokens[0].watched, choices).values())


def _yes(choices: Sequence[float]) -> float:
    return choices[0]


def _shown(e: Evidence) -> str:
    return f"Passage: {e.title}. {e.passage}\n\nQuestion: {e.question}"

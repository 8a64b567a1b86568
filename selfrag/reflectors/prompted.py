"""Reflection with any instruct model: critiques are the probabilities of the choices of a question.

Each critique is a question (prompts/critic), answered at one position: "Yes" or "No", a letter, a digit; support and use of an
answer's last sentence are one request. The numbers have the meaning of those of reflection tokens, estimated by a model that was
not trained for it. Every prompt begins with the question, then the passage, so that a server with a prefix cache prefills each
passage once for its relevance, the sentence and its support.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from selfrag import prompts
from selfrag.algorithm import reflection
from selfrag.algorithm.reflection import ISREL, ISSUP, ISUSE, NO_RETRIEVAL, REFLECTION_TOKENS, RETRIEVAL, LogProbs
from selfrag.types import (
    Alive,
    Critique,
    Decision,
    Engine,
    Message,
    Opening,
    Passage,
    Prompt,
    ReflectionKind,
    Request,
    Segment,
    Token,
)

NEEDED = {"No": NO_RETRIEVAL, "Yes": RETRIEVAL}
RELEVANCE = dict(zip(("No", "Yes"), ISREL, strict=True))
SUPPORT = dict(zip(("A", "B", "C"), ISSUP, strict=True))
USE = dict(zip(("1", "2", "3", "4", "5"), ISUSE, strict=True))

_ABBREVIATIONS = "".join(rf"(?<!\b{word})" for word in (r"\w", "Mr", "Mrs", "Ms", "Dr", "St", "No", "vs", "Prof"))
_SENTENCE_END = re.compile(rf"(?:{_ABBREVIATIONS}\.|[!?。！？])[\"'”’)\]]*$")
_SCAFFOLD = re.compile(
    "|".join(
        [
            *map(re.escape, REFLECTION_TOKENS),
            r"<\|[^|<>]*\|>|</?s>",
            r"^\s*#+ *(?:Instruction|Input|Response):?",
            r"^\s*(?:Answer|Assistant|Response|Statement):",
        ]
    ),
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class PromptedReflector:
    """Asks ``engine``'s model, which needs a chat template, for every critique. A segment is one sentence of at most
    ``max_tokens``."""

    engine: Engine
    max_tokens: int = 100
    kind: ReflectionKind = "prompted"

    def using(self, engine: Engine) -> PromptedReflector:
        return replace(self, engine=engine)

    def describe(self) -> dict[str, object]:
        return {"reflection": self.kind}

    async def decide(self, instruction: str, path: Sequence[Segment], threshold: float) -> Decision:
        """Whether a passage would help; if not, the current one stays in use."""
        (told,) = await self._judged("retrieve", NEEDED, question=instruction, written=_written(path) or "(nothing yet)")
        decision = reflection.decide(told, threshold, has_evidence=False)
        goes_on = decision.action == "none" and bool(path) and path[-1].passage is not None
        return replace(decision, action="continue") if goes_on else decision

    async def open(
        self,
        instruction: str,
        path: Sequence[Segment],  # noqa: ARG002 -- a passage is judged against the question alone
        passage: Passage | None,
        carry: bool,
    ) -> Opening:
        if passage is None or carry:
            return Opening(passage, Critique(), carry)
        (told,) = await self._judged("isrel", RELEVANCE, question=instruction, **_shown(passage))
        if not reflection.reports(told, ISREL):
            return Opening(passage, Critique(), carry)
        judged = {"ISREL": reflection.distribution(told, ISREL)}
        return Opening(passage, Critique(reflection.isrel(told), distributions=judged), carry)

    async def extend(self, instruction: str, path: Sequence[Segment], opening: Opening, alive: Alive) -> Segment | None:
        """Writes a sentence, then judges it: its support by the passage, and at the answer's end its use.

        One that cannot win any more, given its sequence term, is not judged.
        """
        if not alive(opening.critique, 1.0, ""):
            return None
        sentence = Sentence(opening.critique, alive, self.max_tokens)
        before = self._to_write(instruction, path, opening.passage)
        completion = await self.engine.complete(Request(before, self.max_tokens), sentence.add)
        if sentence.given_up:
            return None
        finished = completion.finish == "end"
        if not alive(replace(opening.critique, sequence=sentence.sequence_term), sentence.sequence_term, ""):
            return None
        passage = opening.passage if sentence.text else None
        answer = f"{_written(path)} {sentence.text}".strip()
        critique = replace(opening.critique, sequence=sentence.sequence_term)
        critique = await self._critique(critique, instruction, passage, sentence.text, answer, finished)
        return Segment(sentence.text, opening.passage, critique, opening.carry, tuple(sentence.tokens), finished)

    async def judge(self, instruction: str, passage: Passage, answer: str) -> Critique:
        """ISSUP and ISUSE of a given ``answer``. `open` reads ISREL."""
        return await self._critique(Critique(), instruction, passage, answer, answer, finished=True)

    def _to_write(self, instruction: str, path: Sequence[Segment], passage: Passage | None) -> Prompt:
        """The prompt: the question and the passage, with the text written so far as the beginning of the model's answer."""
        name, values = ("critic/write", _shown(passage)) if passage else ("critic/write_alone", {})
        asked = Message("user", _filled(name, question=instruction, **values))
        return (asked, Message("assistant", _written(path))) if path else (asked,)

    async def _critique(
        self, critique: Critique, instruction: str, passage: Passage | None, sentence: str, answer: str, finished: bool
    ) -> Critique:
        """``critique`` with the support of a ``sentence`` by ``passage``, and with the use of the whole ``answer`` at its end."""
        support: LogProbs = {}
        use: LogProbs = {}
        if passage and finished:
            values = {"question": instruction, **_shown(passage), "sentence": sentence, "answer": answer}
            support, use = await self._judged("issup_isuse", SUPPORT, USE, **values)
        elif passage:
            (support,) = await self._judged("issup", SUPPORT, question=instruction, **_shown(passage), sentence=sentence)
        if finished and not reflection.reports(use, ISUSE):  # nothing to support, or the reply names no digit
            (use,) = await self._judged("isuse", USE, question=instruction, answer=answer)
        if reflection.reports(support, ISSUP):
            critique = _with(critique, "ISSUP", reflection.distribution(support, ISSUP), issup=reflection.issup(support))
        if reflection.reports(use, ISUSE):
            critique = _with(critique, "ISUSE", reflection.distribution(use, ISUSE), isuse=reflection.isuse(use))
        return critique

    async def _judged(self, name: str, /, *answers: Mapping[str, str], **values: str) -> list[LogProbs]:
        """For each of ``answers``, in order, the log-probabilities of its choices by their reflection tokens; empty if the reply
        lacks them."""
        prompt = (Message("user", _filled(f"critic/{name}", **values)),)
        sets = tuple(tuple(each) for each in answers)
        limit = 1 if len(sets) == 1 else 2 * len(sets)
        choices = tuple(choice for names in sets for choice in names)
        done = await self.engine.complete(Request(prompt, limit, choices=choices, answers=sets if len(sets) > 1 else ()))
        told = _places(done.tokens, sets)
        return [{each[name]: at[name] for name in each if name in at} for each, at in zip(answers, told, strict=True)]


def _places(tokens: Sequence[Token], sets: Sequence[Sequence[str]]) -> list[Mapping[str, float]]:
    """The watched log-probabilities for each set of choices: at the first position for the first set, and for each further set
    at the next position where one of its choices is written."""
    found: list[Mapping[str, float]] = [tokens[0].watched if tokens else {}]
    at = 1
    for names in sets[1:]:
        place = next((i for i in range(at, len(tokens)) if tokens[i].text.strip() in names), None)
        found.append({} if place is None else tokens[place].watched)
        at = at if place is None else place + 1
    return found


class Sentence:
    """A sentence while it is generated. It ends when white space follows its final mark; that token is not part of it."""

    def __init__(self, critique: Critique, alive: Alive, limit: int) -> None:
        self.tokens: list[Token] = []
        self.given_up = False
        self._critique, self._alive, self._limit = critique, alive, limit
        self._logprob = 0.0
        self._raw = ""

    def add(self, token: Token) -> bool:
        if token.text[:1].isspace() and _SENTENCE_END.search(self._raw):
            return False
        self.tokens.append(token)
        self._raw += token.text
        self._logprob += token.logprob
        bound = reflection.sequence_bound(self._logprob, self._limit)
        self.given_up = not self._alive(self._critique, bound, token.text)
        return not self.given_up

    @property
    def text(self) -> str:
        return cleaned(self._raw)

    @property
    def sequence_term(self) -> float:
        return reflection.sequence_term(self._logprob, len(self.tokens))


def cleaned(text: str) -> str:
    """``text`` without reflection tokens, chat markers and headings of the prompt."""
    return " ".join(_SCAFFOLD.sub(" ", text).split())


def _with(critique: Critique, group: str, distribution: Mapping[str, float], **score: float) -> Critique:
    return replace(critique, distributions={**critique.distributions, group: distribution}, **score)


def _shown(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "passage": passage.read}


def _written(path: Sequence[Segment]) -> str:
    return " ".join(segment.text for segment in path if segment.text)


def _filled(name: str, **values: str) -> str:
    return prompts.load(name).render(**values).strip()

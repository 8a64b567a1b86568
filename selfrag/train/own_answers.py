"""Rows that teach a model to judge its own answers: `selfrag train prepare --judging` (the recipe of a verifier).

The model answers training questions from the answering passage and from hard negatives, as in a search. Gold answers and gold
sentences decide whether its answer is right. Its words carry no loss, only their critique does; the right sentence is taught as
in `sentence_sources`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from selfrag.algorithm.reflection import FULLY, NO_SUPPORT, RELEVANT, RETRIEVAL
from selfrag.engines import open_engine
from selfrag.errors import InputError
from selfrag.evaluation.metrics import content_recall, normalise, token_f1
from selfrag.reflectors.tokens import TokenReflector
from selfrag.train import sentence_sources, sources
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, likest, window
from selfrag.train.prepare import PrepareConfig, load, plain_question, save
from selfrag.train.rows import END, Example, WeightedPart, control, packed_passages, paragraph, prompt, text
from selfrag.train.sentence_sources import Response
from selfrag.train.sources import Question, asked, irrelevant, short, utility
from selfrag.types import Passage, Reflector

LIMITS = {
    "squad2": 420, "squad2-unanswerable": 220, "tydiqa_en_sentences": 250, "nq_gold_sentences": 200, "qed_sentences": 120,
    "selqa_sentences": 130, "docs_faq_en": 130, "fairytaleqa": 60, "halueval_qa": 150,
}  # fmt: skip
"""Questions by source; those of `-unanswerable` have a misleading passage."""


@dataclass(frozen=True, slots=True)
class Case:
    """A question as it is typed, with passages (title, text), the one that answers first if ``gold`` is not empty.

    ``gold`` are the sentences that answer, ``answers`` spans; ``brief``: a few words are wanted.
    """

    id: str
    source: str
    said: str
    brief: bool
    passages: tuple[tuple[str, str], ...]
    gold: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def cases(config: PrepareConfig) -> list[Case]:
    """The questions of ``config.limits`` with the passages that they are asked about, in an order that ``config.seed`` fixes."""
    banned = {plain_question(r["question"]) for path in config.without for r in load(path)}
    found: list[Case] = []
    for data in config.data:
        for name, limit in config.limits.items():
            rng = Random(f"{config.seed}-own-{name}")
            make = _unanswerable if name.endswith("-unanswerable") else _answerable
            found += islice((case for question, case in make(data, name, rng) if plain_question(question) not in banned), limit)
    Random(config.seed).shuffle(found)
    return found


SPANS = {"squad2": ("squad2_halfdev", sources.squad), "fairytaleqa": ("fairytaleqa", sources.fairytale),
         "halueval_qa": ("halueval_qa", sources.halueval_qa)}  # fmt: skip


def _questions(data: Path, name: str, rng: Random) -> list[Question]:
    file, read = SPANS[name]
    found = list(read(load(data / f"{file}.jsonl.gz")))
    rng.shuffle(found)
    return found


def _answerable(data: Path, name: str, rng: Random) -> Iterable[tuple[str, Case]]:
    """Questions as they are published, with their cases."""
    if name in SPANS:
        found = list(sentence_sources.of_spans(_questions(data, name, rng)))
    else:
        found = list(sentence_sources.answered(load(data / f"{name}.jsonl.gz"), name))
        rng.shuffle(found)
    near = HardNegatives(sorted({(a.title, a.passage) for a in found}))
    for a in found:
        brief = bool(a.answers) and rng.random() < 0.25
        words = rng.randint(60, 150)
        others = [sentence_sources.negative(a, near, words, rng) for _ in range(2)]
        wrong = dict.fromkeys(other for other in others if other)
        said = short(a.question, rng) if brief else asked(a.question, rng)
        own = (a.title, sentence_sources.cut(a, words, rng))
        yield a.question, Case(f"{a.source}-{a.id}", a.source, said, brief, (own, *wrong), a.gold, a.answers)


def _unanswerable(data: Path, name: str, rng: Random) -> Iterable[tuple[str, Case]]:
    found = _questions(data, name.removesuffix("-unanswerable"), rng)
    near = HardNegatives(sorted({(q.title, q.passage) for q in found}))
    for q in found:
        if not q.answers:
            hard = near.wrong(q.question, q.passage, [], k=3)[:1]
            brief = rng.random() < 0.25
            said = short(q.question, rng) if brief else asked(q.question, rng)
            passages = tuple((t, _shown(p, q.question, rng)) for t, p in [(q.title, q.passage), *hard])
            yield q.question, Case(f"{q.id}-un", q.source, said, brief, passages)


def _shown(passage: str, question: str, rng: Random) -> str:
    return window(passage, likest(passage, question), rng.randint(60, 150), rng)


# --- answers of the model ------------------------------------------------------------------------------------------------------


async def written(reflector: Reflector, found: Sequence[Case], say: Callable[[str], None], at_once: int = 16) -> list[list[str]]:
    """The first segment that the model writes from each passage of each case, regardless of its relevance."""
    limit, done = asyncio.Semaphore(at_once), 0

    async def one(case: Case) -> list[str]:
        nonlocal done
        async with limit:
            texts = [await _segment(reflector, case.said, *passage) for passage in case.passages]
        done += 1
        if done % 50 == 0:
            say(f"{done} of {len(found)} questions answered")
        return texts

    return list(await asyncio.gather(*(one(case) for case in found)))


async def _segment(reflector: Reflector, question: str, title: str, passage: str) -> str:
    opening = await reflector.open(question, (), Passage("training", title, passage, "training"), carry=False)
    segment = await reflector.extend(question, (), opening, lambda *_: True)
    return segment.text if segment else ""


# --- labels --------------------------------------------------------------------------------------------------------------------


def is_right(said: str, case: Case) -> bool | None:
    """Whether ``said`` is a right answer, by the answer spans if any, else by the words of the gold sentences; None if unsure."""
    if case.answers and case.brief:
        best = token_f1(said, case.answers)
        return True if best >= 0.6 else False if best < 0.2 else None
    if case.answers and holds(said, list(case.answers)):
        return True
    share = content_recall(said, case.gold)
    return True if share >= 0.7 else False if share <= 0.35 else None


def support(said: str, passage: str, right: bool | None, brief: bool) -> WeightedPart:
    """The label of ISSUP by rule: words of the passage are supported (in a short answer only if they are right); an answer with a
    name or number that the passage lacks is not. Otherwise the token carries no loss."""
    inside = f" {normalise(passage)} "
    if f" {normalise(said)} " in inside:
        return control(FULLY if right or not brief else NO_SUPPORT, 0.5)
    strange = [w for w in said.split()[1:] if (w[:1].isupper() or w[:1].isdigit()) and normalise(w) not in inside]
    return control(NO_SUPPORT, 1.0) if strange else control(FULLY, 0.0)


def judged(said: str, passage: str, right: bool | None, useful: int, brief: bool) -> Response:
    use = () if right is None else (utility(useful, 1.5),)
    return (control(RELEVANT, 0.0), text(said), support(said, passage, right, brief), *use)


def row(case: Case, answers: Sequence[str]) -> Example:
    """One row: the question with each of its passages, each followed by the model's answer from it."""
    passages: sentence_sources.Passages = []
    for index, ((title, passage), said) in enumerate(zip(case.passages, answers, strict=True)):
        own = bool(case.gold) and index == 0
        right = is_right(said, case) if own else False
        branches: list[Response] = [_target(case)] if own else [irrelevant(refuse=False)]
        if said.strip():
            branches.append(judged(said, passage, right, 5 if right else 2 if own else 1, case.brief))
        passages.append((paragraph(title, passage), branches))
    return packed_passages(f"own-{case.id}", f"own-{case.source}", (prompt(case.said), control(RETRIEVAL, 0.3)), passages)


def _target(case: Case) -> Response:
    if case.brief:
        return (control(RELEVANT), text(min(case.answers, key=len), 1.0), control(FULLY), utility(5), END)
    return sentence_sources.taught(case.gold)


def prepare(config: PrepareConfig, model: str, say: Callable[[str], None]) -> Counter[tuple[str, str]]:
    """Writes the rows of ``config`` with what ``model`` (a folder or a Hugging Face name) answers to ``config.out``; returns how
    often each source uses each token. Raises InputError for data that cannot be read or hold no question."""
    found = cases(config)
    if not found:
        raise InputError(f"no questions in {', '.join(map(str, config.data))}", "raise the limits, or name other data")

    async def ask() -> list[list[str]]:
        engine = open_engine("auto", model)
        try:
            return await written(TokenReflector(engine, max_tokens=60, relevant_above=sys.float_info.min), found, say)
        finally:
            await engine.close()

    return save([row(case, answers) for case, answers in zip(found, asyncio.run(ask()), strict=True)], config.out)

"""Development items: questions for a reflection model, with the right answers. Deterministic by seed; never trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from selfrag import prompts
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, sentences, tidy, wrong_spans
from selfrag.train.prepare import held_out, load
from selfrag.train.sources import CLAIM_PROMPTS, asked, explain
from selfrag.train.synthetic import rewrite, sums, words
from selfrag.types import Passage


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a model is asked, and a passage that may answer it."""

    question: str
    title: str
    passage: str

    @property
    def shown(self) -> Passage:
        """The passage as a search would have found it."""
        return Passage("development", self.title, self.passage, "development")


@dataclass(frozen=True, slots=True)
class Items:
    """``answers``: questions that want a few words, with their own passage, their golds (none where unanswerable) and their
    article. ``open``: questions as they are typed, with a passage and the sentences of it that answer. ``relevance``: kind
    ("gold", "unanswerable", "neighbour", "same article") to passages; only the first answer. ``explained``: answerable questions
    that ask for sentences, with their own passage and with a neighbour of it. ``support``: evidence, claim, label. ``utility``:
    evidence, answer, 1 to 5. ``retrieve``: (source, whether evidence is needed) to questions.
    """

    answers: tuple[tuple[Evidence, tuple[str, ...], str], ...]
    open: tuple[tuple[Evidence, tuple[str, ...]], ...]
    relevance: Mapping[str, tuple[Evidence, ...]]
    explained: tuple[tuple[Evidence, Evidence], ...]
    support: tuple[tuple[Evidence, str, str], ...]
    utility: tuple[tuple[Evidence, str, int], ...]
    retrieve: Mapping[tuple[str, bool], tuple[str, ...]]


def build(dev: Path, train: Path | None = None, size: int = 200, seed: int = 7) -> Items:
    """About ``size`` items of every kind from the files in ``dev``; held-out instructions from ``train`` where it is given."""
    rng = Random(seed)
    squad = load(dev / "squad2_halfdev.jsonl.gz")
    rng.shuffle(squad)
    yes, no = [r for r in squad if r["answers"]], [r for r in squad if not r["answers"]]
    picked = yes[:size]
    answers = [(_short(r), tuple(a["text"] for a in r["answers"]), r["title"]) for r in picked]
    answers += [(_short(r), (), r["title"]) for r in no[:size]]
    relevance = {"gold": tuple(map(_evidence, picked)), "unanswerable": tuple(map(_evidence, no[:size]))}
    relevance |= _relevance(squad, picked, rng)
    return Items(
        tuple(answers), _open(dev, size), relevance, _explained(map(_evidence, picked), relevance["neighbour"][: size // 2]),
        _support(dev, size, rng), _utility(picked[: size // 2], rng), _retrieve(dev, train, squad, size, rng),
    )  # fmt: skip


def _evidence(record: Mapping[str, Any]) -> Evidence:
    return Evidence(record["question"], record["title"], record["context"])


def _short(record: Mapping[str, Any]) -> Evidence:
    """The question in the wording of the SQuAD task, which wants a few words."""
    return replace(_evidence(record), question=prompts.load("tasks/squad").render(question=record["question"]))


def _open(dev: Path, size: int) -> tuple[tuple[Evidence, tuple[str, ...]], ...]:
    """English questions with sentences of a passage that answer, every set alike."""
    records = [r for r in load(dev / "sentence_answers.jsonl.gz") if not r["set"].endswith(("_ko", "_ko_sentences"))]
    Random(size).shuffle(records)
    return tuple(
        (Evidence(r["question"], r.get("title") or "", r["passage"]), tuple(r["sentence_answers"])) for r in records[:size]
    )


def _relevance(squad: Any, picked: Any, rng: Random) -> dict[str, tuple[Evidence, ...]]:
    passages = sorted({(r["title"], r["context"]) for r in squad})
    near = HardNegatives(passages)
    found: dict[str, list[Evidence]] = {"neighbour": [], "same article": []}
    for r in picked:
        answers = [a["text"] for a in r["answers"]]
        if wrong := near.wrong(r["question"], r["context"], answers):
            found["neighbour"].append(Evidence(r["question"], *wrong[0]))
        others = [p for p in passages if p[0] == r["title"] and p[1] != r["context"] and not holds(p[1], answers)]
        if others:
            found["same article"].append(Evidence(r["question"], *rng.choice(others)))
    return {name: tuple(v) for name, v in found.items()}


def _explained(answerable: Iterable[Evidence], neighbours: Iterable[Evidence]) -> tuple[tuple[Evidence, Evidence], ...]:
    own = {evidence.question: evidence for evidence in answerable}
    found = []
    for i, other in enumerate(neighbours):
        question = explain(other.question, Random(i))
        found.append((replace(own[other.question], question=question), replace(other, question=question)))
    return tuple(found)


def _support(dev: Path, size: int, rng: Random) -> tuple[tuple[Evidence, str, str], ...]:
    records = load(dev / "vitaminc.jsonl.gz")
    rng.shuffle(records)
    return tuple(
        (Evidence(CLAIM_PROMPTS[0].format(page=r["page"]), r["page"], tidy(r["evidence"])), tidy(r["claim"]), r["label"])
        for r in records[: 2 * size]
    )


def _utility(picked: Any, rng: Random) -> tuple[tuple[Evidence, str, int], ...]:
    found = []
    for r in picked:
        answers = [a["text"] for a in r["answers"]]
        found.append((_short(r), min(answers, key=len), 5))
        found.extend((_short(r), wrong, 2) for wrong in wrong_spans(r["context"], answers, 1, rng))
    return tuple(found)


def _retrieve(dev: Path, train: Path | None, squad: Any, size: int, rng: Random) -> dict[tuple[str, bool], tuple[str, ...]]:
    natural = [r["question"] for r in load(dev / "nq_wikipedia_vital.jsonl.gz")]
    told = [(r["title"], s) for r in squad for s in sentences(r["context"])[:4] if 4 < len(s.split()) < 30]
    found: dict[tuple[str, bool], list[str]] = {
        ("squad2", True): [r["question"] for r in squad[:size]],
        ("squad2 as orders", True): [asked(r["question"], Random(i)) for i, r in enumerate(squad[:size])],
        ("natural questions", True): natural[:size],
    }
    for name, make in (("arithmetic", sums), ("word questions", words), ("rewriting", rewrite)):
        tasks = [make(rng, *reversed(rng.choice(told))) for _ in range(size // 2)]
        found[name, False] = [order if not extra else f"{order}\n{extra}" for order, extra, _ in tasks]
    if train:
        tasks_kept = [r for r in load(train / "selfinstruct_tasks.jsonl.gz") if held_out(r["id"])]
        found["self-instruct", False] = [f"{r['instruction']} {r['instances'][0]['input'][:400]}".strip() for r in tasks_kept]
    return {key: tuple(dict.fromkeys(v)) for key, v in found.items()}

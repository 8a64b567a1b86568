"""Rows that teach whole sentences: questions with the sentences of a passage that answer them. Pure: chance comes from `rng`.

Every sentence of a passage is a response branch after one prefill of it. The answering ones are taught and judged; the others are
only judged: the passage says them, so they are fully supported, and they do not answer, so their utility is 1 or 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from selfrag.algorithm.reflection import CONTINUE, FULLY, NO_SUPPORT, RELEVANT, RETRIEVAL
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, lacking, likest, sentence_spans, tidy, whole, window, wrong_spans
from selfrag.train.rows import END, Example, WeightedPart, control, packed_passages, paragraph, prompt, text
from selfrag.train.sources import Question, asked, explain, irrelevant, judged, length, utility

Record = Mapping[str, Any]
Response = tuple[WeightedPart, ...]
Passages = list[tuple[Iterable[WeightedPart], Iterable[Response]]]

_WORDY = 60


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and a passage with the sentences of it that answer: ``gold``, verbatim, in order.

    ``open_end``: the sentences after the last gold one may belong to the answer too, so they get no label. ``answers``: spans;
    another sentence that contains one is not labelled wrong. ``negatives``: texts of the same document that do not answer.
    """

    id: str
    source: str
    title: str
    passage: str
    question: str
    gold: tuple[str, ...]
    answers: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    open_end: bool = False


def answered(records: Iterable[Record], source: str) -> Iterator[Answered]:
    """The records whose answer sentences are complete: not cut off, not lists, at most 60 words each."""
    for r in records:
        gold = tuple(s.strip() for s in r.get("sentence_answers", ()) if s.strip())[:3]
        meta = r.get("meta") or {}
        if not gold or r.get("answer_mode") in ("list", "list_cut") or meta.get("also_in_attr_hagrid"):
            continue
        if any(len(s.split()) > _WORDY or s not in r["passage"] for s in gold) or not whole(gold[0]):
            continue
        yield Answered(
            str(r["id"]), source, (r.get("title") or "").strip(), r["passage"], r["question"].strip(), gold,
            tuple(a for a in r.get("answers", ()) if isinstance(a, str)), tuple(r.get("negatives", ())),
            r.get("answer_mode") == "lead",
        )  # fmt: skip


def of_spans(questions: Iterable[Question]) -> Iterator[Answered]:
    """Questions with answer spans, the sentence that holds the span being the answer."""
    for q in questions:
        found = [q.passage[a:b].strip() for a, b in sentence_spans(q.passage) if a <= q.at < b]
        if q.answers and found and q.answers[0] in found[0] and 3 < len(found[0].split()) <= 45:
            yield Answered(f"{q.id}-sentence", q.source, q.title, q.passage, q.question, (found[0],), tuple(q.answers))


def taught(gold: Sequence[str]) -> Response:
    """The answer: its first sentence, then the others from the same evidence. The words that choose a sentence have most of the
    loss; those that only continue copying it have little."""
    parts: Response = (control(RELEVANT), *copied(gold[0]), control(FULLY))
    for sentence in gold[1:]:
        parts += (control(CONTINUE), *copied(sentence))
    return (*parts, utility(5), END)


def copied(sentence: str) -> tuple[WeightedPart, ...]:
    """A sentence with full loss on its first three words and a fifth on the rest. The cut before a space does not change
    tokens."""
    cut = [m.start() for m in re.finditer(r" (?=\S)", sentence)][2:3]
    return (text(sentence[: cut[0]], 1.0), text(sentence[cut[0] :], 0.2)) if cut else (text(sentence, 0.7),)


def cut(a: Answered, words: int, rng: Random) -> str:
    """About ``words`` words of the passage that hold every gold sentence."""
    at = a.passage.find(a.gold[0])
    shown = window(a.passage, at, words, rng)
    if all(g in shown for g in a.gold):
        return shown
    end = max(a.passage.find(g) + len(g) for g in a.gold)
    spans = [(b, e) for b, e in sentence_spans(a.passage) if e > at and b < end]
    return a.passage[min(at, spans[0][0]) : max(end, spans[-1][1])].strip()


def others(a: Answered, passage: str) -> list[str]:
    """The sentences of ``passage`` that do not answer, most like the question first."""
    end = max(passage.find(g) + len(g) for g in a.gold)
    found = []
    for b, e in sentence_spans(passage):
        s = passage[b:e].strip()
        if (a.open_end and b >= end) or len(s.split()) < 4 or len(s.split()) > 50 or (a.answers and holds(s, list(a.answers))):
            continue
        if not any(s in g or g in s for g in a.gold):
            found.append(s)
    wanted = {w for w in re.findall(r"\w+", a.question.lower()) if len(w) > 2}
    return sorted(dict.fromkeys(found), key=lambda s: -len(wanted & set(re.findall(r"\w+", s.lower()))))


def falsified(sentence: str, passage: str, rng: Random) -> str:
    """``sentence`` with one of its names or numbers replaced by another from ``passage``; empty if there is none to swap."""
    inside = re.findall(r"\b\d[\d,.]*\d\b|\b\d+\b|(?<=[a-z,] )[A-Z][\w-]+(?: [A-Z][\w-]+)*", sentence)
    rng.shuffle(inside)
    for span in inside[:3]:
        wrong = [w for w in wrong_spans(passage.replace(sentence, " "), [span], 3, rng) if w not in sentence]
        if wrong:
            return sentence.replace(span, wrong[0])
    return ""


def own_branches(a: Answered, passage: str, most: int, rng: Random) -> list[Response]:
    """The branches of an answering passage: its gold sentences, up to ``most`` others, and a falsified one."""
    found: list[Response] = [taught(a.gold)]
    found += [judged(g, FULLY, 5 if n == 0 else 4) for n, g in enumerate(a.gold) if len(a.gold) > 1]
    rest = others(a, passage)
    tail = rest[2:]
    rng.shuffle(tail)
    found += [judged(s, FULLY, 2) for s in [*rest[:2], *tail][:most]]
    if rng.random() < 0.6 and (false := falsified(a.gold[0], passage, rng)):
        found.append(judged(false, NO_SUPPORT, 2))
    if a.answers and rng.random() < 0.25:
        found.append(judged(min(a.answers, key=len), FULLY, 4))
    return found


def negative(a: Answered, near: HardNegatives, words: int, rng: Random) -> tuple[str, str] | None:
    """Title and text of a passage that does not answer: from the same document, or a hard negative of the search."""
    chance = rng.random()
    spans = list(a.answers or a.gold)
    if a.negatives and chance < 0.6:
        chosen, title = rng.choice(a.negatives), a.title
    elif a.answers and chance < 0.75 and (rest := lacking(a.passage, spans)):
        chosen, title = rest, a.title
    else:
        found = [p for p in near.wrong(a.question, a.passage, spans) if not any(g in p[1] for g in a.gold)]
        if not found:
            return None
        title, chosen = found[min(int(rng.expovariate(0.7)), len(found) - 1)]
    if not chosen.strip() or any(g in chosen for g in a.gold):
        return None
    return title, window(chosen, likest(chosen, a.question), words, rng)


def negative_branches(a: Answered, other: str, rng: Random) -> list[Response]:
    """The branches of a passage that does not answer: it is irrelevant, its own sentence is supported but useless, and the right
    answer is not supported."""
    found: list[Response] = [irrelevant(rng.random() < 0.15)]
    at = likest(other, a.question)
    said = next((other[b:e].strip() for b, e in sentence_spans(other) if b == at), "")
    if 3 < len(said.split()) <= 50:
        found.append(judged(said, FULLY, 1))
    if rng.random() < 0.4:
        found.append((control(RELEVANT, 0.0), text(a.gold[0]), control(NO_SUPPORT)))
    return found


def sentence_row(a: Answered, near: HardNegatives, rng: Random) -> Example:
    """A question as it is typed, with its passage and mostly one that does not answer it, and their sentences as branches."""
    words = length(rng) if rng.random() < 0.5 else rng.randint(60, 110)
    passage = cut(a, words, rng)
    said = explain(a.question, rng) if rng.random() < 0.08 else asked(a.question, rng)
    passages: Passages = [(paragraph(a.title, passage), own_branches(a, passage, 3, rng))]
    if rng.random() < 0.7 and (other := negative(a, near, words, rng)):
        passages.append((paragraph(*other), negative_branches(a, other[1], rng)))
    return packed_passages(f"{a.source}-{a.id}", a.source, (prompt(said), control(RETRIEVAL, 0.3)), passages)


def howto(records: Iterable[Record]) -> Iterator[Answered]:
    """Command-line help: the answer is a sentence with the command, which the page words differently."""
    for r in records:
        if r.get("long_answer") and r["sentence_answers"][0] in r["passage"]:
            yield Answered(
                r["id"], "tldr", r["title"], r["passage"], r["question"], (r["long_answer"],), (), tuple(r["negatives"])
            )


def howto_row(a: Answered, near: HardNegatives, rng: Random) -> Example | None:
    """Like `sentence_row`; the wrong answers are the page's other commands in the same wording."""
    made = re.findall(r"^- (.+):\n(`[^\n]+`)", a.passage, re.MULTILINE)
    if len(a.passage.split()) > 110 or len(made) < 2:
        return None
    mine = next((i for i, (_, command) in enumerate(made) if command in a.gold[0]), None)
    if mine is None:
        return None
    rest = [m for i, m in enumerate(made) if i != mine]
    rng.shuffle(rest)
    found: list[Response] = [taught(a.gold)]
    for what, command in rest[:2]:
        found.append(judged(f"To {what[:1].lower()}{what[1:]}, run {command}.", FULLY, 2))
    found.append(judged(a.gold[0].replace(made[mine][1], rest[0][1]), NO_SUPPORT, 2))
    passages: Passages = [(paragraph(a.title, a.passage), found)]
    if rng.random() < 0.6 and (other := negative(a, near, 60, rng)):
        passages.append((paragraph(*other), [irrelevant(rng.random() < 0.15)]))
    return packed_passages(f"tldr-{a.id}", "tldr", (prompt(asked(a.question, rng)), control(RETRIEVAL, 0.3)), passages)


def claim_rows(records: Iterable[Record], source: str, prompts: Sequence[str], rng: Random) -> Iterator[Example]:
    """Claims judged by people, the claims of one evidence as branches after one prefill: they teach only support."""
    by_passage: dict[tuple[str, str], list[Record]] = {}
    for r in records:
        if r.get("label") in ("supported", "not_supported") and len(r["passage"].split()) <= 190:
            by_passage.setdefault((r.get("title") or "", r["passage"]), []).append(r)
    for index, ((title, passage), group) in enumerate(by_passage.items()):
        page = title or "this"
        branches = [
            (control(RELEVANT, 0.0), text(tidy(r["claim"])), control(FULLY if r["label"] == "supported" else NO_SUPPORT))
            for r in group[:5]
        ]
        root = (prompt(rng.choice(prompts).format(page=page)), control(RETRIEVAL, 0.1))
        yield packed_passages(f"{source}-{index}", source, root, [(paragraph(title, tidy(passage)), branches)])

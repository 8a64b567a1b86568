"""Training rows from each published data set. Pure: records in, rows out; chance comes from `rng`.

A wrong answer is shown before its critique, with no loss on its words. Support and utility follow from correctness by rule:
right 5, right but wordier than asked 4, half supported 3, wrong answer from the right passage 2, irrelevant passage 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any

from selfrag.algorithm.reflection import (
    CONTINUE,
    FULLY,
    IRRELEVANT,
    NO_RETRIEVAL,
    NO_SUPPORT,
    PARTIALLY,
    RELEVANT,
    RETRIEVAL,
)
from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, lacking, likest, sentence_at, sentences, tidy, window, wrong_spans
from selfrag.train.rows import (
    END,
    REFUSAL,
    Example,
    WeightedPart,
    control,
    evidence,
    packed,
    packed_passages,
    paragraph,
    prompt,
    text,
)

Record = Mapping[str, Any]

CLAIM_PROMPTS = (
    "State one fact about {page}.",
    "What is known about {page}?",
    "Write one sentence about {page}.",
    "What does the text say about {page}?",
    "Tell me something about {page}.",
)
EXPLAIN = ("Answer in a full sentence: {q}", "{q} Explain.", "{q} Answer with a sentence.", "Explain briefly: {q}",
           "In one sentence: {q}", "Describe what the documents say: {q}")  # fmt: skip
SHORT = ("{q}\n\nAnswer in a few words.", "{q}\n\nAnswer with a few words.", "{q} Answer in a few words.", "In a few words: {q}",
         "{q}\n\nGive a short answer.", "Answer briefly: {q}", "{q} Answer with a name, a number or a few words.")  # fmt: skip
ASK = ("Tell me {q}", "Find out {q}", "I need to know {q}", "Please look up {q}", "Write down {q}", "Say {q}")


def utility(k: int, loss: float = 1.0) -> WeightedPart:
    return control(f"[Utility:{k}]", loss)


def right(answer: str) -> tuple[WeightedPart, ...]:
    return (control(RELEVANT), text(answer, 1.0), control(FULLY), utility(5), END)


def judged(answer: str, support: str, useful: int) -> tuple[WeightedPart, ...]:
    """An answer that is shown, with loss on its critique alone."""
    return (control(RELEVANT, 0.0), text(answer), control(support), utility(useful))


def irrelevant(refuse: bool) -> tuple[WeightedPart, ...]:
    return (control(IRRELEVANT), text(REFUSAL, 1.0), utility(1), END) if refuse else (control(IRRELEVANT),)


def length(rng: Random) -> int:
    """Words of a passage: often short, since short passages teach more per token; mostly as long as a chunk."""
    return rng.randint(35, 80) if rng.random() < 0.4 else rng.randint(100, 190)


def asked(question: str, rng: Random) -> str:
    """The question as typed: now and then an order, without capital, or without its mark."""
    chance = rng.random()
    if chance < 0.15:
        return rng.choice(ASK).format(q=question[:1].lower() + question[1:].rstrip("?")) + "."
    if chance < 0.25:
        return question.lower().rstrip("?")
    return question


def short(question: str, rng: Random) -> str:
    """The question with a request for a few words; half the time in the wording of the task prompts."""
    return rng.choice(SHORT[:1] if rng.random() < 0.5 else SHORT).format(q=question)


def explain(question: str, rng: Random) -> str:
    """The question with a request for sentences."""
    return rng.choice(EXPLAIN).format(q=question)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with a passage; without `answers` the passage does not answer it. `at`: the offset of the answer."""

    id: str
    source: str
    title: str
    passage: str
    question: str
    answers: list[str]
    at: int
    tempting: tuple[str, ...] = ()


def by_length(answers: Iterable[str]) -> list[str]:
    """The distinct answers, shortest first; the shortest is the training target."""
    return sorted(set(answers), key=lambda answer: (len(answer), answer))


def squad(records: Iterable[Record]) -> Iterator[Question]:
    for r in records:
        tempting = tuple(r.get("plausible_answers", ()))
        at = r["answers"][0]["start"] if r["answers"] else max(0, r["context"].find(tempting[0])) if tempting else 0
        answers = by_length(a["text"] for a in r["answers"])
        yield Question(f"squad2-{r['id']}", "squad2", r["title"], r["context"], r["question"], answers, at, tempting)


def fairytale(records: Iterable[Record]) -> Iterator[Question]:
    for r in records:
        answers = [a.strip(" .") for a in r["answers"] if a.strip(" .") and a.strip(" .") in r["context"]]
        if answers:
            answers = by_length(answers)
            title = r["story"].replace("-", " ")
            at = r["context"].index(answers[0])
            yield Question(f"fairytale-{r['id']}", "fairytaleqa", title, r["context"], r["question"], answers, at)


def halueval_qa(records: Iterable[Record]) -> Iterator[Question]:
    for i, r in enumerate(records):
        knowledge, answer = tidy(r["knowledge"].replace(".", ". ").replace(".  ", ". ")), r["right_answer"].strip(" .")
        at = knowledge.lower().find(answer.lower())
        if answer and at >= 0:
            yield Question(f"halueval-{i}", "halueval_qa", topic(knowledge), knowledge, r["question"], [answer], at)


def question_row(q: Question, rng: Random) -> Example:
    """A question with its own passage: right and wrong answers, or the refusal where it holds no answer."""
    words = length(rng)
    passage = window(q.passage, q.at, words, rng)
    wording = short if q.answers or rng.random() < 0.3 else explain if rng.random() < 0.12 else asked
    root = (prompt(wording(q.question, rng)), *evidence(q.title, passage))
    if not q.answers:
        return packed(q.id, q.source, root, [irrelevant(rng.random() < 0.35), *tempting(q, passage)])
    return packed(q.id, q.source, root, answer_branches(q, passage, rng))


def tempting(q: Question, passage: str) -> list[tuple[WeightedPart, ...]]:
    """A plausible wrong answer to an unanswerable question, and the passage's sentence that contains it."""
    found = [judged(t, NO_SUPPORT, 1) for t in q.tempting[:1]]
    sentence = sentence_at(passage, passage.find(q.tempting[0])) if q.tempting and q.tempting[0] in passage else ""
    return [*found, judged(sentence, FULLY, 1)] if 3 < len(sentence.split()) <= 50 else found


def answer_branches(q: Question, passage: str, rng: Random) -> list[tuple[WeightedPart, ...]]:
    gold = q.answers[0]
    wrong = wrong_spans(passage, q.answers, 2, rng)
    branches: list[tuple[WeightedPart, ...]] = [right(gold), *(judged(w, NO_SUPPORT, 2) for w in wrong)]
    sentence = sentence_at(q.passage, q.at)
    if sentence and len(sentence.split()) < 30 and rng.random() < 0.25:
        branches.append(judged(sentence, FULLY, 4))
        if wrong and gold in sentence:
            branches.append(judged(sentence.replace(gold, wrong[0]), NO_SUPPORT, 2))
    if wrong and rng.random() < 0.12:
        both = [gold, wrong[0]] if rng.random() < 0.5 else [wrong[0], gold]
        branches.append(judged(" and ".join(both), PARTIALLY, 3))
    return branches


def hard_negatives(q: Question, near: HardNegatives, rng: Random) -> list[tuple[str, str]]:
    """Titles and texts of candidate negatives for ``q``, hardest first."""
    rest = lacking(q.passage, q.answers) if rng.random() < 0.25 else ""
    found = near.wrong(q.question, q.passage, q.answers) if rng.random() < 0.9 else [rng.choice(near.passages)]
    return [(q.title, rest)] if rest else found


def contrastive_pair(q: Question, near: HardNegatives, rng: Random) -> tuple[str, tuple[str, str]] | None:
    """A cut of the question's own passage, and title and cut of a hard negative, sometimes its own passage without the answering
    sentences. Both cuts have the same length and contain words of the question, so that only their content differs."""
    wrong = hard_negatives(q, near, rng)
    if not wrong or holds(wrong[0][1], q.answers):
        return None
    words = length(rng)
    title, other = wrong[min(int(rng.expovariate(0.7)), len(wrong) - 1)]
    return window(q.passage, q.at, words, rng), (title, window(other, likest(other, q.question), words, rng))


def contrastive(
    q: Question, kind: str, said: str, passage: str, taught: Iterable[Iterable[WeightedPart]],
    other: tuple[str, str], refused: Iterable[Iterable[WeightedPart]],
) -> Example:  # fmt: skip
    """The question, worded as ``said``, with its own passage and another one, and the training targets of each."""
    root = (prompt(said), control(RETRIEVAL, 0.3))
    return packed_passages(
        f"{q.id}-{kind}", q.source, root, ((paragraph(q.title, passage), taught), (paragraph(*other), refused))
    )


def contrastive_row(q: Question, near: HardNegatives, rng: Random) -> Example | None:
    """An answerable question with two passages, its own and one that does not answer it."""
    found = contrastive_pair(q, near, rng)
    if not found:
        return None
    own, other = found
    tempting = [judged(span, NO_SUPPORT, 1) for span in wrong_spans(other[1], q.answers, 2, rng)]
    said, taught = short(q.question, rng), answer_branches(q, own, rng)
    return contrastive(q, "compared", said, own, taught, other, [irrelevant(rng.random() < 0.15), *tempting])


def explain_row(q: Question, near: HardNegatives, rng: Random) -> Example | None:
    """`contrastive_row` with a question that asks for sentences: the answering sentence of its own passage, half the time
    followed by the next one."""
    found = contrastive_pair(q, near, rng)
    if not found:
        return None
    passage, other = found
    answer = sentence_at(passage, passage.find(q.answers[0]))
    if not answer or len(answer.split()) > 45:
        return None
    after = passage[passage.find(answer) + len(answer) :].strip()
    more = sentences(after)[:1] if rng.random() < 0.5 else []
    taught: tuple[WeightedPart, ...] = (control(RELEVANT), text(answer, 0.5), control(FULLY))
    for sentence in more:
        taught += (control(CONTINUE), text(sentence, 0.5))
    branches: list[tuple[WeightedPart, ...]] = [(*taught, utility(5), END)]
    wrong = wrong_spans(passage, q.answers, 1, rng)
    if wrong and q.answers[0] in answer:
        branches.append(judged(answer.replace(q.answers[0], wrong[0]), NO_SUPPORT, 2))
    return contrastive(q, "explain", explain(q.question, rng), passage, branches, other, [irrelevant(rng.random() < 0.15)])


def vitaminc(records: Iterable[Record], rng: Random) -> Iterator[Example]:
    """One evidence, its claims as branches; a supported and an unsupported claim together are partially supported. Now and then
    another page's evidence beside it, which is irrelevant to the page that was asked for."""
    ordered = sorted(records, key=lambda r: (r["page"], r["evidence"], r["claim"]))
    for index, (key, group) in enumerate(groupby(ordered, key=lambda r: (r["page"], r["evidence"]))):
        claims = {tidy(r["claim"]): r["label"] for r in group}
        if len(claims) < 2:
            continue
        root = (prompt(rng.choice(CLAIM_PROMPTS).format(page=key[0])), control(RETRIEVAL, 0.1))
        branches = [claim_branch(c, label) for c, label in list(claims.items())[:6]]
        yes = [c for c, label in claims.items() if label == "SUPPORTS"]
        no = [c for c, label in claims.items() if label != "SUPPORTS"]
        if yes and no and rng.random() < 0.25:
            branches.append(judged(f"{yes[0]} {no[0]}", PARTIALLY, 3))
        passages = [(paragraph(key[0], tidy(key[1])), branches)]
        stray = rng.choice(ordered)
        if stray["page"] != key[0] and rng.random() < 0.2:
            shown = judged(next(iter(claims)), NO_SUPPORT, 1)
            passages.append((paragraph(stray["page"], tidy(stray["evidence"])), [irrelevant(rng.random() < 0.15), shown]))
        yield packed_passages(f"vitaminc-{index}", "vitaminc", root, passages)


def claim_branch(claim: str, label: str) -> tuple[WeightedPart, ...]:
    if label == "SUPPORTS":
        return (control(RELEVANT, 0.2), text(claim), control(FULLY), utility(5, 0.5))
    return (control(RELEVANT, 0.0), text(claim), control(NO_SUPPORT), utility(2, 0.5))


WICE = {"supported": (FULLY, 5), "partially_supported": (PARTIALLY, 3), "not_supported": (NO_SUPPORT, 2)}


def wice(records: Iterable[Record]) -> Iterator[Example]:
    """Claims of Wikipedia with cited web pages, where the evidence is short or says which sentences support."""
    for index, r in enumerate(records):
        lines = [e.replace("(meta data) TITLE:", "").strip(" #") for e in r["evidence"]]
        passage = " ".join(nearest(lines[1:], r["claim"], 110))
        if len(passage.split()) > 5:
            support, useful = WICE[r["label"]]
            root = (prompt(f"What is known about {topic(r['claim'])}?"), *evidence(lines[0][:80], passage))
            yield packed(f"wice-{index}-{len(lines)}", "wice", root, [judged(r["claim"], support, useful)])


def nearest(lines: list[str], claim: str, words: int) -> list[str]:
    """The lines that share most words with ``claim``, in their order, about ``words`` words together."""
    wanted = {w.lower() for w in claim.split() if len(w) > 3}
    best = sorted(range(len(lines)), key=lambda n: -len(wanted & {w.lower() for w in lines[n].split()}))
    kept: list[int] = []
    for n in best:
        if sum(len(lines[m].split()) for m in kept) + len(lines[n].split()) <= words:
            kept.append(n)
    return [lines[n] for n in sorted(kept)]


def topic(passage: str) -> str:
    """The beginning of a text, up to its first verb or mark; at most five words."""
    head = re.split(r" (?:is|was|are|were|has|had|refers|of the)\b|[(,.:;]", passage, maxsplit=1)[0]
    return " ".join(head.split()[:5]) or "Notes"


def summaries(records: Iterable[Record], rng: Random) -> Iterator[Example]:
    """Several sentences on one passage: the first is judged, the others continue with the same evidence."""
    asks = ("Summarize the news story.", "What happened? Answer in a few sentences.", "Give a short summary of the report.")
    for index, r in enumerate(records):
        parts = sentences(r["right_summary"].strip())[:3]
        if len(r["document"].split()) <= 190 and len(parts) >= 2:
            taught: tuple[WeightedPart, ...] = (control(RELEVANT), text(parts[0], 0.3), control(FULLY))
            for part in parts[1:]:
                taught += (control(CONTINUE), text(part, 0.3))
            root = (prompt(rng.choice(asks)), *evidence("News report", r["document"].strip()))
            yield packed(f"summary-{index}", "halueval_summarization", root, [(*taught, utility(5), END)])


def hops(records: Iterable[Record]) -> Iterator[Example]:
    """Two-hop questions: a sentence from the first passage, a second retrieval, the answer from that."""
    for r in records:
        paragraphs = {title: " ".join(lines) for title, lines in r["context"]}
        titles = list(dict.fromkeys(title for title, _ in r["supporting_facts"]))
        if len(r["qa_pairs"]) == 2 and len(titles) == 2 and all(t in paragraphs for t in titles):
            parts: tuple[WeightedPart, ...] = (prompt(r["question"]),)
            for title, pair in zip(titles, r["qa_pairs"], strict=True):
                shown = " ".join(paragraphs[title].split()[:80])
                parts += (*evidence(title, shown, loss=1.0), control(RELEVANT), text(pair["answer"], 0.5), control(FULLY))
            yield packed(f"2wiki-{r['_id']}", "2wiki", (*parts, utility(5), END))


def retrieve_only(questions: Iterable[str], source: str, rng: Random) -> Iterator[Example]:
    for index, question in enumerate(questions):
        yield packed(f"{source}-{index}", source, (prompt(asked(question, rng)), control(RETRIEVAL)))


def rated(records: Iterable[Record]) -> Iterator[Example]:
    """Answers without evidence that people judged right, possibly right, or wrong: utility 5, 3, 1."""
    for index, r in enumerate(records):
        answers = [(a, 5) for a in r["answer_and_def_correct_predictions"][:1]]
        answers += [(a, 3) for a in r["poss_correct_predictions"][:1]] + [(a, 1) for a in r["def_incorrect_predictions"][:2]]
        branches = [(control(NO_RETRIEVAL, 0.0), text(a), utility(k)) for a, k in answers]
        root = (prompt(r["question"]),)
        yield packed(f"efficientqa-{index}", "efficientqa", root, [(control(RETRIEVAL),), *branches])


def selfinstruct(records: Iterable[Record]) -> Iterator[Example]:
    """Instructions that need no evidence; only the short ones are answered."""
    for r in records:
        case = r["instances"][0]
        extra, output = case["input"].strip(), case["output"].strip()
        if len(extra.split()) > 90:
            continue
        root = (prompt(r["instruction"], extra), control(NO_RETRIEVAL))
        short = len(output.split()) <= 30
        yield packed(r["id"], "selfinstruct", root, [(text(output, 0.3), utility(5), END)] if short and output else [])

"""Scores of one answer against gold answers. Pure: texts and passages in, numbers in [0, 1] out."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from selfrag.algorithm import words as algorithm_words
from selfrag.algorithm.words import content_words

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gold:
    """What is known of a question. ``answers`` are alternatives; ``groups`` are points that a long answer should all make, each
    with its alternatives; ``references`` are answers in free text; ``sentences`` are those of a document that answer.
    ``sources`` are paths, file names or titles that hold the answer, ``passage`` the paragraph itself. ``answerable`` is None
    where nothing is known."""

    answers: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    answerable: bool | None = None
    sources: tuple[str, ...] = ()
    passage: str | None = None
    references: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


ANSWERS = ("answers", "answer", "possible_answers", "short_answers")
REFERENCES = ("references", "reference", "long_answer", "long_answers", "reference_answer")
SENTENCES = ("sentence_answers", "gold_sentences")
SOURCES = ("sources", "source", "gold_sources", "gold_source", "gold_titles", "gold_title", "titles", "title")
PASSAGES = ("gold_passage", "context", "passage")


def gold_of(columns: Json) -> Gold:
    """The gold labels in the columns of a question, under the names that data sets commonly use."""
    answers = next((texts(columns[name]) for name in ANSWERS if columns.get(name)), ())
    groups = tuple(texts(pair["short_answers"]) for pair in columns.get("qa_pairs") or () if pair.get("short_answers"))
    impossible = columns.get("unanswerable", columns.get("is_impossible"))
    references, sentences = (
        next((texts(columns[name]) for name in names if columns.get(name)), ()) for names in (REFERENCES, SENTENCES)
    )
    answerable = not impossible if isinstance(impossible, bool) else True if answers or groups or sentences else None
    sources = next((texts(columns[name]) for name in SOURCES if columns.get(name)), ())
    passage = next((columns[name] for name in PASSAGES if isinstance(columns.get(name), str)), None)
    return Gold(
        answers or tuple(a for group in groups for a in group), groups, answerable, sources, passage, references, sentences
    )


def texts(value: object) -> tuple[str, ...]:
    """A text, or a list of texts or of {"text": ...}, as a tuple without empty ones."""
    if isinstance(value, Mapping):
        return texts(value.get("text"))
    if isinstance(value, list | tuple):
        return tuple(text for item in value for text in texts(item))
    return (str(value),) if value is not None and str(value).strip() else ()


# --- answers -------------------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """As in the SQuAD evaluation: lower case, without ASCII punctuation, English articles and repeated white space."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    return float(any(normalise(answer) == normalise(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 over the golds, of the words that answer and gold share (SQuAD)."""
    return max((_f1(normalise(answer).split(), normalise(gold).split()) for gold in golds), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold))


def contains(answer: str, golds: Sequence[str]) -> float:
    """The match of the Self-RAG paper: the answer contains a gold answer as a substring, case-sensitive."""
    return float(any(gold in answer for gold in golds))


def accuracy(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer contains a gold answer's words consecutively, after normalisation. Words joined by a hyphen or a slash
    count as one word or as several ("434-line" says "434")."""
    found = any(_within(normalise(gold), normalise(answer)) or _within(_apart(gold), _apart(answer)) for gold in golds)
    return float(found or exact_match(answer, golds))


def _within(words: str, text: str) -> bool:
    return bool(words) and f" {words} " in f" {text} "


def _apart(text: str) -> str:
    return normalise(re.sub(r"[-–—/]", " ", text))


def string_em(answer: str, groups: Sequence[Sequence[str]]) -> float:
    """The share of points that the answer makes (ASQA's STR-EM)."""
    return sum(accuracy(answer, group) for group in groups) / len(groups) if groups else 0.0


# --- answers in free text ------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Words in lower case; each Chinese, Japanese or Korean character by itself."""
    return algorithm_words.words(text, wide=1)


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """The best ROUGE-L F1: the longest common subsequence of words, against both lengths. No stemming."""
    return max((_lcs_f1(words(answer), words(reference)) for reference in references), default=0.0)


def _lcs_f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    if not answer or not reference:
        return 0.0
    row = [0] * (len(reference) + 1)
    for word in answer:
        diagonal = 0
        for j, other in enumerate(reference, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(answer) + len(reference))


def content_recall(answer: str, references: Sequence[str]) -> float:
    """The best share of a reference's content words, each counted once, that the answer has."""
    said = {*content_words(answer)}
    wanted = [{*content_words(reference)} for reference in references]
    return max((len(said & each) / len(each) for each in wanted if each), default=0.0)


def content_precision(answer: str, references: Sequence[str]) -> float:
    """The best share of the answer's content words, each counted once, that a reference has; 0 for none."""
    said = {*content_words(answer)}
    return max((len(said & {*content_words(each)}) / len(said) for each in references), default=0.0) if said else 0.0


def holds_sentence(answer: str, sentences: Sequence[str]) -> float:
    """Whether the answer nearly contains one of the sentences: four in five of its words, with multiplicity."""
    said = Counter(words(answer))
    return float(any(_share_within(Counter(words(sentence)), said) >= 0.8 for sentence in sentences))


def _share_within(wanted: Counter[str], said: Counter[str]) -> float:
    return (wanted & said).total() / wanted.total() if wanted else 0.0


_ENDS = re.compile(r"[.!?…。！？:：;][\"'”’)\]」』*_`\s]*$")
_CODE = re.compile(r"```|^\s*\||^\s*[$>#]", re.MULTILINE)


def is_whole_sentence(text: str) -> bool:
    """Whether it is complete: at least three words (six characters where words are not set apart), not begun in the middle
    of a sentence, and ended; a row of a table and code count as whole."""
    plain = text.strip()
    first = next((c for c in plain if c.isalnum()), "")
    if _CODE.search(plain):
        return bool(first)
    found = words(plain)
    least = 6 if found and all(len(word) == 1 for word in found) else 3
    return len(found) >= least and not first.islower() and bool(_ENDS.search(plain))


# --- passages ------------------------------------------------------------------------------------------------------------------


def is_gold(passage: Json, gold: Gold) -> bool | None:
    """Whether ``passage`` (its JSON) is where the answer is known to be; None if nothing is known, or its text was not kept."""
    if gold.passage is not None and passage.get("text"):
        return overlap(passage["text"], gold.passage) >= 0.8
    if gold.sources:
        return any(same_source(passage, source) for source in gold.sources)
    return None


def overlap(text: str, other: str) -> float:
    """The share of the shorter text's words, with multiplicity, that the longer one has too."""
    short, long = sorted((normalise(text).split(), normalise(other).split()), key=len)
    return sum((Counter(short) & Counter(long)).values()) / len(short) if short else 0.0


def same_source(passage: Json, source: str) -> bool:
    """A source is named by its path, the end of it, its file name with or without ending, or its title."""
    path = PurePath(str(passage.get("source") or ""))
    title = str(passage.get("title") or "")
    names = {str(path), path.name, path.stem, title, title.split(" › ")[0]}
    wanted = plain_name(source)
    return wanted in {plain_name(name) for name in names if name} or str(path).endswith(f"/{source}")


def plain_name(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


def has_answer(passage: Json, golds: Sequence[str]) -> bool | None:
    """Whether the passage contains a gold answer; None if its text was not kept or no gold is known."""
    text = passage.get("text")
    return bool(accuracy(text, golds)) if text and golds else None


def recall_at(hits: Sequence[bool], k: int) -> float:
    """Whether one of the first ``k`` passages is a hit."""
    return float(any(hits[:k]))


def reciprocal_rank(hits: Iterable[bool]) -> float:
    return next((1 / rank for rank, hit in enumerate(hits, 1) if hit), 0.0)

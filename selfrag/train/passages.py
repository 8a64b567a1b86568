"""Cutting passages and finding wrong answers in them. Pure: text and a random generator in, text out."""

from __future__ import annotations

import re
from random import Random

from selfrag.algorithm.sentences import units
from selfrag.algorithm.words import FUNCTION_WORDS

_NAME = re.compile(r"\b[A-Z][\w'’-]*(?:\s+(?:of|the|de|and)?\s?[A-Z][\w'’-]*){0,3}")
_NUMBER = re.compile(r"[$£€]?\d[\d.,:]*\d?%?(?:\s+(?:million|billion|thousand|years|percent|km|miles))?")
_TIGHT = ((" ([.,;:!?)%\\]])", r"\1"), (r"([(\[$]) ", r"\1"), (r" ('s|n't|'re|'ve)\b", r"\1"), ("\ufffd", " "), ("-LRB- ?", "("),
          (" ?-RRB-", ")"), (r"`` ?", '"'), (r" ?''", '"'), (" {2,}", " "))  # fmt: skip


def tidy(value: str) -> str:
    """Undoes the spaces that tokenized corpora put around punctuation."""
    for pattern, replacement in _TIGHT:
        value = re.sub(pattern, replacement, value)
    return value.strip()


def sentences(passage: str) -> list[str]:
    return [passage[a:b] for a, b in sentence_spans(passage)]


def whole(answer: str) -> bool:
    """Whether an answer consists of complete sentences: three words or more, not begun in the middle, ended by a mark. Scripts
    such as Korean have no capitals."""
    return len(answer.split()) > 2 and bool(re.search(r"[.!?。`\")\]]$", answer)) and not re.match(r"[a-z|,;:]\S* ", answer)


def sentence_spans(passage: str) -> list[tuple[int, int]]:
    """Character ranges of the sentences of ``passage``, those that a quote consists of."""
    return [(unit.start, unit.end) for unit in units(passage)]


def window(passage: str, at: int, words: int, rng: Random) -> str:
    """Whole sentences around character ``at``, about ``words`` words, the sentence at a random place among them."""
    spans = sentence_spans(passage) or [(0, len(passage))]
    here = next((i for i, (a, b) in enumerate(spans) if a <= at < b), 0)
    low = high = here
    size = len(passage[slice(*spans[here])].split())
    while size < words and (low > 0 or high < len(spans) - 1):
        back = low > 0 and (high == len(spans) - 1 or rng.random() < 0.5)
        low, high = (low - 1, high) if back else (low, high + 1)
        size += len(passage[slice(*spans[low if back else high])].split())
        if size > words * 1.5:
            low, high = (low + 1, high) if back else (low, high - 1)
            break
    return passage[spans[low][0] : spans[high][1]].strip()


def likest(passage: str, question: str) -> int:
    """The start of the sentence of ``passage`` that shares most of the longer words of ``question``; the first of equals."""
    wanted = {w for w in _plain(question).split() if len(w) > 3}
    spans = sentence_spans(passage) or [(0, len(passage))]
    return max(spans, key=lambda span: len(wanted & set(_plain(passage[slice(*span)]).split())))[0]


def sentence_at(passage: str, at: int) -> str:
    return next((passage[a:b].strip() for a, b in sentence_spans(passage) if a <= at < b), "")


def lacking(passage: str, answers: list[str], least: int = 20) -> str:
    """The sentences of ``passage`` that contain no answer; empty if they have fewer than ``least`` words."""
    kept = " ".join(s.strip() for s in sentences(passage) if not holds(s, answers))
    return kept if len(kept.split()) >= least else ""


def wrong_spans(passage: str, answers: list[str], count: int, rng: Random) -> list[str]:
    """Other spans of ``passage`` of the first answer's kind (number, name, words) and length; none overlaps an answer."""
    gold = answers[0]
    banned = [_plain(a) for a in answers]
    found = [m.strip(" .,;:'\"") for m in _candidates(passage, gold, rng)]
    other = [f for f in dict.fromkeys(found) if f and not any(_plain(f) in b or b in _plain(f) for b in banned if b)]
    rng.shuffle(other)
    return other[:count]


def _candidates(passage: str, gold: str, rng: Random) -> list[str]:
    if re.search(r"\d", gold):
        found = _NUMBER.findall(passage)
    elif gold[:1].isupper():
        found = _NAME.findall(passage)
    else:
        found = []
    return found if len(found) > 1 else [*found, *_word_spans(passage, len(gold.split()), rng)]


def _word_spans(passage: str, length: int, rng: Random) -> list[str]:
    """Runs of about ``length`` words that neither begin nor end with a function word, nor cross a punctuation mark."""
    runs = [run.split() for run in re.split(r"[.,;:!?()\"]", passage)]
    found = []
    for run in rng.sample(runs, len(runs)):
        start = rng.randrange(max(1, len(run) - length + 1))
        words = run[start : start + max(1, length)]
        while words and words[0].lower() in FUNCTION_WORDS:
            words = words[1:]
        while words and words[-1].lower() in FUNCTION_WORDS:
            words = words[:-1]
        if words:
            found.append(" ".join(words))
    return found[:8]


def _plain(value: str) -> str:
    return re.sub(r"[\W_]+", " ", value.lower()).strip()


def holds(passage: str, answers: list[str]) -> bool:
    """Whether one of ``answers`` occurs in ``passage``, case and punctuation aside."""
    inside = f" {_plain(passage)} "
    return any(_plain(a) and f" {_plain(a)} " in inside for a in answers)

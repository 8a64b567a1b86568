"""The sentence of a passage that an answer rests on, with its offsets. Pure: texts in, offsets out.

Words that occur in the passage are found by text match, ignoring case, spacing, quotation marks and emphasis; of several
matches, the one whose sentence has most of the question's words wins. Other words are aligned to the sentence, or two
consecutive ones, that shares the most words with them, rare words counting more. The quote of an answer that explains goes on
with the rest of its paragraph, while it is short.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from selfrag.algorithm.sentences import ROOM, Unit, is_row, leads, points, readable, units
from selfrag.algorithm.words import content_words, is_wide, words

LEAST = 0.25
"""The share of a paraphrase's words, by weight, that a sentence must have to count as what it rests on."""
ASKED = 2
"""Words of the question that the sentence beside a quote must add for it to be quoted too."""
SECOND = 0.2
"""What a second sentence must add to that share to be quoted too."""

_HOW = re.compile(r"\s*how (?:do|does|can|could|should|would|to|is|are)\b", re.IGNORECASE)
_PRONOUN = re.compile(
    r"(?:it|its|they|their|he|his|she|her|this|these|those|such|both"
    r"|(?:in|for|with|by|of|on|to) (?:this|that|these|those|both))\s+\w",
    re.IGNORECASE,
)
_TITLE = re.compile(r"[^\n.!?:;,]{1,40}\n\s*[^\W\d_a-z]")
"""A short line above a sentence, as titles are in text without markup."""


@dataclass(frozen=True, slots=True)
class Found:
    """A quote of a text, ``text[start:end]``. ``span`` says where in the quote the written words stand, None for a paraphrase."""

    start: int
    end: int
    span: tuple[int, int] | None = None


def quote_of(written: str, text: str, question: str = "") -> Found | None:
    """The part of ``text`` that ``written`` rests on; None if they share too little."""
    parts = units(text)
    if not parts or not written.strip():
        return None
    places = occurrences(written, text)
    if not places:
        return aligned(written, text, parts, question)
    asked = set(content_words(question))
    quotes = [(_around(place, parts), place) for place in places]

    def fits(quote: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, bool]:
        (first, last), _ = quote
        return _shared(asked, text, parts[first : last + 1]), not parts[first].opens

    (first, last), (start, end) = max(quotes, key=fits)
    first, last = _with_what_was_asked(first, last, parts, text, asked)
    first = _with_its_subject(first, last, parts, text)
    begin, stop = readable(first, _with_code(last, parts, text, question), parts, text)
    return Found(begin, stop, (max(start, begin) - begin, min(end, stop) - begin))


def _around(place: tuple[int, int], parts: Sequence[Unit]) -> tuple[int, int]:
    """The first and the last unit that ``place`` lies in."""
    within = [i for i, unit in enumerate(parts) if unit.start < place[1] and place[0] < unit.end]
    if within:
        return within[0], within[-1]
    nearest = min(range(len(parts)), key=lambda i: abs(parts[i].start - place[0]))
    return nearest, nearest


def _with_what_was_asked(first: int, last: int, parts: Sequence[Unit], text: str, asked: set[str]) -> tuple[int, int]:
    """The units, plus the sentence after them, or else before, if that contains words of the question that they lack.

    A name is in the sentence that introduces it, the fact asked about it often in the next.
    """

    def words(unit: Unit) -> set[str]:
        return asked & {*content_words(text[unit.start : unit.end])}

    has = set().union(*(words(unit) for unit in parts[first : last + 1]))
    for beside in (last + 1, first - 1):
        if 0 <= beside < len(parts) and not parts[beside].opens and parts[beside].block == parts[first].block:
            more = words(parts[beside]) - has
            if len(more) >= ASKED and len(more) >= 0.4 * len(asked):
                return min(first, beside), max(last, beside)
    return first, last


def _with_its_subject(first: int, last: int, parts: Sequence[Unit], text: str) -> int:
    """The first unit; if it begins with a pronoun, the sentence before it in the paragraph, which names the subject."""
    before = first - 1
    if before < 0 or parts[before].opens or not _PRONOUN.match(text, parts[first].start):
        return first
    together = "\n\n" not in text[parts[before].end : parts[first].start] and parts[before].block == parts[first].block
    return before if together and parts[last].end - parts[before].start <= ROOM else first


def _with_code(last: int, parts: Sequence[Unit], text: str, question: str) -> int:
    """The last unit; if the question asks how, the last unit of a code block that follows directly."""
    if last + 1 == len(parts) or parts[last].block or not _HOW.match(question):
        return last
    between = text[parts[last].end : parts[last + 1].start]
    block = parts[last + 1].block
    if block is None or not re.fullmatch(r"\s*(?:```|~~~)[^\n]*\n\s*", between):
        return last
    end = max(i for i, unit in enumerate(parts) if unit.block == block)
    return end if parts[end].end - parts[last].start <= ROOM else last


def continued(found: Found, text: str, most: int) -> Found:
    """``found``, if it is prose, with the sentences that follow it in its paragraph, up to ``most`` words in all, and the list or
    code that the last one leads to. It ends before a title, a question and words that only point elsewhere."""
    parts = units(text)
    last = max((i for i, unit in enumerate(parts) if unit.start < found.end), default=len(parts))
    while last + 1 < len(parts) and not parts[last].block and _follows(parts[last], parts[last + 1], text):
        lead, end = parts[last + 1], parts[last + 1].end
        if lead.opens:
            end = readable(last + 1, last + 1, parts, text)[1]
        last = max(i for i, unit in enumerate(parts) if unit.start < end)
        if lead.opens:
            whole = last + 1 == len(parts) or not parts[last].block or parts[last].block != parts[last + 1].block
            room = whole and lead.end < end <= found.start + ROOM
        else:
            room = len(words(text[found.start : end], wide=1)) <= most
        if not room:
            break
        found = replace(found, end=end)
    return found


def _follows(unit: Unit, following: Unit, text: str) -> bool:
    """Whether ``following`` goes on with what ``unit`` says."""
    between, said = text[unit.end : following.start], text[following.start : following.end]
    if following.block or "#" in between or re.search(r"\n\s*\n", between):
        return False
    titled = "\n" in between and _TITLE.match(said)
    return not (titled or said.endswith("?") or points(said) or is_row(said) or (following.opens and not leads(said)))


def _shared(wanted: set[str], text: str, found: Iterable[Unit]) -> int:
    return len(wanted & {word for unit in found for word in content_words(text[unit.start : unit.end])})


# --- words of the text ----------------------------------------------------------------------------------------------------------

_SAME = str.maketrans({**dict.fromkeys("‘’‚‛′`´", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—―−", "-")})
_DROPPED = frozenset("*_`'\u00ad\u200b\u200c\u200d\ufeff")


def folded(text: str) -> tuple[str, list[int]]:
    """``text`` normalised in case, dashes, quotation marks, emphasis and white space, and for each of its characters the offset
    in ``text``."""
    found: list[str] = []
    offsets: list[int] = []
    for offset, character in enumerate(text):
        for folded_one in unicodedata.normalize("NFKC", character).translate(_SAME).casefold():
            if folded_one in _DROPPED:
                continue
            if folded_one.isspace():
                if found and found[-1] != " ":
                    found.append(" ")
                    offsets.append(offset)
                continue
            found.append(folded_one)
            offsets.append(offset)
    return "".join(found), offsets


def occurrences(written: str, text: str) -> list[tuple[int, int]]:
    """The offsets in ``text`` at which ``written`` occurs as whole words, ignoring the full stop that a model may have put at
    its end."""
    whole, offsets = folded(text)
    needle = folded(written)[0].strip()
    for wanted in (needle, needle.strip(' .,;:!?"。，、！？')):
        if wanted and (places := list(_places(wanted, whole))):
            return [(offsets[a], offsets[b - 1] + 1) for a, b in places]
    return []


def _places(needle: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(needle)
    while start >= 0:
        end = start + len(needle)
        if not (_joined(text, start) or _joined(text, end)):
            yield start, end
        start = text.find(needle, start + 1)


def _joined(text: str, at: int) -> bool:
    """Whether ``at`` lies inside a word. In scripts without spaces, or before a Korean particle, it does not."""
    return 0 < at < len(text) and all(c.isalnum() and not is_wide(c) for c in text[at - 1 : at + 1])


# --- other words ----------------------------------------------------------------------------------------------------------------


def aligned(written: str, text: str, parts: Sequence[Unit], question: str = "") -> Found | None:
    """The unit, or two consecutive ones, that shares the most with ``written``. The question's words break ties, and replace
    the written ones if no unit has any of those (yes, no, a label)."""
    words = [set(content_words(text[unit.start : unit.end])) for unit in parts]
    rarity = _rarity(words)
    said, asked = set(content_words(written)), set(content_words(question))
    if not any(said & unit for unit in words):
        said = asked
    total = sum(rarity(word) for word in said)

    def share(unit: set[str]) -> float:
        return sum(rarity(word) for word in said & unit) / total if total else 0.0

    best = max(range(len(parts)), key=lambda i: (round(share(words[i]), 6), len(asked & words[i])))
    if share(words[best]) < LEAST:
        return None
    first = last = best
    before = [] if parts[best].opens else [best - 1]  # what opens leads to the next one
    beside = [i for i in (*before, best + 1) if 0 <= i < len(parts)]
    other = max(beside, key=lambda i: share(words[best] | words[i]), default=best)
    if share(words[best] | words[other]) - share(words[best]) >= SECOND:
        first, last = min(best, other), max(best, other)
    first = _with_its_subject(first, last, parts, text)
    return Found(*readable(first, last, parts, text))


class _rarity:
    """How well a word locates a position in a text: better, the fewer of its units contain it."""

    def __init__(self, words: Sequence[set[str]]) -> None:
        self.count = len(words)
        self.having = Counter(word for unit in words for word in unit)

    def __call__(self, word: str) -> float:
        return math.log((1 + self.count) / (0.5 + max(1, self.having[word])))

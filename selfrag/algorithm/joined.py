"""An answer from several passages: the best sentence, then what other candidates add to it. Pure: paths in, path out.

A model that ends its answer after one sentence has still judged a sentence from each of several passages. For an open question
(what is, how, why, which), those that it rates useful by themselves, and that say something new, belong to the answer, too. So
does what a search of its own finds on each side of a question with two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from selfrag.algorithm import reflection
from selfrag.algorithm.beam import Path
from selfrag.algorithm.words import content_words
from selfrag.types import SearchOptions, Segment

MOST = 3
"""Segments of such an answer."""
NEW = 0.5
"""The share of a segment's content words that neither the question nor the answer has yet."""
PART = -0.5
"""The ISUSE that the sentence about one of several things must exceed: as an answer to the whole question it falls short."""
EXPLAINED, LISTED = 50, 60
"""Words up to which a quote goes on, where the question asks to explain and where it asks for several things."""

_ONE = re.compile(
    r"(?:and |so |but )?(?:(?:in|on|at|to|from|of|for|by|with) )?"
    r"(?:who(?:se|m)? (?!are\b|were\b)|when\b|where\b"
    r"|which (?!(?:\w+ ){0,3}\w+s (?:are|were|do|have|can|could|should|must|may)\b)"
    r"|what (?:\w+ )?\w*[^s\W] (?:is|was|does|did|has|had|can)\b"
    r"|what (?:is|was) (?:the|its|their) (?:name|number|capital|population|first|last|only|\w+est)\b"
    r"|how (?:many|much|old|tall|long|far|big|large|fast|often|high|deep|heavy)\b"
    r"|(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should)\b)",
    re.IGNORECASE,
)


_SEVERAL = re.compile(
    r"(?:and |so |but )?(?:who|what|which|name|list)(?: are| were)?(?: (?:the|some|his|her|its|their)(?: \w+)?)?"
    r" (?:two|three|four|five|six|seven|eight|nine|ten)\b(?!-)",
    re.IGNORECASE,
)


def asks_for_several(question: str) -> bool:
    """Whether ``question`` asks for a number of things (the first two people, which three), by its first words; English only.
    One passage may name one of them, another passage the other."""
    return bool(_SEVERAL.match(question.strip()))


_TWO = re.compile(
    r"\s*(?:"
    r"(?:what(?:'s|’s| is| are) )?(?:the )?(?:main |key )?differences? between (.+?) and (.+?)"
    r"|compare (.+?) (?:and|with|to) (.+?)"
    r"|how (?:does|do|is|are) (.+?) (?:differ(?:ent)? from|compare (?:to|with)) (.+?)"
    r"|(.+?) (?:vs\.?|versus) (.+?)"
    r"|(.+?) or (.+?): (?:which|what) .+?"
    r"|(?:which|who)(?: [\w-]+)? (?:is|was|has|had) (?:the )?[^,:]+[,:] (.+?) or (.+?)"
    r"|(?:is|are|was|were) (?!it |this |that |there )(.+?)"
    r" (?:more [\w-]+|less [\w-]+|(?!rather |other )[\w-]{2,}er|worse)(?: (?:from|to|in) (?:the )?[\w-]+)? than (.+?)"
    r"|(?:is|are|was|were) (.+?) (?:born|built|founded|invented|made|opened|published|released|written)"
    r" (?:before|after|earlier than|later than) (.+?)"
    r")[\s.?!]*",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"\s*(?:does|do|did) (.+?) have (?:an? )?(?:more|less|fewer|[\w-]{2,}er) (?P<what>.+?) than (.+?)"
    r"(?: (?:does|do|did|has|have))?[\s.?!]*",
    re.IGNORECASE,
)
"""A comparison by a property, as in `Does A have a larger area than B?`."""
_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)


def sides(question: str) -> dict[str, frozenset[str]]:
    """Each side of a question with two (``the difference between A and B``) as a question, with the words that name it and not
    the other; none for other questions. English."""
    match = _TWO.fullmatch(question)
    by = None if match else _MORE.fullmatch(question)
    names = [name for name in match.groups() if name] if match else [by[1], by[3]] if by else []
    names = [_ARTICLE.sub("", name, count=1) for name in names]
    one, other = ({*content_words(name)} for name in names) if names else (set(), set())
    found = zip(names, (one - other, other - one), strict=False)
    asked = f"What is the {by['what']} of {{}}?" if by else "What is {}?"
    return {asked.format(name): frozenset(words) for name, words in found if words and len(name.split()) <= 5}


def asks_for_one(question: str) -> bool:
    """Whether ``question`` asks for a single fact (who, when, how many, yes or no), by its first words; English only."""
    return bool(_ONE.match(question.strip())) and not asks_for_several(question) and not sides(question)


_OPEN = re.compile(
    r"(?:and |so |but )?(?:how|why|explain|describe|compare|define"
    r"|what(?: are| if| happens| should| can| could| would| does| do| causes| to"
    r"|(?:'s|’s| is)(?! the (?:[\w-]+ ){1,4}(?:of|in|on|for|from|that)\b)"
    r"|(?:'s|’s| is) the (?:main |real |best |right |usual |recommended )?"
    r"(?:purpose|point|meaning|role|function|idea|concept|benefit|advantage|reason|cause|effect|way))"
    r"|(?:what|which) (?:\w+ ){0,3}\w+s (?:are|do|does|have|can|could|should|must|may))\b",
    re.IGNORECASE,
)


_YES_OR_NO = re.compile(r"(?:and |so |but )?(?:is|are|am|does|do|has|have|can|could|will|would|should|may|must)\b", re.IGNORECASE)


def asks_to_explain(question: str) -> bool:
    """Whether an answer to ``question`` needs more than a fact, by its first words: what is, how do I, why, and yes or no, which
    says little without its reasons; not what was or did. English only."""
    opened = _OPEN.match(question.strip()) and not asks_for_one(question)
    return bool(opened or _YES_OR_NO.match(question.strip()) or sides(question))


def unsaid(question: str, answer: Iterable[Path]) -> dict[str, frozenset[str]]:
    """The `sides` of ``question`` that ``answer`` names by no word."""
    said = {word for path in answer for word in content_words(path.segments[0].text)}
    return {side: name for side, name in sides(question).items() if not name & said}


def allowed(question: str, options: SearchOptions) -> int:
    """The largest number of segments of a joined answer to ``question``."""
    return 1 if _one_sentence(options) or asks_for_one(question) else min(MOST, options.max_segments)


def _one_sentence(options: SearchOptions) -> bool:
    """Whether ``options`` ask for one sentence, whatever the question is."""
    return options.join_isuse >= 1 or options.max_segments == 1 or bool(options.choices)


def goes_on(question: str, place: int, options: SearchOptions) -> int:
    """Words up to which the quote of segment ``place`` (from 0) of the answer goes on with the sentences that follow; 0: not."""
    if _one_sentence(options):
        return 0
    if asks_for_several(question):
        return LISTED
    return EXPLAINED if not place and asks_to_explain(question) else 0


def joinable(best: Path, question: str, options: SearchOptions) -> bool:
    """Whether anything may be added to the answer ``best``."""
    one = len(best.segments) == 1 and best.finished and bool(best.segments[0].text)
    return one and allowed(question, options) > 1 and not reflection.doubtful(best.segments, options)


def additions(best: Path, others: Iterable[Path], question: str, options: SearchOptions) -> list[Path]:
    """Those of ``others``, in order of score, whose segment extends the answer ``best``.

    Each has one segment, from a passage that is not used yet, useful by itself, and no reason to abstain. Only
    what a beam keeps counts, so that the answer is the same whatever was pruned.
    """
    most = allowed(question, options)
    if not joinable(best, question, options):
        return []
    answer = [best]
    for other in sorted(others, key=lambda path: path.rank)[: options.beam_width]:
        if len(answer) >= most:
            break
        if other.id != best.id and _belongs(other.segments[0], [path.segments[0] for path in answer], question, options):
            answer.append(other)
    return answer[1:]


def told_of_sides(answer: Sequence[Path], found: Mapping[str, Path], question: str, options: SearchOptions) -> list[Path]:
    """Those of ``found``, the best path for each side of ``question`` that ``answer`` does not name, that name it and may be
    added by the rule of `additions`; they need say nothing else that is new."""
    more: list[Path] = []
    for side, name in unsaid(question, answer).items():
        used = {path.passage.chunk for path in (*answer, *more) if path.passage}
        path = found.get(side)
        if path and path.passage and path.passage.chunk not in used and len(used) < options.max_segments:
            segment = path.segments[0]
            more += [path] if is_useful(segment, question, options) and name <= {*content_words(segment.text)} else []
    return more


def joined(best: Path, more: Sequence[Path]) -> Path:
    """One answer of ``best`` and the segments of ``more``."""
    whole = (best, *more)
    segments = tuple(chain.from_iterable(path.segments for path in whole))
    return replace(best, segments=segments, scores=tuple(chain.from_iterable(path.scores for path in whole)))


def is_useful(segment: Segment, question: str, options: SearchOptions) -> bool:
    """Whether ``segment`` by itself is useful enough to extend an answer. Where several things are asked for, a sentence that
    names one of them answers in part: there `PART` is enough."""
    least = min(options.join_isuse, PART) if asks_for_several(question) else options.join_isuse
    useful = segment.critique.isuse > least and segment.critique.isuse >= options.abstain_isuse
    return useful and segment.passage is not None and not reflection.doubtful((segment,), options)


def _belongs(segment: Segment, answer: Sequence[Segment], question: str, options: SearchOptions) -> bool:
    if not is_useful(segment, question, options) or segment.passage is None:
        return False
    if any(used.passage and used.passage.chunk == segment.passage.chunk for used in answer):
        return False
    said = {*content_words(question), *(word for used in answer for word in content_words(used.text))}
    words = content_words(segment.text)
    return sum(word not in said for word in words) >= NEW * len(words) > 0

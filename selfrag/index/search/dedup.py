"""Near-duplicate texts by shingles (Broder 1997). Pure."""

from __future__ import annotations

from selfrag.index.search.fulltext import tokens

SIZE, SHARE = 4, 0.85


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The set of runs of `SIZE` words (CJK: character pairs) of ``text``, for comparing texts."""
    found = tokens(text.lower())
    return frozenset(tuple(found[at : at + SIZE]) for at in range(max(1, len(found) - SIZE + 1)))


def near_duplicates(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    """Whether at least `SHARE` of all shingles are in both (Jaccard; Broder 1997)."""
    common = len(one & other)
    return common >= SHARE * (len(one) + len(other) - common)

"""Near-duplicate texts by shingles (Broder 1997). Pure."""

from __future__ import annotations

from selfrag.index.search.fulltext import tokens


def shingles(text: str, size: int = 4) -> frozenset[tuple[str, ...]]:
    """The set of runs of ``size`` words (CJK: character pairs) of ``text``, for comparing texts."""
    found = tokens(text.lower())
    return frozenset(tuple(found[at : at + size]) for at in range(max(1, len(found) - size + 1)))


def near_duplicates(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]], share: float = 0.85) -> bool:
    """Whether at least ``share`` of all shingles are in both (Jaccard; Broder 1997)."""
    common = len(one & other)
    return common >= share * (len(one) + len(other) - common)

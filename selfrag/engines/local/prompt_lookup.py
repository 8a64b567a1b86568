"""Guesses of the next tokens of a text that repeats itself, for example an answer that copies its passage.

The model checks the guesses in the same pass as the last token, and keeps those that it would have generated: the same tokens in
fewer passes (prompt lookup decoding). Works on ids only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

_ALIKE = 8
"""Texts with so many ids in common at their ends are as alike as any."""


class PromptLookup:
    """Finds continuations of a growing sequence of ids, which begins with ``ids``."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids: list[int] = []
        self._after: dict[int, list[int]] = {}
        """For each id the places that follow one, in order."""
        for token in ids:
            self.append(token)

    def append(self, token: int) -> None:
        self._ids.append(token)
        self._after.setdefault(token, []).append(len(self._ids))

    def next(self, most: int) -> Sequence[int]:
        """At most ``most`` ids: those after the longest earlier match of the end of the sequence; of equals the latest.

        Empty if the last id is new; few after a short match: a single word continues in the same way a fifth of the time, three
        or more words nineteen times in twenty.
        """
        ids, end = self._ids, len(self._ids)
        best, longest = 0, 0
        for place in reversed(self._after.get(ids[-1], ()) if ids else ()):
            if place < end and (length := self._alike(place)) > longest:
                best, longest = place, length
        return ids[best : best + min(most, longest**2)] if best else ()

    def _alike(self, place: int) -> int:
        """The length of the match of the ids before ``place`` with those at the end, up to the limit that matters."""
        ids, end = self._ids, len(self._ids)
        return next(n for n in count(1) if n >= min(place, _ALIKE) or ids[place - 1 - n] != ids[end - 1 - n])

"""The prefix cache: which keys and values to keep, and which of them a new sequence can reuse.

Later requests may share any computed sequence as a prefix: the search prefills a passage to score it, continues from there to
generate, and appends the next passage to the generated text. Bounded in tokens; the least recently used go first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from collections.abc import Sequence as Values
from typing import Any

from selfrag.engines.local.sequence import Sequence

_ROUND = 64


class PrefixCache:
    """Sequences in use (``active``) and sequences kept for their prefixes; together at most ``limit`` tokens of room, or one
    larger sequence alone."""

    def __init__(self, allocate: Callable[[int], Any], limit: int) -> None:
        self._allocate = allocate
        self._limit = limit
        self._idle: list[Sequence] = []  # least recently used first
        self.active: list[Sequence] = []

    @property
    def tokens(self) -> int:
        """The capacity in tokens of all sequences now."""
        return sum(sequence.capacity for sequence in (*self._idle, *self.active))

    def claim(self, ids: Values[int], more: int) -> Sequence | None:
        """An active sequence for the tokens ``ids`` with room for ``more``, which shares the longest cached prefix.

        At least the last token remains to be computed. None if active sequences leave no room, until one is released.
        """
        capacity = -(-(len(ids) + more) // _ROUND) * _ROUND
        if self.active and sum(sequence.capacity for sequence in self.active) + capacity > self._limit:
            return None
        best, length = self._longest(ids)
        sequence = self._extended(best, length, capacity) if best else None
        if sequence is None:
            self._make_room(capacity)
            sequence = Sequence([], self._allocate(capacity), shared=(best.kv, length) if best else None)
        sequence.tokens = list(ids)
        self.active.append(sequence)
        return sequence

    def release(self, sequence: Sequence) -> None:
        """Keeps a sequence for reuse, replacing kept prefixes of it."""
        self.active.remove(sequence)
        del sequence.tokens[sequence.computed :]
        if sequence.tokens:
            self._idle = [idle for idle in self._idle if sequence.tokens[: len(idle.tokens)] != idle.tokens]
            self._idle.append(sequence)

    def clear(self) -> None:
        self._idle.clear()
        self.active.clear()

    def missing(self, ids: Values[int]) -> int:
        """How many of ``ids`` are not in the cache."""
        return len(ids) - self._longest(ids)[1]

    def _longest(self, ids: Values[int]) -> tuple[Sequence | None, int]:
        best, length = None, 0
        for sequence in (*self.active, *self._idle):
            common = min(common_prefix(sequence.tokens, ids), len(ids) - 1)
            if common >= max(length, 1):  # of equals an idle one, which may be extended where it lies
                best, length = sequence, common
        return best, length

    def _extended(self, sequence: Sequence, length: int, capacity: int) -> Sequence | None:
        """An idle sequence that ``ids`` extend is used without a copy; any other is marked as used. One too small to extend is
        dropped, since it is copied into the larger one.
        """
        if sequence not in self._idle:
            return None
        self._idle.remove(sequence)
        if length < len(sequence.tokens):
            self._idle.append(sequence)
        elif capacity <= sequence.capacity:
            return sequence
        return None

    def _make_room(self, capacity: int) -> None:
        while self._idle and self.tokens + capacity > self._limit:
            del self._idle[0]


def common_prefix(left: Values[int], right: Values[int]) -> int:
    """The length of the common prefix of two sequences."""
    lengths = range(1, min(len(left), len(right)) + 1)
    return bisect_left(lengths, True, key=lambda n: left[:n] != right[:n])

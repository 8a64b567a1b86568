"""Which keys and values are kept, and which of them a new token sequence can start from.

Every row that was ever computed is a prefix that later requests may share: the search reads a passage to judge it, goes on
from there to write, and puts the next passage behind what it wrote. Counted in tokens; the least recently used go first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from selfrag.engines.local.torch_model import Row

if TYPE_CHECKING:
    import torch

_ROUND = 64


class Prefixes:
    """Rows in use (``active``) and rows kept for their prefixes; together at most ``limit`` tokens, or one larger row alone."""

    def __init__(self, allocate: Callable[[int], torch.Tensor], limit: int) -> None:
        self._allocate = allocate
        self._limit = limit
        self._idle: list[Row] = []  # least recently used first
        self.active: list[Row] = []

    @property
    def tokens(self) -> int:
        """Tokens of room that rows take now."""
        return sum(row.capacity for row in (*self._idle, *self.active))

    def claim(self, ids: Sequence[int], more: int) -> Row | None:
        """An active row for the tokens ``ids`` with room for ``more``, which shares the longest prefix that any row has.

        At least the last token is left to compute. None when active rows leave no room, until one of them is released.
        """
        capacity = -(-(len(ids) + more) // _ROUND) * _ROUND
        if self.active and sum(row.capacity for row in self.active) + capacity > self._limit:
            return None
        best, length = self._longest(ids)
        row = self._extended(best, length, capacity) if best else None
        if row is None:
            row = Row([], self._allocate(capacity), shared=(best.kv, length) if best else None)
        row.tokens = list(ids)
        self.active.append(row)
        self._evict()
        return row

    def release(self, row: Row) -> None:
        """Keeps a row for its prefix, in place of those that are prefixes of it."""
        self.active.remove(row)
        del row.tokens[row.computed :]
        self._idle = [idle for idle in self._idle if row.tokens[: len(idle.tokens)] != idle.tokens]
        self._idle.append(row)
        self._evict()

    def clear(self) -> None:
        self._idle.clear()
        self.active.clear()

    def _longest(self, ids: Sequence[int]) -> tuple[Row | None, int]:
        best, length = None, 0
        for row in (*self.active, *self._idle):
            common = min(common_prefix(row.tokens, ids), len(ids) - 1)
            if common >= max(length, 1):  # of equals an idle one, which may be extended where it lies
                best, length = row, common
        return best, length

    def _extended(self, row: Row, length: int, capacity: int) -> Row | None:
        """An idle row that ``ids`` merely go on from needs no copy; any other is marked as used."""
        if row not in self._idle:
            return None
        self._idle.remove(row)
        if length == len(row.tokens) and capacity <= row.capacity:
            return row
        if length < len(row.tokens):
            self._idle.append(row)
        return None

    def _evict(self) -> None:
        while self._idle and self.tokens > self._limit:
            del self._idle[0]


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences start with in common."""
    lengths = range(1, min(len(left), len(right)) + 1)
    return bisect_left(lengths, True, key=lambda n: left[:n] != right[:n])

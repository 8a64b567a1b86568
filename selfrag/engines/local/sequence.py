"""Token sequences with their keys and values, and the interface between the scheduler and a model that computes them."""

from __future__ import annotations

from collections.abc import Sequence as Values
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens with their keys and values, an array of shape (layers, 2, key-value heads, capacity, head size).

    The first ``computed`` of ``tokens`` have theirs; the others get them in the next step, which first copies those of the first
    ``shared[1]`` tokens from the sequence ``shared[0]``, which may be computed in the same step.

    The last ``guessed`` of ``tokens`` are guesses; the model also computes the token after each of them.
    """

    tokens: list[int]
    kv: Any
    computed: int = 0
    shared: tuple[Any, int] | None = None
    guessed: int = 0

    @property
    def capacity(self) -> int:
        return int(self.kv.shape[-2])

    @property
    def start(self) -> int:
        """How many of the tokens are computed already."""
        return self.shared[1] if self.shared else self.computed


@dataclass(frozen=True, slots=True)
class Next:
    """The likeliest next token, and the log-probabilities of the watched ids, in their order."""

    token: int
    logprob: float
    watched: Values[float]


class LanguageModel(Protocol):
    """Computes sequences, in one thread, within ``running``.

    ``context`` is the largest number of tokens of a sequence, ``embeddings`` the number of ids, ``kv_bytes`` the size of one
    token's keys and values, ``step_tokens`` about how many tokens a step should prefill at most.
    """

    context: int
    embeddings: int
    step_tokens: int

    @property
    def kv_bytes(self) -> int: ...

    def running(self) -> AbstractContextManager[object]: ...

    def allocate(self, capacity: int) -> Any:
        """Uninitialised keys and values for ``capacity`` tokens."""
        ...

    def forward(self, sequences: Values[Sequence], watched: Values[Values[int]]) -> list[list[Next]]:
        """Computes the new tokens of every sequence; returns the next token after its last token that is no guess, and after each
        guess. ``watched`` has ids for each sequence."""
        ...

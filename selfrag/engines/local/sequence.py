"""Token sequences with their keys and values, and the interface between the scheduler and a model that computes them."""

from __future__ import annotations

from collections.abc import Sequence as Values
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens with their keys and values, an array of shape (layers, 2, key-value heads, capacity, head size).

    The first ``computed`` of ``tokens`` have theirs; the rest get them in the next step, which first copies those of the
    first ``shared[1]`` tokens out of ``shared[0]``, another sequence's, which may be computed in the same step.

    The last ``guessed`` of ``tokens`` are guesses at what the model will write: it says what follows each of them, too.
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
        """How many of the tokens need no computation."""
        return self.shared[1] if self.shared else self.computed


@dataclass(frozen=True, slots=True)
class Next:
    """The likeliest token after some others, and the log-probabilities of the ids that were asked for, in their order."""

    token: int
    logprob: float
    watched: Values[float]


class LanguageModel(Protocol):
    """Computes sequences, in one thread, within ``running``.

    ``context`` is the most tokens that a sequence may have, ``embeddings`` how many ids there are, ``kv_bytes`` the size of one
    token's keys and values, ``step_tokens`` about how many tokens a step should prefill at most.
    """

    context: int
    embeddings: int
    step_tokens: int

    @property
    def kv_bytes(self) -> int: ...

    def running(self) -> AbstractContextManager[object]: ...

    def allocate(self, capacity: int) -> Any:
        """Keys and values of ``capacity`` tokens, not initialised."""
        ...

    def forward(self, sequences: Values[Sequence], watched: Values[Values[int]]) -> list[list[Next]]:
        """Computes the new tokens of every sequence; returns what follows its last token that is no guess, and each guess.
        ``watched`` holds ids for each sequence."""
        ...

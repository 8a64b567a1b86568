"""Collects the tokens of one completion from an external engine and enforces the request's limits.

Shared by the engines that receive ids with log-probabilities (vLLM in process, a server). Stop tokens and the token limit are
enforced here, in case the engine ignored them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.types import Completion, Finish, OnToken, Request, Token


class CompletionBuilder:
    """Turns delivered ids into ``Token`` values until the request is satisfied; ``finish`` is None as long as it is not."""

    def __init__(self, tokenizer: PromptTokenizer, request: Request, prompt: Sequence[int], on_token: OnToken | None) -> None:
        self.tokens: list[Token] = []
        self.finish: Finish | None = None
        self.exact = True
        self._watched = tokenizer.watched(request)
        self._stops, self._ends = tokenizer.stops(request), tokenizer.ends
        self._reader = tokenizer.reader(prompt)
        self._limit, self._on_token = request.max_tokens, on_token

    @property
    def watched_ids(self) -> list[int]:
        """The ids whose log-probabilities are requested at every position, each once."""
        return sorted(set(self._watched.values()))

    @property
    def stop_ids(self) -> list[int]:
        return sorted(self._stops | self._ends)

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    def add(self, token_id: int, logprobs: Mapping[int, float]) -> bool:
        """Takes the next token and the log-probabilities reported at its position, its own included; returns whether more is
        wanted.
        """
        if self.finish is not None:
            return False
        watched = {name: logprobs[i] for name, i in self._watched.items() if math.isfinite(logprobs.get(i, -math.inf))}
        self.exact &= len(watched) == len(self._watched)
        token = self._reader.token(token_id, logprobs[token_id], watched)
        self.tokens.append(token)
        self.finish = self._ending(token_id)
        if self._on_token is not None and not self._on_token(token):
            self.finish = "cancelled"
        return self.finish is None

    def completion(self, prompt_tokens: int, cached_tokens: int = 0) -> Completion:
        """The completion; one that stopped short of its limit was cut off by the model's context window."""
        return Completion(tuple(self.tokens), self.finish or "length", prompt_tokens, cached_tokens, self.exact)

    def _ending(self, token_id: int) -> Finish | None:
        if token_id in self._ends:
            return "end"
        if token_id in self._stops:
            return "stop"
        return "length" if len(self.tokens) >= self._limit else None

"""Token ids over ``/v1/completions``, in vLLM's dialect: the bodies that are sent, and the answers read back to positions.

Knows no address. Ids are told as ``token_id:N`` in place of texts (``return_tokens_as_token_ids``), so that no position is
lost to a text that is not a whole character.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfrag.engines.completion_builder import Collector
from selfrag.errors import EngineError

_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Ability:
    """What a server was found to do: the name it has for the model, its context window (tokens; None if it does not say),
    whether it tells named ids' log-probabilities, and otherwise the length of its top-k lists."""

    served: str
    window: int | None
    exact: bool
    top: int


def common(served: str) -> dict[str, Any]:
    """Greedy, with ids beside the text; what a server does not know of this it ignores, as the probe finds out."""
    return {
        "model": served,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "skip_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def payload(ability: Ability, prompt: list[int], limit: int, collector: Collector) -> dict[str, Any]:
    body = common(ability.served) | {"prompt": prompt, "max_tokens": limit, "stop_token_ids": collector.stop_ids}
    watched = collector.watched_ids
    if ability.exact and watched:
        return body | {"logprobs": 1, "logprob_token_ids": watched}
    return body | {"logprobs": ability.top if watched else 1}


def take(collector: Collector, choice: Mapping[str, Any], where: str) -> bool:
    """Adds what a choice, or a streamed piece of one, tells; whether the rest of the answer is worth waiting for.

    Raises:
        EngineError: for a choice that tells no ids.
    """
    try:
        positions = list(_positions(choice))
    except _MALFORMED as error:
        raise EngineError(f"{where} answers in a form that is not vLLM's ({error!r})") from error
    wanted = all(collector.add(token_id, told) for token_id, told in positions)
    ended = choice.get("finish_reason")
    if ended == "stop" and collector.finish is None:  # at an end token that this server keeps to itself
        collector.finish = "end"
    return collector.finish != "cancelled" and (wanted or ended is not None)


def told_ids(answer: Mapping[str, Any], where: str) -> set[int]:
    """The ids whose log-probabilities a probe was told at its only position.

    Raises:
        EngineError: for a server that takes no ids or tells none.
    """
    try:
        return set(next(_positions(answer["choices"][0]))[1])
    except (*_MALFORMED, StopIteration):
        raise EngineError(
            f"{where} tells no token ids, without which reflection tokens cannot be told from words",
            "serve the model with `selfrag serve`, or let this one reflect in words: --reflection prompted",
        ) from None


def _positions(choice: Mapping[str, Any]) -> Iterator[tuple[int, dict[int, float]]]:
    """Generated ids, each with the log-probabilities told at its position, its own among them."""
    told = choice.get("logprobs") or {}
    tops = told.get("top_logprobs") or []
    for token, logprob, top in zip(told.get("tokens") or [], told.get("token_logprobs") or [], tops, strict=True):
        token_id = _id(token)
        yield token_id, {_id(name): float(value) for name, value in (top or {}).items()} | {token_id: float(logprob)}


def _id(name: str) -> int:
    """The id in vLLM's ``token_id:N``; ValueError for a token that is told by its text."""
    prefix, _, number = name.partition(":")
    if prefix != "token_id":
        raise ValueError(name)
    return int(number)


def cached_tokens(event: Mapping[str, Any]) -> int:
    usage = event.get("usage") or {}
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)

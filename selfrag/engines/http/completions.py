"""Token ids over ``/v1/completions``: builds request bodies and parses answers into positions.

Knows no address. Parses two formats. vLLM reports ids as ``token_id:N`` in place of texts (``return_tokens_as_token_ids``), with
the log-probabilities of named ids; llama.cpp reports them in ``logprobs.content[].id``, with those of a top-k list only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfrag.engines.completion_builder import CompletionBuilder
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.errors import EngineError

_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The probed capabilities of a server: its name for the model, its context window (tokens; None if not reported), whether it
    reports named ids' log-probabilities, otherwise the length of its top-k lists (0: none), and whether it ends at
    ``stop_token_ids``.
    """

    served: str
    window: int | None
    exact: bool
    top: int
    stops: bool = True


def common(served: str) -> dict[str, Any]:
    """Greedy, with ids beside the text; a server ignores unknown fields, which the probe detects."""
    return {
        "model": served,
        "temperature": 0.0,
        "repetition_penalty": 1.0,
        "skip_special_tokens": False,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def payload(capabilities: Capabilities, prompt: list[int], limit: int, builder: CompletionBuilder) -> dict[str, Any]:
    body = common(capabilities.served) | {"prompt": prompt, "max_tokens": limit, "stop_token_ids": builder.stop_ids}
    watched = builder.watched_ids
    if capabilities.exact and watched:
        return body | {"logprobs": 1, "logprob_token_ids": watched}
    return body | {"logprobs": capabilities.top if watched else 1}


def take(builder: CompletionBuilder, tokenizer: PromptTokenizer, choice: Mapping[str, Any], where: str) -> bool:
    """Adds a choice, or a streamed piece of one; returns whether the rest of the answer is needed. Raises EngineError for a
    choice without token ids."""
    try:
        positions = [part for position in _positions(choice) for part in _whole(position, tokenizer)]
    except _MALFORMED as error:
        raise EngineError(f"{where} answers in a form that is neither vLLM's nor llama.cpp's ({error!r})") from error
    wanted = all(builder.add(token_id, told) for token_id, told in positions)
    ended = choice.get("finish_reason")
    if ended == "stop" and builder.finish is None:  # at an end token that this server keeps to itself
        builder.finish = "end"
    return builder.finish != "cancelled" and (wanted or ended is not None)


def told_ids(answer: Mapping[str, Any], where: str) -> set[int]:
    """The ids whose log-probabilities a probe's answer reports at its only position. Raises EngineError for a server that accepts
    or reports no ids."""
    try:
        return set(next(_positions(answer["choices"][0])).told)
    except (*_MALFORMED, StopIteration):
        raise EngineError(
            f"{where} reports no token ids, without which reflection tokens cannot be distinguished from words",
            "serve the model with `selfrag serve` or llama.cpp, or use prompts with this one: --reflection prompted",
        ) from None


def tells_nothing(answer: Mapping[str, Any]) -> bool:
    """Whether a reply has text but no positions."""
    return any(choice.get("text") and not choice.get("logprobs") for choice in answer.get("choices") or ())


def is_llama_cpp(answer: Mapping[str, Any]) -> bool:
    """Whether an answer has llama.cpp's format; such a server ignores ``stop_token_ids``."""
    return "content" in (answer["choices"][0].get("logprobs") or {})


def window(card: Mapping[str, Any]) -> int | None:
    """The context window in an entry of ``/models``: vLLM's field, or llama.cpp's, which is a slot's share."""
    found = card.get("max_model_len") or (card.get("meta") or {}).get("n_ctx")
    return int(found) if found else None


@dataclass(frozen=True, slots=True)
class _Position:
    """A generated id with the log-probabilities reported at its position, its own included. ``text`` is set if the id stands for
    more than itself: a character of several tokens, of which the server reports only the last.
    """

    id: int
    told: dict[int, float]
    text: str | None = None


def _positions(choice: Mapping[str, Any]) -> Iterator[_Position]:
    logprobs = choice.get("logprobs") or {}
    if "content" in logprobs:
        yield from (_llama_cpp(entry) for entry in logprobs["content"] or ())
        return
    tops = logprobs.get("top_logprobs") or []
    for token, logprob, top in zip(logprobs.get("tokens") or [], logprobs.get("token_logprobs") or [], tops, strict=True):
        token_id = _id(token)
        told = {_id(name): float(value) for name, value in (top or {}).items()}
        yield _Position(token_id, told | {token_id: float(logprob)})


def _llama_cpp(entry: Mapping[str, Any]) -> _Position:
    token_id, tops = int(entry["id"]), entry.get("top_logprobs") or []
    told = {int(top["id"]): float(top["logprob"]) for top in tops} | {token_id: float(entry["logprob"])}
    own = next((top.get("bytes") for top in tops if int(top["id"]) == token_id), entry.get("bytes"))
    merged = own is not None and own != entry.get("bytes")
    return _Position(token_id, told, bytes(entry["bytes"]).decode(errors="replace") if merged else None)


def _whole(position: _Position, tokenizer: PromptTokenizer) -> Iterator[tuple[int, dict[int, float]]]:
    """The tokens of a position. Unreported ones come from tokenizing their character, each with the probability of the reported
    one.
    """
    if position.text is None:
        yield position.id, position.told
        return
    logprob = position.told[position.id]
    *before, last = tokenizer.text_ids(position.text)
    yield from ((token_id, {token_id: logprob}) for token_id in before)
    yield last, position.told | {last: logprob}


def _id(name: str) -> int:
    """The id in vLLM's ``token_id:N``; ValueError for a token reported by its text."""
    prefix, _, number = name.partition(":")
    if prefix != "token_id":
        raise ValueError(name)
    return int(number)


def cached_tokens(event: Mapping[str, Any]) -> int:
    usage = event.get("usage") or {}
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)

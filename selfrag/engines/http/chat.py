"""Prompts made of messages, put to any OpenAI-compatible server: ``/chat/completions`` with the likeliest tokens' probabilities.

The way of ``reflection="prompted"``: the server applies the model's chat template, and the choices of a question are found
among its ``top_logprobs`` by their text, since such servers (Ollama, llama.cpp, hosted ones) tell no token ids.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

from selfrag.errors import EngineError, UsageError
from selfrag.types import Completion, Finish, Generated, Message, OnToken, Part, Request, Text, Token

UNKNOWN_ID = -1
"""The id of a token whose server tells its text alone."""


def payload(request: Request, model: str, top: int) -> dict[str, Any]:
    """The body that asks ``request`` of ``model`` with the ``top`` likeliest tokens at every position."""
    messages = _messages(request.prompt)
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": 0.0,
        "logprobs": True,
        "top_logprobs": top,
    }
    if messages[-1]["role"] == "assistant":  # vLLM's words for going on with the last message; others do so unasked
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _messages(prompt: Sequence[Part]) -> list[dict[str, str]]:
    """Messages as the protocol has them. Text that follows a message of the assistant continues it, other text is the user's."""
    turns: list[dict[str, str]] = []
    for part in prompt:
        role, text = _turn(part)
        open_turn = bool(turns) and not isinstance(part, Message) and turns[-1]["role"] in (role, "assistant")
        if open_turn:
            turns[-1]["content"] += text
        else:
            turns.append({"role": role, "content": text})
    return turns or [{"role": "user", "content": ""}]


def _turn(part: Part) -> tuple[str, str]:
    match part:
        case Message(role, text):
            return role, text
        case Text(text):
            return "user", text
        case Generated(tokens):
            return "assistant", "".join(token.text for token in tokens)
    raise UsageError(
        f"{part.token} cannot be sent as a message", "use a server that takes token ids, such as `selfrag serve` starts"
    )


class ChatReader:
    """Reads the positions that a server tells into tokens, whole or in pieces; ``finish`` is None until it is satisfied."""

    def __init__(self, request: Request, on_token: OnToken | None) -> None:
        self.tokens: list[Token] = []
        self.finish: Finish | None = None
        self.exact = True
        self._usage: Mapping[str, Any] = {}
        self._choices, self._on_token = request.choices, on_token
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self, event: Mapping[str, Any], where: str) -> bool:
        """Takes an answer, or the next piece of a streamed one; False when it was cancelled.

        Raises:
            EngineError: for words without log-probabilities, from which nothing could be judged.
        """
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            self._take_choice(choice, where)
        return self.finish != "cancelled"

    def _take_choice(self, choice: Mapping[str, Any], where: str) -> None:
        positions = (choice.get("logprobs") or {}).get("content") or []
        words = (choice.get("message") or choice.get("delta") or {}).get("content")
        if words and not positions:
            raise EngineError(
                f"{where} tells no log-probabilities, from which critiques are read",
                "use a server that has them in /v1/chat/completions: vLLM, llama.cpp, a recent Ollama",
            )
        for position in positions:
            if not self._add(position):
                return
        if reason := choice.get("finish_reason"):
            self.finish = "length" if reason == "length" else "end"

    def completion(self) -> Completion:
        usage = self._usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Completion(tuple(self.tokens), self.finish or "end", int(usage.get("prompt_tokens") or 0), int(cached), self.exact)

    def _add(self, position: Mapping[str, Any]) -> bool:
        told = {str(top["token"]): float(top["logprob"]) for top in position.get("top_logprobs") or []}
        told.setdefault(str(position["token"]), float(position["logprob"]))
        watched = {choice: told[first] for choice in self._choices if (first := _token_of(choice, told)) is not None}
        self.exact &= len(watched) == len(self._choices)
        token = Token(UNKNOWN_ID, self._text(position), float(position["logprob"]), watched)
        self.tokens.append(token)
        if self._on_token is not None and not self._on_token(token):
            self.finish = "cancelled"
        return self.finish is None

    def _text(self, position: Mapping[str, Any]) -> str:
        raw = position.get("bytes")
        return str(position["token"]) if raw is None else self._decoder.decode(bytes(raw))


def _token_of(choice: str, told: Mapping[str, float]) -> str | None:
    """The token, among those told, that a choice begins with: the longest; a leading space counts only if the choice has one."""
    starts = [token for token in told if token and choice.startswith(token)]
    return max(starts, key=len, default=None)

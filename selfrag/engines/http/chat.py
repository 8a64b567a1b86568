"""Message prompts to any OpenAI-compatible server over ``/chat/completions``.

Used for ``reflection="prompted"``: the server applies the model's chat template, and a question's choices are matched by text in
``top_logprobs``, since most such servers report no token ids. If a server reports no probabilities, or its model thinks before it
answers, a JSON schema constrains the reply to the choices instead, and the reply counts as certain.

A model's thinking (``reasoning_content``, ``reasoning``, ``<think>``) is never part of its answer.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selfrag import prompts
from selfrag.errors import EngineBusy, EngineError, UsageError
from selfrag.types import Completion, Finish, Generated, Message, OnToken, Part, Request, Text, Token

UNKNOWN_ID = -1
"""The id of a token of which the server reports only the text."""
THINKING = 2048
"""Tokens allowed for thinking, beyond the requested answer."""
JSON_ROOM = 48
"""Tokens of a JSON reply: braces, names, and a choice."""
QUIET: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}
"""Turns thinking off where the server and the model's template know how (vLLM, llama.cpp, Ollama)."""
_TAGS = ("think", "thinking", "thought")


@dataclass(frozen=True, slots=True)
class ChatCapabilities:
    """The probed capabilities of a server: its name for the model; the length of its top-k lists, 0 if it reports no
    probabilities; whether the model thinks before it answers; whether a last message of the assistant is continued. ``extra`` is
    part of every request."""

    served: str
    top: int
    thinks: bool = False
    prefill: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)


class Unexpected(Exception):
    """A reply contradicts the probed capabilities; ``changes`` are those to retry with."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(str(changes))
        self.changes = changes


# --- requests ------------------------------------------------------------------------------------------------------------------


def payload(request: Request, server: ChatCapabilities) -> dict[str, Any]:
    """The request body for ``request``, with probabilities if the server reports them and something depends on them."""
    messages = _messages(request.prompt)
    stated = bool(request.choices) and not server.top
    body: dict[str, Any] = {"model": server.served, "messages": messages, "temperature": 0.0, "seed": 0}
    limit = request.max_tokens
    if server.top:
        body |= {"logprobs": True, "top_logprobs": server.top if request.choices else 1}
    elif stated:
        limit = JSON_ROOM
        named = _named_sets(request)
        schema = _schema(named)
        example = json.dumps({name: choices[0] for name, choices in named.items()})
        messages[-1]["content"] += "\n\n" + prompts.load("critic/as_json").render(example=example).strip()
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": schema}}
    body["max_tokens"] = limit + (THINKING if server.thinks else 0)
    if messages[-1]["role"] == "assistant":
        if server.prefill:  # vLLM's fields for continuing the last message; llama.cpp and others do so by default
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        else:
            messages.append({"role": "user", "content": prompts.load("critic/go_on").render().strip()})
    return {**body, **server.extra}


def answer_sets(request: Request) -> tuple[tuple[str, ...], ...]:
    """The sets of choices of which a reply names one each."""
    return request.answers or ((request.choices,) if request.choices else ())


def _named_sets(request: Request) -> dict[str, tuple[str, ...]]:
    """The sets of choices by their names in a JSON reply."""
    sets = answer_sets(request)
    return {"answer" if len(sets) == 1 else f"answer_{i}": choices for i, choices in enumerate(sets, 1)}


def _schema(named: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    properties = {name: {"type": "string", "enum": list(choices)} for name, choices in named.items()}
    return {"type": "object", "properties": properties, "required": list(named), "additionalProperties": False}


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


# --- replies -------------------------------------------------------------------------------------------------------------------


class Visible:
    """Removes the thinking between tags at the beginning of a reply, piece by piece.

    ``state`` is "begins" until the beginning is known, then "thinks" or "answers"; "thinks" becomes "answers" later.
    """

    def __init__(self) -> None:
        self.state = "begins"
        self._held, self._strip = "", False

    def feed(self, piece: str) -> str:
        """What ``piece`` adds to the visible text. Raises EngineError for an end tag of thinking without a start tag."""
        if self.state == "answers":
            return self._answered(piece)
        self._held += piece
        start = self._held.lstrip()
        if self.state == "begins":
            if any(f"<{tag}>".startswith(start) and start != f"<{tag}>" for tag in _TAGS):
                return ""
            self.state = "thinks" if any(start.startswith(f"<{tag}>") for tag in _TAGS) else "answers"
        if self.state == "answers":
            held, self._held = self._held, ""
            return self._answered(held)
        for tag in _TAGS:
            _, closed, rest = start.partition(f"</{tag}>")
            if closed:
                self.state, self._held, self._strip = "answers", "", True
                return self._answered(rest)
        return ""

    def _answered(self, piece: str) -> str:
        self._held = self._held[-12:] + piece
        if any(f"</{tag}>" in self._held for tag in _TAGS):
            raise EngineError(
                "the model's thinking is mixed with its answer, without a mark where it begins",
                "start the server with a reasoning parser (vLLM: --reasoning-parser; llama.cpp: --reasoning-format auto)",
            )
        shown = piece.lstrip() if self._strip else piece
        self._strip = self._strip and not shown
        return shown


class ChatReader:
    """Reads an answer into tokens, whole or in pieces; ``finish`` is None until it is satisfied.

    Tokens are the server's if it reports probabilities, otherwise pieces of text with log-probability 0. After a failure
    (``restart``) a reader may get the answer again: it does not repeat what it read before. ``ended``: the server said so.
    """

    def __init__(self, request: Request, server: ChatCapabilities, on_token: OnToken | None) -> None:
        self.request, self.server = request, server
        self.tokens: list[Token] = []
        self.finish: Finish | None = None
        self._on_token = on_token
        self._requests = 0
        self.restart(server)

    def restart(self, server: ChatCapabilities) -> None:
        """Before every request for the answer."""
        self.server, self.finish, self.exact = server, None, True
        self._visible, self._text, self._thought, self._at = Visible(), "", False, 0
        self._waiting: list[Token] = []
        self._usage: Mapping[str, Any] = {}
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._requests += 1
        self.ended = False

    @property
    def wrote(self) -> bool:
        """Whether any part of the answer has arrived, besides thinking."""
        return bool(self._text) or any(token.text for token in self.tokens)

    def take(self, event: Mapping[str, Any], where: str) -> bool:
        """Takes an answer, or the next piece of a streamed one; False when no more is wanted. Raises Unexpected when the server,
        contrary to its capabilities, reports no probabilities or thinks, EngineError when the limit cut the answer off while the
        model was still thinking.
        """
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices") or ():
            self._take_choice(choice, where)
        return self.finish is None

    def _take_choice(self, choice: Mapping[str, Any], where: str) -> None:
        positions = (choice.get("logprobs") or {}).get("content") or []
        message = choice.get("message") or choice.get("delta") or {}
        words = message.get("content") or ""
        self._thought |= bool(message.get("reasoning_content") or message.get("reasoning"))
        if self._thought and not self.server.thinks:
            raise Unexpected(thinks=True, top=0)
        if self.server.top and words and not positions:
            raise Unexpected(top=0)
        if self.server.top:
            for position in positions:
                if self.finish is None:
                    self._take_position(position)
        elif words and self.finish is None:
            self._take_words(self._visible.feed(words))
            if self._visible.state == "thinks" and not self.server.thinks:
                raise Unexpected(thinks=True)
        if (reason := choice.get("finish_reason")) and self.finish is None:
            self._end(reason, where)

    def _take_position(self, position: Mapping[str, Any]) -> None:
        """Holds back the first tokens until it is clear that they are not thinking."""
        self._waiting.append(self._token(position))
        self._visible.feed(self._waiting[-1].text)
        if self._visible.state == "thinks":
            raise Unexpected(thinks=True, top=0)
        if self._visible.state == "answers":
            self._release()

    def _release(self) -> None:
        while self._waiting and self.finish is None:
            self._emit(self._waiting.pop(0))

    def _take_words(self, text: str) -> None:
        self._text += text
        if text and not self.request.choices:
            self._emit(Token(UNKNOWN_ID, text, 0.0))

    def _end(self, reason: str, where: str) -> None:
        self._release()
        thinking = self._thought or self._visible.state == "thinks" or self._reasoning_tokens() > 0
        self.ended = True
        if thinking and reason == "length" and not self.wrote:
            raise EngineError(
                f"{self.server.served} at {where} was still thinking when its limit of "
                f"{self.request.max_tokens + THINKING} tokens was reached, and wrote no answer",
                "ask a model that does not think, or turn its thinking off in the server",
            )
        if self.request.choices and not self.server.top:
            self.tokens = _stated(self.request, self._text)
        self.finish = "length" if reason == "length" and not self.request.choices else "end"

    def _reasoning_tokens(self) -> int:
        return int((self._usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)

    def completion(self) -> Completion:
        usage = self._usage
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        return Completion(
            tuple(self.tokens),
            self.finish or "end",
            int(usage.get("prompt_tokens") or 0),
            int(cached),
            exact=self.exact and bool(self.server.top),
            stated=not self.server.top,
            requests=self._requests,
            completion_tokens=usage.get("completion_tokens"),
        )

    def _emit(self, token: Token) -> None:
        self._at += 1
        if self._at <= len(self.tokens):  # the answer is read again after a failure
            if self.tokens[self._at - 1].text != token.text:
                raise EngineBusy(f"{self.server.served} broke off, and answered differently when it was asked again")
            return
        self.tokens.append(token)
        if self._on_token is not None and not self._on_token(token):
            self.finish = "cancelled"
        elif len(self.tokens) >= self.request.max_tokens:
            self.finish = "length"

    def _token(self, position: Mapping[str, Any]) -> Token:
        told = {str(top["token"]): float(top["logprob"]) for top in position.get("top_logprobs") or []}
        told.setdefault(str(position["token"]), float(position["logprob"]))
        watched = {choice: told[first] for choice in self.request.choices if (first := _token_of(choice, told)) is not None}
        self.exact &= len(watched) == len(self.request.choices)
        raw = position.get("bytes")
        text = str(position["token"]) if raw is None else self._decoder.decode(bytes(raw))
        return Token(UNKNOWN_ID, text, float(position["logprob"]), watched)


def _token_of(choice: str, told: Mapping[str, float]) -> str | None:
    """The longest reported token that a choice begins with; one with a leading space only if there is no other."""
    for strip in (False, True):
        starts = [token for token in told if token.strip() and choice.startswith(token.lstrip() if strip else token)]
        if starts:
            return max(starts, key=len)
    return None


def _stated(request: Request, text: str) -> list[Token]:
    """The choices that a reply states, one of each set in order; an empty token where it states none."""
    named = _named_sets(request)
    values = _json_values(text, named) or _spelled(text, named.values())
    tokens = []
    for names, value in zip(named.values(), values, strict=True):
        known = value in names
        tokens.append(Token(UNKNOWN_ID, value if known else "", 0.0, {value: 0.0} if known else {}))
    return tokens


def _json_values(text: str, names: Iterable[str]) -> list[str] | None:
    """The values of a JSON object in ``text`` that has ``names``, or None."""
    try:
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
        return [str(found[name]) for name in names]
    except (ValueError, KeyError, TypeError):
        return None


def _spelled(text: str, sets: Iterable[Sequence[str]]) -> list[str]:
    """For each set in order, the first word of ``text`` that is one of its choices, or ""."""
    words, at, found = re.findall(r"[^\W\d_]+|\d+", text), 0, []
    for names in sets:
        known = {name.casefold(): name for name in names}
        place = next((i for i in range(at, len(words)) if words[i].casefold() in known), None)
        found.append("" if place is None else known[words[place].casefold()])
        at = at if place is None else place + 1
    return found

"""An engine that answers from a script: the fake for tests of everything above the engines, shipped with them."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.types import Completion, Control, Finish, Generated, OnToken, Prompt, Request, Text, Token

END = Token(0, "", 0.0)
"""End of sequence. A script that runs out ends there too."""


class ScriptedEngine:
    """Plays back what ``reply`` returns for a request, under the request's limits; ``requests`` lists what was asked."""

    exact = True

    def __init__(self, reply: Callable[[Request], Sequence[Token]], name: str = "scripted") -> None:
        self.name = self.model = name
        self.requests: list[Request] = []
        self.closed = False
        self._reply = reply

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        self.requests.append(request)
        tokens: list[Token] = []
        finish: Finish = "end"
        for token in self._reply(request):
            await asyncio.sleep(0)  # others get their turn between two tokens, as with a real engine
            tokens.append(token)
            ended = _ending(token, request, len(tokens))
            if on_token is not None and not on_token(token):
                ended = "cancelled"
            if ended:
                finish = ended
                break
        return Completion(tuple(tokens), finish, prompt_tokens=len(prompt_text(request.prompt).split()))

    async def close(self) -> None:
        self.closed = True


def control(name: str, watched: Mapping[str, float] | None = None, logprob: float = 0.0) -> Token:
    """The reflection token ``name``; ``watched`` are log-probabilities at its position."""
    return Token(1 + REFLECTION_TOKENS.index(name), "", logprob, dict(watched or {}), control=name)


def words(text: str, logprob: float = 0.0, watched: Mapping[str, float] | None = None) -> list[Token]:
    """Plain text, one token a word, each with the same ``logprob`` and ``watched``; equal words have equal ids."""
    pieces = text.split(" ")
    spaced = [piece if i == 0 else f" {piece}" for i, piece in enumerate(pieces)]
    return [Token(100 + zlib.crc32(piece.encode()), piece, logprob, dict(watched or {})) for piece in spaced]


def prompt_text(prompt: Prompt) -> str:
    """A prompt as a test wants to read it: control tokens by their literal text, messages by their contents."""
    return "".join(_part_text(part) for part in prompt)


def _part_text(part: object) -> str:
    match part:
        case Control(token):
            return token
        case Generated(tokens):
            return "".join(token.control or token.text for token in tokens)
        case Text(text):
            return text
    return f"{getattr(part, 'text', '')}\n"


def _ending(token: Token, request: Request, count: int) -> Finish | None:
    if token.control is not None and token.control in request.stop:
        return "stop"
    if token.id == END.id:
        return "end"
    return "length" if count >= request.max_tokens else None

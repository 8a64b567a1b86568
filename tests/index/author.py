"""An engine that says one thing to every prompt."""

from __future__ import annotations

import asyncio

from selfrag.errors import EngineError
from selfrag.types import Completion, Message, OnToken, Request, Token


class Author:
    """Says ``says``, keeps the prompts, and fails from the prompt number ``until`` on. It takes ``slow`` seconds for the first
    prompt, twice that for the second, and so on."""

    name, exact = "author", False

    def __init__(self, says: str, model: str = "tiny") -> None:
        self.says = says
        self.model = model
        self.prompts: list[str] = []
        self.opened = 0
        self.until = 1_000
        self.slow = 0.0

    def open(self) -> Author:
        self.opened += 1
        return self

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        (message,) = request.prompt
        assert isinstance(message, Message)
        if len(self.prompts) == self.until:
            raise EngineError("the author is tired")
        self.prompts.append(message.text)
        await asyncio.sleep(self.slow * len(self.prompts))
        return Completion((Token(1, self.says, 0.0),), "end", 1)

    async def close(self) -> None:
        await asyncio.sleep(self.slow * 8)

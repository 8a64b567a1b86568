"""OpenAI-compatible servers by URL, first of all vLLM's: prompts and answers as token ids over ``/v1/completions``.

Each server is asked once what it can do, since one that does not know a field ignores it in silence: whether it tells token
ids, and the log-probabilities of named ids (exact) or only those of a top-k list (then ``exact`` is False). For
``reflection="prompted"`` messages go to ``/v1/chat/completions`` instead, which needs no tokenizer here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import PurePath
from typing import Any

from selfrag.engines.completion_builder import Collector
from selfrag.engines.http import chat, completions
from selfrag.engines.http.client import Policy, Pool, Refused, Server
from selfrag.engines.http.completions import Ability
from selfrag.engines.tokenizer import Vocabulary
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, OnToken, ReflectionKind, Request

logger = logging.getLogger(__name__)
Event = Mapping[str, Any]
"""A JSON object that a server sends: a whole answer, or a piece of a stream."""
Asked = tuple[int, Mapping[str, Any]]
"""A way to ask, and the body that asks so."""
_TOPS = (20, 5)
"""Lengths of top-k lists to try, the longest that servers usually allow first."""


class ServerEngine:
    """``urls`` serve the same ``model``: a checkpoint folder or Hugging Face name, whose tokenizer is loaded here.

    ``served`` is the name that the servers have for it, found by itself where it is the model's name, folder or last part.
    """

    name = "server"

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        reflection: ReflectionKind = "tokens",
        served: str | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.model = model
        self.exact = True
        self._pool = Pool(urls, policy or Policy())
        self._vocabulary = Vocabulary.load(model, reflection) if reflection == "tokens" else None
        self._served, self._names = served, (model, PurePath(model).name)
        self._abilities: dict[Server, Ability] = {}

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        """Asks one server; goes on with another, or later, where one fails in the middle.

        Raises:
            EngineError: when no server can be reached, serves the model, or takes the request.
            EngineBusy: when servers that worked before stay overloaded or gone.
        """
        if self._vocabulary is None:
            return await self._converse(request, on_token)
        prompt = self._vocabulary.encode(request.prompt)
        collector = Collector(self._vocabulary, request, prompt, on_token)
        cached = 0

        async def ask(server: Server) -> None:
            nonlocal cached
            ability = await self._ability(server)
            self._check_window(ability, len(prompt))
            if collector.finish is not None:  # the server broke off after the last token
                return
            # What was generated before a server broke off is part of the next prompt, so nothing is written twice.
            body = completions.payload(ability, prompt + collector.ids, request.max_tokens - len(collector.tokens), collector)
            async with aclosing(self._events(server, "/completions", body, streaming=on_token is not None)) as events:
                async for event in events:
                    cached = max(cached, completions.cached_tokens(event))
                    if not all(completions.take(collector, choice, server.shown) for choice in event.get("choices") or ()):
                        return

        await self._pool.run(ask)
        return collector.completion(len(prompt), cached)

    async def close(self) -> None:
        await self._pool.close()

    async def _events(self, server: Server, path: str, body: Mapping[str, Any], streaming: bool) -> AsyncGenerator[Event, None]:
        """The answer in pieces as they are generated, or as the only piece: a stream costs the server more."""
        if not streaming:
            yield await self._pool.fetch(server, path, body)
            return
        stream = self._pool.events(server, path, {**body, "stream": True, "stream_options": {"include_usage": True}})
        async with aclosing(stream) as events:  # closed at once where a request is cancelled, so that the server stops too
            async for event in events:
                yield event

    def _check_window(self, ability: Ability, length: int) -> None:
        if ability.window is not None and length >= ability.window:
            raise EngineError(
                f"the prompt has {length} tokens, but {self.model} is served with {ability.window} for prompt and answer",
                "ask with fewer or shorter passages (-k), or start the server with a larger --max-model-len",
            )

    # --- messages --------------------------------------------------------------------------------------------------------------

    async def _converse(self, request: Request, on_token: OnToken | None) -> Completion:
        async def ask(server: Server) -> Completion:
            ability = await self._ability(server)
            reader = chat.ChatReader(request, on_token)
            body = chat.payload(request, ability.served, ability.top)
            async with aclosing(self._events(server, "/chat/completions", body, on_token is not None)) as events:
                async for event in events:
                    if not reader.take(event, server.shown):
                        break
            return reader.completion()

        return await self._pool.run(ask)

    # --- what a server can do --------------------------------------------------------------------------------------------------

    async def _ability(self, server: Server) -> Ability:
        """Asked once for each server, by the first call that comes to it."""
        async with server.lock:
            if server not in self._abilities:
                self._abilities[server] = await self._find_out(server)
            return self._abilities[server]

    async def _find_out(self, server: Server) -> Ability:
        served, window = await self._served_model(server)
        if self._vocabulary is None:
            self.exact = False
            chats = [(top, chat.payload(Request((), 1), served, top)) for top in _TOPS]
            top, _ = await self._first_taken(server, "/chat/completions", chats)
            return Ability(served, window, exact=False, top=top)
        ids = sorted(self._vocabulary.control.values())
        common = completions.common(served) | {"prompt": self._vocabulary.text_ids("Hello"), "max_tokens": 1}
        ways: list[Asked] = [(0, common | {"logprobs": 1, "logprob_token_ids": ids})]
        ways += [(top, common | {"logprobs": top}) for top in _TOPS]
        way, answer = await self._first_taken(server, "/completions", ways)
        if set(ids) <= completions.told_ids(answer, server.shown) and way == 0:
            return Ability(served, window, exact=True, top=1)
        self.exact = False
        logger.warning("%s does not tell named tokens' log-probabilities: critiques are read from its top list", server.shown)
        top, _ = await self._first_taken(server, "/completions", ways[1:])
        return Ability(served, window, exact=False, top=top)

    async def _first_taken(self, server: Server, path: str, ways: Sequence[Asked]) -> tuple[int, Event]:
        """The first of several ways to ask that a server does not refuse, and its answer; the last refusal is raised."""
        for way, body in ways[:-1]:
            try:
                return way, await self._pool.fetch(server, path, body)
            except Refused:
                continue
        return ways[-1][0], await self._pool.fetch(server, path, ways[-1][1])

    async def _served_model(self, server: Server) -> tuple[str, int | None]:
        """The server's name for the model, and its context window."""
        try:
            cards = (await self._pool.fetch(server, "/models")).get("data") or []
        except Refused:  # a server may lack the list
            return self._served or self.model, None
        wanted = {self._served} if self._served else {self.model, *self._names}
        for card in cards:
            if wanted & {card.get("id"), card.get("root")}:
                return str(card["id"]), card.get("max_model_len")
        found = ", ".join(str(card.get("id")) for card in cards) or "no model"
        raise ModelError(
            f"{server.shown} serves {found}, not {self._served or self.model}",
            f"selfrag serve {self.model}, or ask with the --model that is served",
        )

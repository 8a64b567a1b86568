"""OpenAI-compatible servers by URL: prompts and answers as token ids over ``/v1/completions``.

Each server is probed once, since servers silently ignore unknown fields: whether it reports token ids, and the log-probabilities
of named ids (exact, vLLM) or only those of a top-k list (then ``exact`` is False, llama.cpp). For ``reflection="prompted"``
messages go to ``/v1/chat/completions`` instead, which needs no tokenizer here. A field that a server refuses is omitted from then
on.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from selfrag._http import Endpoint, endpoint
from selfrag.engines.completion_builder import CompletionBuilder
from selfrag.engines.http import chat, completions, fields
from selfrag.engines.http.chat import ChatCapabilities, Unexpected
from selfrag.engines.http.client import START_COMMAND, Client, ClientError, Policy, Server, as_object
from selfrag.engines.http.completions import Capabilities
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.errors import EngineError, ModelError
from selfrag.types import Completion, Message, OnToken, ReflectionKind, Request

logger = logging.getLogger(__name__)
Event = Mapping[str, Any]
"""A JSON object that a server sends: a whole answer, or a piece of a stream."""
_TOPS = (100, 20, 5)
"""Lengths of top-k lists to try, the longest that servers usually allow first; 100 is llama.cpp's, which has no limit."""
_CHAT_TOPS = (20, 5, 0)
_PROBE = Message("user", "Is ice cold? Answer with one word, Yes or No.")


class ServerEngine:
    """``urls`` serve the same ``model``: a checkpoint folder or Hugging Face name, whose tokenizer is loaded here.

    ``served`` is the servers' name for it, detected if it is the model's name, folder or last part. ``name`` is the engine's name
    in answers, ``prefill`` means that the server continues a last assistant message, and ``start`` is the hint if no server
    answers: these come from a preset.
    """

    def __init__(
        self,
        urls: Sequence[str | Endpoint],
        model: str,
        *,
        reflection: ReflectionKind = "tokens",
        served: str | None = None,
        policy: Policy | None = None,
        name: str = "server",
        prefill: bool = True,
        start: str = START_COMMAND,
    ) -> None:
        self.name, self.model = name, model
        self.exact = True
        endpoints = [url if isinstance(url, Endpoint) else endpoint(url, named=True) for url in urls]
        self._client = Client(endpoints, policy or Policy(), start)
        self._tokenizer = PromptTokenizer.load(model, reflection) if reflection == "tokens" else None
        self._served, self._names = served, (model, PurePath(model).name, f"{model}:latest")
        self._prefill = prefill
        self._capabilities: dict[Server, Capabilities] = {}
        self._chat: dict[Server, ChatCapabilities] = {}
        self._refused: dict[Server, set[str]] = {}

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        """Asks one server; if it fails midway, resumes on another server, or later. Raises EngineError when no server can be
        reached, serves the model, or takes the request, EngineBusy when servers that worked before stay overloaded or gone."""
        if self._tokenizer is None:
            return await self._converse(request, on_token)
        tokenizer = self._tokenizer
        prompt = tokenizer.encode(request.prompt)
        builder = CompletionBuilder(tokenizer, request, prompt, on_token)
        cached = requests = 0

        async def ask(server: Server) -> None:
            nonlocal cached, requests
            can = await self._can(server)
            self._check_window(can, len(prompt))
            if builder.finish is not None:  # the server broke off after the last token
                return
            # Tokens generated before a server broke off become part of the next prompt, so nothing is generated twice.
            limit = request.max_tokens - len(builder.tokens)
            body = completions.payload(can, prompt + builder.ids, limit, builder)
            streaming = on_token is not None or (not can.stops and limit > 1)  # selfrag ends it itself
            requests += 1
            async with aclosing(self._events(server, "/completions", body, streaming)) as events:
                async for event in events:
                    cached = max(cached, completions.cached_tokens(event))
                    choices = event.get("choices") or ()
                    if not all(completions.take(builder, tokenizer, choice, server.shown) for choice in choices):
                        return

        await self._client.run(ask)
        return replace(builder.completion(len(prompt), cached), requests=requests)

    async def close(self) -> None:
        await self._client.close()

    async def _events(self, server: Server, path: str, body: Mapping[str, Any], streaming: bool) -> AsyncGenerator[Event, None]:
        """The answer in pieces as they are generated, or as the only piece: a stream costs the server more."""
        if not streaming:
            yield await self._fetch(server, path, body)
            return
        whole = {**body, "stream": True, "stream_options": {"include_usage": True}}
        heard = False
        while True:
            stream = self._client.events(server, path, self._allowed(server, whole))
            try:
                async with aclosing(stream) as events:  # closed at once where a request is cancelled, so that the server stops
                    async for event in events:
                        heard = True
                        yield event
                return
            except ClientError as error:
                if heard or not self._gave_up(server, error, whole):
                    raise

    async def _fetch(self, server: Server, path: str, body: Mapping[str, Any], keep: Collection[str] = ()) -> Event:
        """The whole answer; retries without a field that the server refuses, unless it is one to ``keep``."""
        while True:
            try:
                found = await self._client.fetch(server, path, self._allowed(server, body))
            except ClientError as error:
                if not self._gave_up(server, error, body, keep):
                    raise
            else:
                return as_object(server, found)

    def _allowed(self, server: Server, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return fields.without(body, self._refused.get(server, ()))

    def _gave_up(self, server: Server, error: ClientError, body: Mapping[str, Any], keep: Collection[str] = ()) -> bool:
        """Whether the refusal names a field that requests can do without; it is left out from now on."""
        name = fields.refused(error, self._allowed(server, body), keep)
        if name is None:
            return False
        logger.info("%s refuses %s: it is left out", server.shown, name)
        self._refused.setdefault(server, set()).add(name)
        return True

    def _check_window(self, can: Capabilities, length: int) -> None:
        if can.window is not None and length >= can.window:
            raise EngineError(
                f"the prompt has {length} tokens, but {self.model} is served with {can.window} for prompt and answer",
                "ask with fewer or shorter passages (-k), or start the server with a larger window (vLLM: --max-model-len; "
                "llama.cpp: -c, divided by -np)",
            )

    # --- messages --------------------------------------------------------------------------------------------------------------

    async def _converse(self, request: Request, on_token: OnToken | None) -> Completion:
        reader: chat.ChatReader | None = None

        async def ask(server: Server) -> Completion:
            nonlocal reader
            while True:
                can = await self._can_chat(server)
                if reader is None:
                    reader = chat.ChatReader(request, can, on_token)
                else:
                    reader.restart(can)
                try:
                    return await self._read(server, reader, chat.payload(request, can), on_token is not None)
                except Unexpected as found:
                    self._learn(server, can, found)

        return await self._client.run(ask)

    async def _read(self, server: Server, reader: chat.ChatReader, body: Mapping[str, Any], streaming: bool) -> Completion:
        async with aclosing(self._events(server, "/chat/completions", body, streaming)) as events:
            async for event in events:
                if not reader.take(event, server.shown) and (not streaming or not reader.ended):
                    break  # the part after the end of a stream reports the token usage
        return reader.completion()

    def _learn(self, server: Server, asked: ChatCapabilities, found: Unexpected) -> None:
        """Updates the capabilities from a reply. Many calls may find the same at once; only the first reports it."""
        if self._chat[server] is asked:
            self._chat[server] = replace(asked, **found.changes)
            logger.warning("%s: %s", server.shown, _change(self._chat[server]))

    # --- what a server can do --------------------------------------------------------------------------------------------------

    async def _can(self, server: Server) -> Capabilities:
        """Probed once for each server, by the first call to it."""
        async with server.lock:
            if server not in self._capabilities:
                self._capabilities[server] = await self._find_out(server)
            return self._capabilities[server]

    async def _can_chat(self, server: Server) -> ChatCapabilities:
        async with server.lock:
            if server not in self._chat:
                self.exact = False
                self._chat[server] = await self._find_out_chat(server)
            return self._chat[server]

    async def _find_out(self, server: Server) -> Capabilities:
        assert self._tokenizer is not None
        served, window = await self._served_model(server)
        ids = sorted(self._tokenizer.control.values())
        common = completions.common(served) | {"prompt": self._tokenizer.text_ids("Hello"), "max_tokens": 1}
        ways = [(0, common | {"logprobs": 1, "logprob_token_ids": ids}), *((top, common | {"logprobs": top}) for top in _TOPS)]
        way, answer = await self._first_taken(server, "/completions", ways)
        if completions.tells_nothing(answer):  # llama.cpp, where a character of several tokens begins
            ways = [(way, body | {"max_tokens": 8}) for way, body in ways]
            way, answer = await self._first_taken(server, "/completions", ways)
        if set(ids) <= completions.told_ids(answer, server.shown) and way == 0:
            return Capabilities(served, window, exact=True, top=1)
        self.exact = False
        logger.warning("%s returns no log-probabilities of named tokens: critiques are read from its top list", server.shown)
        top, answer = await self._first_taken(server, "/completions", ways[1:])
        return Capabilities(served, window, exact=False, top=top, stops=not completions.is_llama_cpp(answer))

    async def _find_out_chat(self, server: Server) -> ChatCapabilities:
        served, _ = await self._served_model(server)
        can = await self._probe(server, ChatCapabilities(served, 0, prefill=self._prefill))
        if not can.thinks:
            return can
        quiet = await self._probe(server, replace(can, thinks=False, extra=chat.QUIET))
        if quiet.thinks:
            logger.warning("%s: %s", server.shown, _change(can))
        return can if quiet.thinks else quiet

    async def _probe(self, server: Server, can: ChatCapabilities) -> ChatCapabilities:
        """Probes with one token: the longest top-k list allowed, and whether the model answers or thinks."""
        request = Request((_PROBE,), 1, choices=("Yes", "No"))
        bodies = [
            (top, chat.payload(replace(request, choices=request.choices if top else ()), replace(can, top=top)))
            for top in _CHAT_TOPS
        ]
        top, answer = await self._first_taken(server, "/chat/completions", bodies)
        reader = chat.ChatReader(request, replace(can, top=top), None)
        try:
            reader.take(answer, server.shown)
        except Unexpected as found:
            return replace(can, **{"top": top, **found.changes})
        except EngineError:
            return replace(can, top=0, thinks=True)
        silent = not reader.wrote and _cut(answer)
        return replace(can, top=0 if silent else top, thinks=silent)

    async def _first_taken(self, server: Server, path: str, ways: Sequence[tuple[int, Mapping[str, Any]]]) -> tuple[int, Event]:
        """The first of several bodies that a server does not refuse, and its answer; raises the last refusal."""
        keep = ("logprobs", "top_logprobs")
        for way, body in ways[:-1]:
            try:
                return way, await self._fetch(server, path, body, keep)
            except ClientError:
                continue
        return ways[-1][0], await self._fetch(server, path, ways[-1][1], keep)

    async def _served_model(self, server: Server) -> tuple[str, int | None]:
        """The server's name for the model, and its context window."""
        try:
            cards = model_cards(await self._client.fetch(server, "/models"))
        except ClientError:  # a server may lack the list
            return self._served or self.model, None
        wanted = {self._served} if self._served else {self.model, *self._names}
        for card in cards:
            if wanted & {card.get("id"), card.get("root"), *(card.get("aliases") or ())}:
                return str(card["id"]), completions.window(card)
        asked = self._served or self.model
        raise ModelError(f"{server.shown} serves {_some(asked, cards)}, not {asked}", _other_model(asked, cards))


def model_cards(found: Any) -> list[dict[str, Any]]:
    """The entries of ``/models``: the list under ``data``, or the whole answer of a server that sends the list alone."""
    listed = found.get("data") if isinstance(found, dict) else found
    return [card for card in listed or [] if isinstance(card, dict) and card.get("id")] if isinstance(listed, list | None) else []


def _some(asked: str, cards: Sequence[Mapping[str, Any]]) -> str:
    names = [str(card["id"]) for card in cards]
    shown = sorted(names, key=lambda name: -difflib.SequenceMatcher(None, asked, name).ratio())[:5] if len(names) > 5 else names
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more or "no model"


def _other_model(asked: str, cards: Sequence[Mapping[str, Any]]) -> str:
    names = [str(card["id"]) for card in cards]
    if not names:
        return "load a model into the server first"
    near = difflib.get_close_matches(asked, names, n=1, cutoff=0.0)[0]
    return f"ask with the --model that is served (--model {near}), or serve {asked}"


def _cut(answer: Event) -> bool:
    return any(choice.get("finish_reason") == "length" for choice in answer.get("choices") or ())


def _change(can: ChatCapabilities) -> str:
    if can.thinks:
        return f"{can.served} thinks before it answers: slower, and its critiques are what it states, without probabilities"
    return f"{can.served} comes without probabilities: its critiques are what it states"

"""A hand-written OpenAI-compatible server for tests: answers by rule, and fails on demand.

Speaks as much of vLLM's dialect as it is told to, so that what an older or a foreign server would do can be tested too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Head = dict[str, str]


@dataclass
class Fault:
    """What happens to the next completion instead of an answer; ``after`` pieces of a streamed one are sent first."""

    status: int = 0
    headers: Head = field(default_factory=dict)
    body: bytes = b'{"error": {"message": "no luck"}}'
    cut: bool = False
    after: int = 0


OVERLOADED = Fault(status=503)
BROKEN = Fault(status=500)
DIES = Fault(cut=True)


@dataclass
class FakeServer:
    """``next_id`` says which id follows given ids. ``honours``: named ids' log-probabilities; ``ids``: ids in place of texts."""

    next_id: Callable[[Sequence[int]], int]
    model: str = "tiny"
    window: int | None = 512
    honours: bool = True
    ids: bool = True
    max_logprobs: int = 20
    top: Sequence[int] = ()
    chat: Sequence[dict[str, Any]] = ()
    reply: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """The whole answer to a chat request, in place of ``chat``."""
    cards: Any = None
    refuses: set[str] = field(default_factory=set)
    refusal: tuple[int, str] = (400, "Unrecognized request argument supplied: {}")
    streams: bool = True
    words: bool = False
    """Streams ``reply`` word by word."""
    key: str | None = None
    delay: float = 0.0
    hangs_up: bool = False
    """Closes a connection after every answer without saying so beforehand."""
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most_at_once: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> FakeServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        self._at_once, self._open = 0, set[asyncio.StreamWriter]()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """As a killed process does: the port closes, and so does every connection."""
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def completions(self) -> list[dict[str, Any]]:
        """The bodies asked of it, the probe's left out."""
        return [body for body in self.requests if body["max_tokens"] > 1]

    # --- http ------------------------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._answer(lines[0].split()[1], headers, json.loads(body) if body else {}, writer)
                if self.hangs_up:
                    await asyncio.sleep(0.01)  # the client has the answer, and takes the connection for usable
                    await reader.readuntil(b"\r\n\r\n")
                    break
        self._open.discard(writer)
        writer.close()

    async def _answer(self, path: str, headers: Head, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.paths.append(path)
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            said = {"error": {"message": f"Incorrect API key: {headers.get('authorization')}"}}
            await self._send(writer, 401, json.dumps(said).encode())
            return
        if path == "/v1/models":
            card = {"id": self.model, "root": self.model, "max_model_len": self.window}
            await self._send(writer, 200, json.dumps({"data": [card]} if self.cards is None else self.cards).encode())
            return
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self._complete(path, body, writer)
        finally:
            self._at_once -= 1

    async def _complete(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.requests.append(body)
        await asyncio.sleep(self.delay)
        fault = self.faults.popleft() if self.faults and body.get("max_tokens", 9) > 1 else None
        most = body.get("top_logprobs", 0) if "messages" in body else body["logprobs"]
        named = sorted(self.refuses & body.keys())
        pieces = self._chat_pieces(body) if "messages" in body else self._pieces(body)
        if named:
            message = self.refusal[1].format(named[0])
            await self._send(writer, self.refusal[0], json.dumps({"error": {"message": message}}).encode())
        elif fault and fault.status:
            await self._send(writer, fault.status, fault.body, fault.headers)
        elif fault and not body.get("stream"):
            writer.transport.abort()
        elif most > self.max_logprobs:
            await self._send(writer, 400, b'{"error": {"message": "too many log-probabilities"}}')
        elif not body.get("stream") or not self.streams:
            whole = _joined(pieces) if self.reply is None else self.reply(body)
            await self._send(writer, 200, json.dumps(whole).encode())
        else:
            await self._stream(pieces[: fault.after] if fault else pieces, writer, broken=fault is not None)

    async def _stream(self, pieces: Sequence[dict[str, Any]], writer: asyncio.StreamWriter, broken: bool) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        try:
            for piece in pieces:
                writer.write(f"data: {json.dumps(piece)}\n\n".encode())
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:  # the client has hung up
            self.hung_up.set()
            raise
        if broken:
            writer.transport.abort()
            return
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    async def _send(self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: Head | None = None) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    # --- the model -------------------------------------------------------------------------------------------------------------

    def _pieces(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        ids, pieces = list(body["prompt"]), []
        for _ in range(body["max_tokens"]):
            token = self.next_id(ids)
            ids.append(token)
            stopped = token in body.get("stop_token_ids", ())
            pieces.append({"choices": [{"index": 0, "logprobs": self._position(token, body)}]})
            if stopped:
                break
        pieces[-1]["choices"][0]["finish_reason"] = "stop" if stopped else "length"
        pieces[-1]["usage"] = {"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": {"cached_tokens": 3}}
        return pieces

    def _position(self, token: int, body: dict[str, Any]) -> dict[str, Any]:
        named = body.get("logprob_token_ids") or () if self.honours else ()
        told = [token, *named] if named else [token, *self.top][: body["logprobs"] + 1]
        names = {i: f"token_id:{i}" if self.ids else "word" for i in told}
        tops = {names[i]: -0.25 if i == token else -1.0 - i / 1000 for i in told}
        return {"tokens": [names[token]], "token_logprobs": [-0.25], "top_logprobs": [tops]}

    def _chat_pieces(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        if self.reply is not None:
            return _pieces_of(self.reply(body), self.words)
        pieces = [{"choices": [{"delta": {"content": p["token"]}, "logprobs": {"content": [p]}}]} for p in self.chat]
        return [*pieces, {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}]


def _pieces_of(answer: dict[str, Any], words: bool) -> list[dict[str, Any]]:
    """The stream of which ``answer`` would be the whole."""
    choice = answer["choices"][0]
    message = choice["message"]
    content = message["content"].replace(" ", "| ").split("|") if words else [message["content"]]
    deltas = [{**message, "content": content[0]}, *({"content": piece} for piece in content[1:])]
    pieces: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
    return [*pieces, end, {"choices": [], "usage": answer["usage"]}]


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole answer of which ``pieces`` would be the stream."""
    choices = [choice for piece in pieces for choice in piece["choices"]]
    logprobs: dict[str, list[Any]] = {}
    for choice in choices:
        for name, values in (choice.get("logprobs") or {}).items():
            logprobs.setdefault(name, []).extend(values)
    text = "".join(choice.get("delta", {}).get("content", "") for choice in choices)
    whole = {"index": 0, "logprobs": logprobs, "message": {"content": text}, "finish_reason": choices[-1]["finish_reason"]}
    return {"choices": [whole], "usage": pieces[-1]["usage"]}


@contextlib.asynccontextmanager
async def serving(*servers: FakeServer) -> AsyncIterator[list[str]]:
    """Starts the servers and gives their URLs."""
    async with contextlib.AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(server)).url for server in servers]

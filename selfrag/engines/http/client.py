"""Load balancing over one or several OpenAI-compatible servers of the same model.

Handles load, time-outs and retries, not tokens. An unreachable server is retried after a back-off, while the others take over its
work. `selfrag/_http.py` interprets addresses, keys and answers.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from selfrag import _http
from selfrag._http import ClientError, Endpoint, TransientError
from selfrag.errors import EngineBusy, EngineError

__all__ = ["Client", "ClientError", "Policy", "Server", "TransientError", "as_object"]

T = TypeVar("T")
logger = logging.getLogger(__name__)
START_COMMAND = "start one with `selfrag serve`, then pass the --engine URL that it prints"


@dataclass(frozen=True, slots=True)
class Policy:
    """Concurrency, retries and time-outs; times in seconds.

    ``attempts`` bounds how often one request is put to servers that answer 429 or 5xx, ``pause`` is the first wait between
    two attempts and doubles up to ``longest``. ``patience`` is how long a request waits for servers that answered before and are
    unreachable now, for example during a restart. ``read`` is the longest silence of a working server.
    """

    in_flight: int = 512
    attempts: int = 6
    pause: float = 0.5
    longest: float = 15.0
    patience: float = 180.0
    connect: float = 10.0
    read: float = 600.0

    def wait(self, failures: int) -> float:
        """The pause after this many failures in a row, with jitter, so that failed requests do not all retry at once."""
        return min(self.longest, self.pause * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)


@dataclass(slots=True, eq=False)
class Server:
    """One server and its state. It gets no requests until ``backoff_until`` (monotonic). ``drops_streams``: it closes a
    connection after a streamed answer without saying so, as llama.cpp does."""

    endpoint: Endpoint
    in_flight: int = 0
    answered: bool = False
    failures: int = 0
    backoff_until: float = 0.0
    drops_streams: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def shown(self) -> str:
        return self.endpoint.shown


@dataclass(slots=True)
class _Call:
    """One request's state: the last server asked, the number of 429 or 5xx answers, since when no server was reachable."""

    last: Server | None = None
    overloaded: int = 0
    lost_since: float | None = None


class Client:
    """Sends each call to the server with the least in flight, at most ``policy.in_flight`` at once, and retries failures.

    ``start`` is the hint if no server answers at all.
    """

    def __init__(self, endpoints: Sequence[Endpoint], policy: Policy, start: str = START_COMMAND) -> None:
        self.servers = [Server(endpoint) for endpoint in endpoints]
        self.policy, self._start = policy, start
        self._slots = asyncio.Semaphore(policy.in_flight)
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(policy.read, connect=policy.connect, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=policy.in_flight),
            mounts={scheme: None for endpoint in endpoints for scheme in endpoint.transport},
        )

    async def run(self, call: Callable[[Server], Awaitable[T]]) -> T:
        """The result of ``call`` for a server; retried after a TransientError. Raises EngineError when no server was ever
        reached, or one refuses the call for good, EngineBusy when every attempt failed in a way that may pass."""
        state = _Call()
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError), stop=_never, wait=lambda tried: self._pause(state, tried)
        )
        async with self._slots:
            return await retrying(self._attempt, call, state)

    async def _attempt(self, call: Callable[[Server], Awaitable[T]], state: _Call) -> T:
        server = await self._next(avoid=state.last)
        state.last = server
        server.in_flight += 1
        try:
            result = await call(server)
        except TransientError as failure:
            self._count(server, failure, state)
            raise
        finally:
            server.in_flight -= 1
        server.failures, server.backoff_until = 0, 0.0
        return result

    async def _next(self, avoid: Server | None) -> Server:
        """The server with the least in flight, once one is available; after a failure preferably another one."""
        while True:
            now = time.monotonic()
            if ready := [server for server in self.servers if server.backoff_until <= now]:
                return min(ready, key=lambda server: (server is avoid, server.in_flight))
            await asyncio.sleep(min(server.backoff_until for server in self.servers) - now)

    def _count(self, server: Server, failure: TransientError, state: _Call) -> None:
        """Records a failure, and raises if no further attempt is due."""
        state.overloaded += not failure.unreachable
        state.lost_since = (state.lost_since or time.monotonic()) if failure.unreachable else None
        if failure.unreachable:
            self._check_reachable(server, failure, state)
        elif state.overloaded >= self.policy.attempts * len(self.servers):
            message = f"{failure} ({state.overloaded} attempts)"
            raise EngineBusy(message, "ask less at once (--concurrency), or add servers") from failure
        if failure.unreachable or failure.after:
            self._back_off(server, failure)

    def _check_reachable(self, server: Server, failure: TransientError, state: _Call) -> None:
        if not any(other.answered for other in self.servers):
            if all(other.failures for other in self.servers if other is not server):
                raise EngineError(self._nobody(failure), self._start) from failure
        elif state.lost_since is not None and time.monotonic() - state.lost_since > self.policy.patience:
            raise EngineBusy(f"{failure}, for {self.policy.patience:.0f} s", self._start) from failure

    def _pause(self, state: _Call, tried: RetryCallState) -> float:
        """Seconds before the next attempt. ``_next`` waits for servers that back off; other servers need no wait."""
        failure = tried.outcome.exception() if tried.outcome else None
        waits_itself = isinstance(failure, TransientError) and (failure.unreachable or failure.after)
        return 0.0 if waits_itself or len(self.servers) > 1 else self.policy.wait(state.overloaded)

    def _back_off(self, server: Server, failure: TransientError) -> None:
        """Backs off from a server, once for all calls that fail together."""
        if server.backoff_until > time.monotonic():
            return
        server.failures += 1
        if server.failures == 1 and failure.unreachable and server.answered:
            logger.warning("%s; it is tried again for %.0f s", failure, self.policy.patience)
        server.backoff_until = time.monotonic() + max(self.policy.wait(server.failures), failure.after)

    def _nobody(self, failure: TransientError) -> str:
        if len(self.servers) == 1:
            return str(failure)
        return f"none of the {len(self.servers)} servers can be reached: {', '.join(server.shown for server in self.servers)}"

    # --- one call to one server ------------------------------------------------------------------------------------------------

    async def fetch(self, server: Server, path: str, payload: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer of ``path``; uses POST if there is a ``payload``."""
        async with self._exchange(server, path, payload) as response:
            return _http.json_of(server.endpoint, await response.aread())

    async def events(self, server: Server, path: str, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of an event stream up to its ``[DONE]``; one that ends without it failed. A server that does not
        stream gives its whole answer as the only one."""
        async with self._exchange(server, path, payload, streaming=True) as response:
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                yield as_object(server, _http.json_of(server.endpoint, await response.aread()))
                return
            async for event in EventSource(response).aiter_sse():
                if event.data.strip() == "[DONE]":
                    return
                if event.data.strip():
                    yield self._event(server, event.data)
        raise TransientError(f"{server.shown} broke off in the middle of an answer", unreachable=True)

    def _event(self, server: Server, data: str) -> dict[str, Any]:
        event = as_object(server, _http.json_of(server.endpoint, data.encode(), error_code=500))
        if event.get("error"):
            _http.check(server.endpoint, _http.code_of(event, 500), {}, data.encode())
        return event

    @asynccontextmanager
    async def _exchange(
        self, server: Server, path: str, payload: Mapping[str, Any] | None, streaming: bool = False
    ) -> AsyncIterator[httpx.Response]:
        headers = server.endpoint.headers | ({"Connection": "close"} if streaming and server.drops_streams else {})
        with _http.transport_errors(server.endpoint):
            response = await self._send(server.endpoint.url + path, payload, headers)
            async with aclosing(response):
                server.answered = True
                server.drops_streams |= response.headers.get("Server", "").startswith("llama.cpp")
                if response.status_code >= 300:
                    _http.check(server.endpoint, response.status_code, response.headers, await response.aread())
                yield response

    async def _send(self, url: str, payload: Mapping[str, Any] | None, headers: Mapping[str, str]) -> httpx.Response:
        """The head of the reply. If the server had closed a kept-alive connection, the request is sent again at once; that is not
        an error of the server."""
        method = "GET" if payload is None else "POST"
        try:
            return await self._client.send(self._client.build_request(method, url, json=payload, headers=headers), stream=True)
        except httpx.RemoteProtocolError as error:
            if _http.STALE not in str(error):
                raise
        return await self._client.send(self._client.build_request(method, url, json=payload, headers=headers), stream=True)

    async def close(self) -> None:
        await self._client.aclose()


def _never(_: RetryCallState) -> bool:
    """``Client._count`` decides when a request is given up, since it depends on all servers."""
    return False


def as_object(server: Server, found: Any) -> dict[str, Any]:
    """``found``, if it is a JSON object. Raises EngineError."""
    if not isinstance(found, dict):
        raise EngineError(f"{server.shown} does not speak the OpenAI protocol: it answers {str(found)[:80]!r}")
    return found

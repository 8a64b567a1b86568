"""One or several OpenAI-compatible servers of the same model, reached over HTTP and kept equally busy.

Knows addresses, load, time-outs and retries; nothing of tokens. A server that refuses connections rests for a while and is
tried again later, while the others take over its work. An API key is sent in a header and appears nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from selfrag.errors import EngineBusy, EngineError, UsageError

T = TypeVar("T")
logger = logging.getLogger(__name__)
KEY_VARIABLES = ("SELFRAG_API_KEY", "OPENAI_API_KEY")
START_COMMAND = "start one with `selfrag serve`, then pass the --engine URL that it prints"


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is asked of the servers at once, and how long they are waited for; times in seconds.

    ``attempts`` bounds how often one request is put to servers that answer 429 or 5xx, ``pause`` is the first wait between
    two of them and doubles up to ``longest``. ``patience`` is how long a request waits for servers that did answer before and
    are gone now, as when one is started again. ``read`` is the longest silence of a server at work.
    """

    in_flight: int = 512
    attempts: int = 6
    pause: float = 0.5
    longest: float = 15.0
    patience: float = 180.0
    connect: float = 10.0
    read: float = 600.0

    def wait(self, failures: int) -> float:
        """The pause after so many failures in a row, with jitter, so that what failed together does not return together."""
        return min(self.longest, self.pause * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)


@dataclass(slots=True, eq=False)
class Server:
    """``url`` ends in ``/v1``; ``shown`` is what people may read of it. Until ``resting`` (monotonic) it is left alone."""

    url: str
    shown: str
    in_flight: int = 0
    answered: bool = False
    failures: int = 0
    resting: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Passing(Exception):
    """A failure that another attempt may mend. ``gone``: the server could not be reached, or fell silent."""

    def __init__(self, message: str, *, gone: bool = False, after: float = 0.0) -> None:
        super().__init__(message)
        self.gone, self.after = gone, after


class Pool:
    """Puts every call to the server with the least in flight, at most ``policy.in_flight`` at once, and again if it failed."""

    def __init__(self, urls: Sequence[str], policy: Policy, environ: Mapping[str, str] = os.environ) -> None:
        self.servers = [_server(url) for url in urls]
        self.policy = policy
        self._slots = asyncio.Semaphore(policy.in_flight)
        key = next((environ[name] for name in KEY_VARIABLES if environ.get(name)), None)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(policy.read, connect=policy.connect, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=policy.in_flight),
        )
        self._secrets = [key] if key else []

    async def run(self, call: Callable[[Server], Awaitable[T]]) -> T:
        """What ``call`` returns for the server that it is given; after a failure that may pass it is called again.

        Raises:
            EngineError: when no server was ever reached, or one refuses the call for good.
            EngineBusy: when every attempt failed in a way that may pass.
        """
        async with self._slots:
            return await self._persist(call)

    async def _persist(self, call: Callable[[Server], Awaitable[T]]) -> T:
        refused, lost_since, last = 0, None, None
        while True:
            server = await self._next(avoid=last)
            server.in_flight += 1
            try:
                result = await call(server)
            except Passing as failure:
                last = server
                refused += not failure.gone
                lost_since = (lost_since or time.monotonic()) if failure.gone else None
                await self._after(server, failure, refused, lost_since)
            else:
                server.failures, server.resting = 0, 0.0
                return result
            finally:
                server.in_flight -= 1

    async def _next(self, avoid: Server | None) -> Server:
        """The server with the least in flight, once one is not resting; after a failure rather another one."""
        while True:
            now = time.monotonic()
            if ready := [server for server in self.servers if server.resting <= now]:
                return min(ready, key=lambda server: (server is avoid, server.in_flight))
            await asyncio.sleep(min(server.resting for server in self.servers) - now)

    async def _after(self, server: Server, failure: Passing, refused: int, lost_since: float | None) -> None:
        """Lets a failing server rest and the request wait, or gives up."""
        if failure.gone:
            if not any(other.answered for other in self.servers):
                if all(other.failures for other in self.servers if other is not server):
                    raise EngineError(self._nobody(failure), START_COMMAND) from failure
            elif lost_since is not None and time.monotonic() - lost_since > self.policy.patience:
                raise EngineBusy(f"{failure}, for {self.policy.patience:.0f} s", START_COMMAND) from failure
        elif refused >= self.policy.attempts * len(self.servers):
            raise EngineBusy(f"{failure} ({refused} attempts)", "ask less at once (--concurrency), or add servers") from failure
        if failure.gone or failure.after:
            self._rest(server, failure)
        elif len(self.servers) == 1:
            await asyncio.sleep(self.policy.wait(refused))

    def _rest(self, server: Server, failure: Passing) -> None:
        """Once for all the calls that fail together."""
        if server.resting > time.monotonic():
            return
        server.failures += 1
        if server.failures == 1 and failure.gone and server.answered:
            logger.warning("%s; it is tried again for %.0f s", failure, self.policy.patience)
        server.resting = time.monotonic() + max(self.policy.wait(server.failures), failure.after)

    def _nobody(self, failure: Passing) -> str:
        if len(self.servers) == 1:
            return str(failure)
        return f"none of the {len(self.servers)} servers can be reached: {', '.join(server.shown for server in self.servers)}"

    # --- one call to one server ------------------------------------------------------------------------------------------------

    async def fetch(self, server: Server, path: str, payload: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that ``path`` answers, asked with POST if there is a ``payload``."""
        async with self._exchange(server, path, payload) as response:
            body = await response.aread()
            return self._object(server, body)

    async def events(self, server: Server, path: str, payload: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of an event stream (``data: {...}``) up to its ``[DONE]``; one that ends without it failed."""
        async with self._exchange(server, path, payload) as response:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    return
                event = self._object(server, data.encode())
                if "error" in event:
                    self._refuse(server, _code(event), data)
                yield event
        raise Passing(f"{server.shown} broke off in the middle of an answer", gone=True)

    @asynccontextmanager
    async def _exchange(self, server: Server, path: str, payload: Mapping[str, Any] | None) -> AsyncIterator[httpx.Response]:
        method = "GET" if payload is None else "POST"
        try:
            async with self._client.stream(method, server.url + path, json=payload) as response:
                server.answered = True
                if response.status_code >= 400:
                    body = (await response.aread()).decode(errors="replace")
                    self._refuse(server, response.status_code, body, response.headers.get("Retry-After"))
                yield response
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise EngineError(f"{server.shown} cannot be asked: {self._public(str(error))}") from None
        except httpx.TimeoutException:
            raise Passing(f"{server.shown} does not answer in time", gone=True) from None
        except httpx.TransportError as error:
            reason = self._public(str(error)) or type(error).__name__
            raise Passing(f"no server answers at {server.shown} ({reason})", gone=True) from None

    def _refuse(self, server: Server, code: int, body: str, retry_after: str | None = None) -> None:
        """Raises what a status code means; of the server's own words as much as helps."""
        said = self._public(_said(body))
        if code == 429 or code >= 500:
            raise Passing(f"{server.shown} answers {code}: {said}", after=_seconds(retry_after))
        if code in (401, 403):
            raise EngineError(f"{server.shown} refuses the API key ({code})", f"set the environment variable {KEY_VARIABLES[0]}")
        raise Refused(f"{server.shown} answers {code}: {said}", code)

    def _object(self, server: Server, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = self._public(body[:80].decode(errors="replace"))
            raise EngineError(f"{server.shown} does not speak the OpenAI protocol: it answers {said!r}", START_COMMAND)
        return found

    def _public(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    async def close(self) -> None:
        await self._client.aclose()


class Refused(EngineError):
    """A server understood the call and refuses it with the status ``code`` (4xx)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, "the server's model, version or context window may not fit this request")
        self.code = code


def _server(url: str) -> Server:
    parts = urlsplit(url)
    if not parts.hostname:
        raise UsageError(f"{url!r} is not the URL of a server", "for example --engine http://localhost:8000")
    base = url.rstrip("/")
    port = f":{parts.port}" if parts.port else ""
    shown = f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/').removesuffix('/v1')}"
    return Server(base if base.endswith("/v1") else f"{base}/v1", shown)


def _said(body: str) -> str:
    """The message in an error body, whichever of the usual places it stands in."""
    try:
        found = json.loads(body)
    except ValueError:
        return " ".join(body.split())[:200]
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:500]


def _code(event: Mapping[str, Any]) -> int:
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def _seconds(retry_after: str | None) -> float:
    """``Retry-After`` in seconds, at most ten minutes; its other form, a date, is rare with servers of models and reads 1."""
    if not retry_after:
        return 0.0
    try:
        return min(600.0, max(0.0, float(retry_after)))
    except ValueError:
        return 1.0

"""OpenAI-compatible HTTP servers for generation and embeddings: addresses, API keys, and how to interpret replies.

An API key comes only from the environment. It is sent only to its own host, over TLS or to this machine, and appears in no
message. Waiting and routing happen elsewhere: `engines/http/client.py` for generation, ``Caller`` for embeddings.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from selfrag.environment import API_HOST, API_KEY, OPENAI_KEY, OPENAI_URL
from selfrag.errors import EngineBusy, EngineError, UsageError

OPENAI_HOST = "api.openai.com"
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/models")
_VERSION = re.compile(r"/v\d+\w*(/|$)")
STALE = "Server disconnected without sending a response"
"""httpx's messages for a kept connection that turns out to be closed."""


class TransientError(EngineBusy):
    """A failure that may not happen again. ``unreachable``: no connection, or silence for too long; ``after``: seconds
    that the server asks to wait."""

    def __init__(self, message: str, *, unreachable: bool = False, after: float = 0.0) -> None:
        super().__init__(message, "is the server running?" if unreachable else "try again in a moment")
        self.unreachable, self.after = unreachable, after


class ClientError(EngineError):
    """The server understood the request and refuses it with the status ``code`` (4xx); ``reason`` are its own words."""

    def __init__(self, message: str, code: int, reason: str = "") -> None:
        super().__init__(message, "the server's model, version or context window may not fit this request")
        self.code, self.reason = code, reason


# --- addresses and keys --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``url`` is the base of the API (``…/v1``), ``shown`` what people may read of it, without its user and password.

    ``key`` is None if no key is meant for this host; ``withheld`` is the reason why a given key is not sent.
    """

    url: str
    shown: str
    host: str
    key: str | None = field(default=None, repr=False)
    variable: str = API_KEY.name
    withheld: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def transport(self) -> dict[str, httpx.BaseTransport | None]:
        """Mounts for a client: this machine is never reached through a proxy."""
        return {f"all://{self.host}": None} if is_loopback(self.host) else {}

    def public(self, text: str) -> str:
        """``text`` without the key."""
        return text.replace(self.key, "***") if self.key else text


def endpoint(
    url: str, *, named: bool = False, variable: str = "", verbatim: bool = False, environ: Mapping[str, str] = os.environ
) -> Endpoint:
    """The server at ``url``; ``/v1`` is added to an address without a version, and a pasted ``/chat/completions`` taken off.

    ``named`` says that a person named this URL for this command, ``variable`` that the environment variable of this name holds
    the key of this very server (a preset's), ``verbatim`` that the path is used unchanged. Raises UsageError for an invalid URL.
    """
    parts = _split(url)
    base = url.rstrip("/")
    for ending in _ENDPOINTS:
        base = base.removesuffix(ending)
    if not verbatim and not _VERSION.search(urlsplit(base).path):
        base += "/v1"
    host = parts.hostname or ""
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{urlsplit(base).path.removesuffix('/v1')}"
    name, key = _key(parts, named, variable, environ)
    if not key:
        return Endpoint(base, shown, host, variable=name)
    if parts.scheme != "https" and not is_loopback(host):
        why = f"{name} is not sent over plain HTTP to another machine: use https, or a tunnel to this machine (ssh -L)"
        return Endpoint(base, shown, host, variable=name, withheld=why)
    return Endpoint(base, shown, host, key, name)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- reading it checks it
    except ValueError as error:
        raise UsageError(f"{url!r} is not the URL of a server: {error}", "for example --engine http://localhost:8000") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        example = f"http://{url}" if parts.scheme not in ("http", "https") and re.match(r"[\w.-]+(:\d+)?(/|$)", url) else ""
        raise UsageError(f"{url!r} is not the URL of a server", f"for example --engine {example or 'http://localhost:8000'}")
    return parts


def _key(parts: SplitResult, named: bool, variable: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The variable whose key is meant for this host, and the key."""
    host = (parts.hostname or "").lower()
    openai = {OPENAI_HOST, (urlsplit(OPENAI_URL.read(environ)).hostname or "").lower()}
    if variable and environ.get(variable) and (variable != OPENAI_KEY.name or host in openai):
        return variable, environ[variable]
    if host in openai and (key := OPENAI_KEY.read(environ)):
        return OPENAI_KEY.name, key
    if hosts := API_HOST.read(environ):
        wanted = {each.strip().lower() for each in hosts.split(",")}
        meant = bool(wanted & {host, f"{host}:{parts.port}"})
    else:
        meant = named or is_loopback(host)
    return variable or (OPENAI_KEY if host == OPENAI_HOST else API_KEY).name, API_KEY.read(environ) if meant else None


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, by its name or its address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- replies -------------------------------------------------------------------------------------------------------------------


@contextmanager
def transport_errors(server: Endpoint) -> Iterator[None]:
    """Turns httpx errors into TransientError, or into EngineError if a retry would not help."""
    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
        raise EngineError(f"{server.shown} cannot be asked: {server.public(str(error))}") from None
    except httpx.TimeoutException:
        raise TransientError(f"{server.shown} does not answer in time", unreachable=True) from None
    except httpx.TransportError as error:
        reason = server.public(str(error)) or type(error).__name__
        raise TransientError(f"no server answers at {server.shown} ({reason})", unreachable=True) from None


def check(server: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raises what a status says: TransientError for 429 and 5xx, ClientError or EngineError otherwise; nothing for 2xx."""
    if status < 300:
        return
    if status < 400:
        where = headers.get("Location") or headers.get("location") or "another address"
        where = server.public(where)
        raise EngineError(f"{server.shown} redirects to {where}", f"pass the address that it names: {_origin(server, where)}")
    reason = server.public(said(body.decode(errors="replace")))
    if status in (401, 403):
        raise EngineError(f"{server.shown} {'refuses' if server.key else 'asks for'} the API key ({status})", _key_hint(server))
    if status in (408, 429) or status >= 500:
        if "insufficient_quota" in body.decode(errors="replace"):
            raise EngineError(f"{server.shown} answers {status}: {reason}", "the account of this key has no credit left")
        raise TransientError(f"{server.shown} answers {status}: {reason}", after=_seconds(headers.get("Retry-After")))
    raise ClientError(f"{server.shown} answers {status}: {reason}", status, reason)


def json_of(server: Endpoint, body: bytes, error_code: int = 400) -> Any:
    """The JSON value that ``body`` is. Raises EngineError for anything else, and what ``check`` raises for an error that was
    sent as a success; ``error_code`` is its status where it names none."""
    try:
        found = json.loads(body)
    except ValueError:
        text = server.public(body[:80].decode(errors="replace"))
        if text.lstrip().startswith("<"):
            raise EngineError(
                f"{server.shown} answers with a web page where JSON is expected: a login page, or not an API at all",
                "check the address (an API is usually at http://HOST:PORT/v1), and log in or set the key if it needs one",
            ) from None
        raise EngineError(f"{server.shown} does not speak the OpenAI protocol: it answers {text!r}") from None
    if isinstance(found, dict) and found.get("error") and not found.keys() & {"choices", "data"}:
        check(server, code_of(found, error_code), {}, body)
    return found


def code_of(event: Mapping[str, Any], default: int) -> int:
    """The status of an error that came as JSON within an answer, ``default`` where it names none."""
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and code >= 400 else default


def said(body: str) -> str:
    """The message in an error body, from the usual places."""
    try:
        found = json.loads(body)
    except ValueError:
        return "a web page" if body.lstrip().startswith("<") else " ".join(body.split())[:200]
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:500]


def _key_hint(server: Endpoint) -> str:
    if server.withheld:
        return server.withheld
    if server.key:
        return f"the key in the environment variable {server.variable} was refused: correct it"
    if server.variable == API_KEY.name and not is_loopback(server.host):
        return f"set {API_KEY.name} in the environment to its key, and {API_HOST.name}={server.host} so that it is sent there"
    return f"set {server.variable} in the environment to its key"


def _origin(server: Endpoint, location: str) -> str:
    """The base URL behind the address of a redirect."""
    whole = str(httpx.URL(server.url).join(location)) if location != "another address" else server.url
    for ending in _ENDPOINTS:
        whole = whole.removesuffix(ending)
    return whole


def _seconds(retry_after: str | None) -> float:
    """``Retry-After`` in seconds, at most ten minutes; its other form, a date, is rare with servers of models and reads 1."""
    if not retry_after:
        return 0.0
    try:
        return min(600.0, max(0.0, float(retry_after)))
    except ValueError:
        return 1.0


# --- calls that block ----------------------------------------------------------------------------------------------------------


class Caller:
    """Sends requests to one server and blocks: at most ``attempts`` tries, with pauses (seconds) that double from ``pause``."""

    def __init__(self, server: Endpoint, *, timeout: float = 120.0, attempts: int = 4, pause: float = 0.5) -> None:
        self.server = server
        self._client = httpx.Client(timeout=timeout, mounts=server.transport)
        self._retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(attempts),
            wait=wait_exponential_jitter(multiplier=pause, max=15.0, jitter=pause),
            reraise=True,
        )

    def fetch(self, path: str, payload: Mapping[str, Any] | None = None, refusals: frozenset[int] = frozenset()) -> Any:
        """The JSON answer of ``path``; uses POST if there is a ``payload``. A status among ``refusals`` means that the
        payload is at fault; it is not retried.

        Raises TransientError when every attempt failed in a way that may pass, ClientError and EngineError at once.
        """
        return self._retrying(self._once, path, payload, refusals)

    def _once(self, path: str, payload: Mapping[str, Any] | None, refusals: frozenset[int]) -> Any:
        method = "GET" if payload is None else "POST"
        with transport_errors(self.server):
            response = self._client.request(method, self.server.url + path, json=payload, headers=self.server.headers)
        try:
            check(self.server, response.status_code, response.headers, response.content)
        except TransientError as error:
            if response.status_code not in refusals:
                raise
            raise ClientError(error.message, response.status_code) from None
        return json_of(self.server, response.content)

    def close(self) -> None:
        self._client.close()

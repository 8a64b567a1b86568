"""Access control: the checks of every HTTP request before its body is read.

A web page can send requests to a service on the machine of its browser, and with DNS rebinding even read the answers. So the Host
must be a known name of the service, an Origin must be allowed explicitly, and beyond this machine a token is required.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 2**20
"""Bytes of a request's body."""
MOST_REQUESTS = 1000
"""Requests at once; their questions wait in a separate queue."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Rules:
    """``tokens``: one of them is required, if there are any; ``hosts`` and ``origins`` are allowed besides loopback.

    ``own_tokens`` are accepted too, but do not make a token required.
    """

    host: str
    tokens: tuple[str, ...] = ()
    own_tokens: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    most_bytes: int = MOST_BYTES
    most_requests: int = MOST_REQUESTS

    def known_host(self, header: str) -> bool:
        """Whether a Host header names this service: loopback, its bind address, or an allowed name."""
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            return False
        return name in _LOCAL or name == self.host or name in self.hosts

    def known_origin(self, origin: str, host: str) -> bool:
        """Whether a page of ``origin`` may send requests: the service's own page, or an allowed origin."""
        return origin in self.origins or origin in (f"http://{host}", f"https://{host}")

    def admits(self, authorization: str) -> bool:
        """Whether the Authorization header carries a token, if one is required."""
        if not self.tokens:
            return True
        scheme, _, given = authorization.partition(" ")
        known = [hmac.compare_digest(given.strip().encode(), token.encode()) for token in (*self.tokens, *self.own_tokens)]
        return scheme.lower() == "bearer" and any(known)


class Guard:
    """Rejects requests that break the rules or exceed the limits, answers CORS preflights of allowed origins, and cuts off bodies
    that are too large."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules, self.inside = app, rules, 0
        self.known = CORSMiddleware(
            self.admitted,
            allow_origins=rules.origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("authorization", "content-type", "mcp-session-id", "mcp-protocol-version", "last-event-id"),
            expose_headers=("mcp-session-id",),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":  # no WebSocket is served: the connection is closed
            if problem := self.problem(Headers(scope=scope)):
                await problem(scope, receive, send)
            else:
                await self.known(scope, receive, send)

    async def admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request (not a preflight) with an allowed Host and Origin."""
        if not self.rules.admits(Headers(scope=scope).get("authorization", "")):
            refused = refusal(401, "a token is required", "send the header Authorization: Bearer TOKEN", "authentication_error")
            await refused(scope, receive, send)
        elif self.inside >= self.rules.most_requests:
            busy = ("too many requests at once", "try again in a moment", "overloaded_error")
            await refusal(503, *busy, {"retry-after": "2"})(scope, receive, send)
        else:
            self.inside += 1
            try:
                await self.app(scope, limited(receive, self.rules.most_bytes), send)
            finally:
                self.inside -= 1

    def problem(self, headers: Headers) -> Response | None:
        """The reply that refuses a request before its body is read, or None."""
        host, origin, length = headers.get("host", ""), headers.get("origin"), headers.get("content-length", "0")
        if not self.rules.known_host(host):
            return refusal(
                421, f"this service is not {host!r}", "start it with --allow-host NAME if that is its name", "host_error"
            )
        if origin is not None and not self.rules.known_origin(origin, host):
            return refusal(403, f"pages of {origin} may not ask", "start it with --allow-origin URL to let them", "origin_error")
        if not length.isdigit() or int(length) > self.rules.most_bytes:
            return refusal(413, f"the request has more than {self.rules.most_bytes:,} bytes", "send less", "size_error")
        return None


class TooLarge(Exception):
    """A body without an honest Content-Length grew over the limit."""


def limited(receive: Receive, most: int) -> Receive:
    """``receive`` that raises TooLarge when more than ``most`` bytes came."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise TooLarge(f"the request has more than {most:,} bytes")
        return message

    return counted


def error_body(message: str, hint: str | None, kind: str, code: str | None = None) -> dict[str, Any]:
    """An error in the form that OpenAI's clients read, plus a hint."""
    return {"error": {"message": message, "hint": hint, "type": kind, "code": code or kind, "param": None}}


def refusal(status: int, message: str, hint: str, kind: str, headers: Mapping[str, str] = {}) -> Response:
    """An error reply that closes the connection, since the body of the request is not read."""
    return JSONResponse(error_body(message, hint, kind), status, {"connection": "close", **headers})

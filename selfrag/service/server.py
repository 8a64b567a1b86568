"""Serves an application over HTTP until it is stopped, then finishes the requests in flight."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from selfrag.errors import SelfragError, UsageError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises UsageError for an address that cannot be bound."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # whoever connects before the server accepts waits, and is not refused
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {host} port {port}: {reason}", "name another one with --port, or 0 for a free one"
        ) from error
    return bound


class Server(uvicorn.Server):
    """Stops on SIGINT or SIGTERM: no new connections, requests in flight are finished. A second signal stops it at once."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_stop = on_stop

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn's signature)
        if self.should_exit:
            self.force_exit = True
        else:
            self.should_exit = True
            self.on_stop()


async def serve(app: ASGIApp, bound: socket.socket, on_stop: Callable[[], None] = lambda: None, **more: Any) -> None:
    """Serves until a signal comes. ``on_stop`` is called with the first one. Raises SelfragError if the server does not start."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        **more,
    )
    server = Server(config, on_stop)
    try:
        await server.serve(sockets=[bound])
    except asyncio.CancelledError:
        server.should_exit = True
        raise
    if not server.started:
        raise SelfragError("the server did not start")

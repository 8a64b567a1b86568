"""The checks in front of every service, without one."""

from __future__ import annotations

import asyncio

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from selfrag.service.guard import Guard, Rules


async def test_too_many_at_once() -> None:
    """Above the most requests at once one is refused with Retry-After, in the shape of every error; a place is free again after
    one has ended, in whatever way."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await go.wait()
        if scope["path"] == "/fails":
            raise RuntimeError("no")
        await Response("done")(scope, receive, send)

    guard = Guard(slow, Rules("127.0.0.1", most_requests=1))
    transport = httpx.ASGITransport(guard, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as web:
        for path, status in (("/", 200), ("/fails", 500), ("/", 200)):
            entered.clear()
            go.clear()
            first = asyncio.create_task(web.get(path))
            await entered.wait()
            refused = await web.get("/")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["type"] == "overloaded_error"
            go.set()
            assert (await first).status_code == status

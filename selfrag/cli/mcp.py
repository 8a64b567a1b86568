"""`selfrag mcp`: the agent as tools for MCP clients."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag.cli import terminal
from selfrag.cli.api import AllowHosts, AllowOrigins, Concurrency, Host, Waiting, open_backend, rules_of, settings_of
from selfrag.cli.conversation import Keep
from selfrag.cli.options import AgentFlags, Quiet, Service, with_flags
from selfrag.errors import SelfragError

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfrag.service.backend import Answering
    from selfrag.service.guard import Rules
    from selfrag.service.mcp import Opening


@with_flags
def mcp(
    flags: AgentFlags,
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP at /mcp instead of stdin and stdout.")] = False,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port of --http; 0 takes a free one.")] = 8378,
    allow_host: AllowHosts = None,
    allow_origin: AllowOrigins = None,
    concurrency: Concurrency = 4,
    waiting: Waiting = 64,
    history: Keep = None,
    service: Service = True,
    quiet: Quiet = False,
) -> None:
    """Serve the agent to MCP clients: editors, desktop assistants, other agents.

    The tools are ask, search, read (the lines around a citation; indexed sources only) and status. A client starts the command
    and talks to it through stdin and stdout, or, with --http, connects to http://HOST:PORT/mcp. It needs the package `mcp`:
    pip install 'selfrag[mcp]'. While `selfrag api` runs with the same model and settings, it answers, and no model is loaded
    here.

    \b
    Examples:
      selfrag mcp
      selfrag mcp -c papers -c notes
      selfrag mcp --http --port 9001
      claude mcp add documents -- selfrag mcp -c papers
    """
    import asyncio

    if importlib.util.find_spec("mcp") is None:
        raise SelfragError("the package mcp is not installed", "pip install 'selfrag[mcp]'")
    rules = rules_of(host, allow_host, allow_origin)
    from selfrag.service.remote import finder

    now = settings_of(flags, history)
    remote = finder(now, flags.collection or (), flags.also or ()) if service else lambda: None
    opening = partial(open_backend, flags, now, concurrency, waiting, quiet or not http)
    if http:
        asyncio.run(serve_http(opening, remote, rules, port, quiet))
    else:
        from selfrag.service.mcp import serve_stdio

        asyncio.run(serve_stdio(opening, remote))


async def serve_http(opening: Opening, remote: Callable[[], Answering | None], rules: Rules, port: int, quiet: bool) -> None:
    from selfrag.service.mcp import make_app, opened
    from selfrag.service.server import listen, serve

    with listen(rules.host, port) as bound:
        async with opened(opening, remote) as door:
            await door.backend()  # an error here ends the command
            address, number = bound.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            terminal.say(f"serving MCP at http://{shown}:{number}/mcp; Ctrl-C stops", quiet)
            await serve(
                make_app(door, rules), bound, lambda: terminal.say("finishing what is in flight; Ctrl-C again stops now", quiet)
            )

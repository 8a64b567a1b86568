"""`selfrag api`: the agent as an HTTP service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag import environment, telemetry
from selfrag.cli import terminal
from selfrag.cli.conversation import Keep
from selfrag.cli.options import AgentFlags, Quiet, with_flags
from selfrag.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from selfrag.config.settings import Settings
    from selfrag.service.backend import Backend
    from selfrag.service.guard import Rules

Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on; beyond loopback a token is required.")]
AllowHosts = Annotated[
    list[str] | None, typer.Option("--allow-host", metavar="NAME", help="Another name of this service; may be repeated.")
]
AllowOrigins = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", metavar="URL", help="Allow requests from web pages of this origin; may be repeated."),
]
Concurrency = Annotated[int, typer.Option(metavar="N", min=1, help="Questions answered at the same time.")]
Waiting = Annotated[int, typer.Option(metavar="N", min=0, help="Questions that may wait; more are refused (503).")]


@with_flags
def api(
    flags: AgentFlags,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")] = 8377,
    allow_host: AllowHosts = None,
    allow_origin: AllowOrigins = None,
    concurrency: Concurrency = 4,
    waiting: Waiting = 64,
    history: Keep = None,
    quiet: Quiet = False,
) -> None:
    """Serve the agent over HTTP; the model stays loaded.

    POST /v1/ask, /v1/search and /v1/read, GET /v1/status; and for chat front ends the API of OpenAI, /v1/chat/completions and
    /v1/models. While it runs, `selfrag ask` with the same model and settings uses it and starts at once. With SELFRAG_API_TOKEN
    in the environment every request must carry it. Ctrl-C or SIGTERM finishes the requests in flight.

    \b
    Examples:
      selfrag api
      selfrag api -c papers --port 9000
      curl -s localhost:8377/v1/ask -d '{"question": "Who wrote Faust?"}' | jq .answer
      SELFRAG_API_TOKEN=$(openssl rand -hex 32) selfrag api --host 0.0.0.0 --allow-host rag.example.org
    """
    import asyncio

    rules = rules_of(host, allow_host, allow_origin)
    opening = open_backend(flags, settings_of(flags, history), concurrency, waiting, quiet)
    asyncio.run(serve_api(opening, rules, port, quiet))


def rules_of(host: str, hosts: list[str] | None, origins: list[str] | None) -> Rules:
    """The access rules. Raises UsageError if anybody on the network could ask."""
    from selfrag.service.guard import Rules, is_loopback

    token = environment.API_TOKEN.read().strip()
    if not token and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, so a token is required",
            f"{environment.API_TOKEN.name}=$(openssl rand -hex 32) selfrag …",
        )
    return Rules(host, (token,) if token else (), hosts=tuple(hosts or ()), origins=tuple(o.rstrip("/") for o in origins or ()))


async def serve_api(opening: AbstractAsyncContextManager[Backend], rules: Rules, port: int, quiet: bool) -> None:
    from dataclasses import replace

    from selfrag.service import registry
    from selfrag.service.api import make_app
    from selfrag.service.server import listen, serve

    with listen(rules.host, port) as bound:
        async with opening as backend:
            address, number = bound.getsockname()[:2]
            reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
            with registry.announced(backend.settings, reached, number, backend.agent.reflector.kind) as here:
                app = make_app(backend, replace(rules, own_tokens=(here.token,)))
                shown = f"[{reached}]" if ":" in reached else reached
                terminal.say(f"serving {backend.agent.reflector.engine.model} at http://{shown}:{number}; Ctrl-C stops", quiet)
                await serve(app, bound, lambda: terminal.say("finishing what is in flight; Ctrl-C again stops now", quiet))


def settings_of(flags: AgentFlags, history: bool | None) -> Settings:
    """The settings of a service; each request may restrict the sources. Raises UsageError and ConfigError."""
    from selfrag.config import settings

    if flags.source or flags.where or flags.hyde or flags.files:
        hint = "name source and where in each request"
        raise UsageError("--source, --where, --hyde and --file are not for a service", hint)
    return settings.load(history=history, **{**flags.given, **({"correct": True} if flags.also else {})})


@asynccontextmanager
async def open_backend(flags: AgentFlags, now: Settings, concurrency: int, waiting: int, quiet: bool) -> AsyncIterator[Backend]:
    """The service's agent, opened from flags and settings."""
    from contextlib import AsyncExitStack

    from selfrag.service import backend
    from selfrag.service.queue import Queue

    async with AsyncExitStack() as stack:
        stack.enter_context(telemetry.exporting())
        with terminal.stopping_at_once(), terminal.waiting("opening the collection and the model", quiet):
            opening = backend.open_backend(now, flags.collection or (), Queue(concurrency, waiting), flags.also or ())
            opened = await stack.enter_async_context(opening)
        for warning in opened.agent.warnings:
            terminal.say(f"warning: {warning}", quiet)
        yield opened

"""The agent as tools for MCP clients: `ask`, `search`, `read` and `status`, with JSON Schemas of their inputs and outputs.

The server answers at once: the agent is opened after the tools were listed, or when the first one is called. An error is a result
marked as an error, with a hint, so that the client's model can read it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import TypeAdapter
from starlette.types import ASGIApp

from selfrag._version import __version__
from selfrag.answers import render
from selfrag.answers.schema import AnswerJson, answer_json, passage_json
from selfrag.errors import SelfragError, UsageError
from selfrag.service import completions
from selfrag.service.backend import Answering, Backend
from selfrag.service.client import ServiceLost
from selfrag.service.guard import Guard, Rules
from selfrag.service.requests import place_of, query_of, question_of

Json = dict[str, Any]
Opening = Callable[[], AbstractAsyncContextManager[Backend]]

INSTRUCTIONS = (
    "Answers questions from a person's own indexed documents. `ask` gives a short answer; every sentence has a citation and "
    "a critique of the model: ISREL, is the passage relevant (0 to 1); ISSUP, does it support the sentence (0 to 1); ISUSE, is "
    "the answer useful (-1 to 1). `confidence` is the probability that the answer is right. It abstains where the documents do "
    "not answer. `search` finds passages without a model, and `read` shows more of a source around a citation."
)

# --- schemas -------------------------------------------------------------------------------------------------------------------

_TEXT: Json = {"type": "string"}
_TEXTS: Json = {"type": "array", "items": _TEXT}
_LINES: Json = {"type": ["array", "null"], "items": {"type": "integer"}, "description": "First and last line, 1-based."}
_PAGE: Json = {"type": ["integer", "null"], "description": "Page, 1-based."}


def _object(properties: Mapping[str, Json], *required: str, more: bool = False) -> Json:
    return {"type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": more}


_DOCUMENTS: Json = {
    "collections": {**_TEXTS, "description": "Collections to ask; left out, the service's own. `status` lists them."},
    "source": {**_TEXTS, "description": "Restrict to sources that match one of these git-style patterns."},
    "where": {**_TEXTS, "description": "Restrict to sources with this front matter, KEY=VALUE."},
}
_PLACE: Json = {"type": ["string", "null"], "description": "Where it stands as its format names it: slide 3, Tariffs!A2:C9."}
_PASSAGE: Json = {
    "title": _TEXT,
    "source": _TEXT,
    "lines": _LINES,
    "page": _PAGE,
    "place": _PLACE,
    "chunk": _TEXT,
    "text": _TEXT,
    "headers": {
        "type": "array",
        "items": _object({"start": {"type": "integer"}, "end": {"type": "integer"}, "text": _TEXT}, "start", "end", "text"),
        "description": "What text[start:end] stands under: its table's header row, or the first line of its record.",
    },
}
_PIECE = _object({"lines": _LINES, "page": _PAGE, "chunk": _TEXT, "text": _TEXT}, "lines", "page", "chunk", "text")

_READS_ONLY = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
TOOLS = (
    types.Tool(
        name="ask",
        title="Ask the documents",
        description="Answer a question from the indexed documents, every sentence cited and critiqued; abstains if they do not.",
        input_schema=_object(
            {
                "question": {**_TEXT, "description": "A question that stands alone."},
                **_DOCUMENTS,
                "also": {**_TEXTS, "description": "Collections to search, too, where those hold nothing relevant."},
                "choices": {**_TEXTS, "description": "A closed set: the answer is one of these."},
                "options": {
                    "type": "object",
                    "description": "Search options by name, as `selfrag config show` lists them: k, mode, w_sup, …",
                },
            },
            "question",
        ),
        output_schema=TypeAdapter(AnswerJson).json_schema(),
        annotations=_READS_ONLY,
    ),
    types.Tool(
        name="search",
        title="Search the documents",
        description="Find passages by meaning and by words, without a model.",
        input_schema=_object(
            {"query": _TEXT, **_DOCUMENTS, "k": {"type": "integer", "minimum": 1, "description": "Passages at most."}}, "query"
        ),
        output_schema=_object(
            {
                "query": _TEXT,
                "passages": {
                    "type": "array",
                    "items": _object({**_PASSAGE, "score": {"type": "number"}}, *_PASSAGE, "score", more=True),
                },
                "warnings": _TEXTS,
            },
            "query",
            "passages",
            "warnings",
        ),
        annotations=_READS_ONLY,
    ),
    types.Tool(
        name="read",
        title="Read a source",
        description="Read what is indexed of a source, around a line or on a page. Only indexed sources can be read.",
        input_schema=_object(
            {
                "source": {**_TEXT, "description": "The `source` of a citation or passage, to the letter."},
                "line": {"type": "integer", "minimum": 1, "description": "A line of the citation."},
                "page": {"type": "integer", "minimum": 1, "description": "Or its page."},
                "context": {"type": "integer", "minimum": 0, "description": "Lines before and after; 20 if left out."},
                "collections": _DOCUMENTS["collections"],
            },
            "source",
        ),
        output_schema=_object(
            {
                "source": _TEXT,
                "title": _TEXT,
                "collection": _TEXT,
                "lines": _LINES,
                "page": _PAGE,
                "pieces": {"type": "array", "items": _PIECE},
                "text": _TEXT,
            },
            "source",
            "title",
            "collection",
            "pieces",
            "text",
        ),
        annotations=_READS_ONLY,
    ),
    types.Tool(
        name="status",
        title="State of the service",
        description="Which model and collections are served, with which options, and how many questions were answered.",
        input_schema=_object({}),
        output_schema=_object(
            {
                "version": _TEXT,
                "model": _TEXT,
                "collections": _TEXTS,
                "available": {"type": "array"},
                "options": {"type": "object"},
            },
            "version",
            "model",
            "collections",
            more=True,
        ),
        annotations=_READS_ONLY,
    ),
)


# --- what the tools do ---------------------------------------------------------------------------------------------------------


async def ask(backend: Answering, given: Json) -> tuple[str, Json]:
    asked = question_of(given)
    if asked.stream or asked.trace or asked.only:
        raise UsageError("stream, trace and only are not arguments of this tool")
    answered = await backend.ask(asked)
    document = answer_json(answered.answer)
    document["warnings"] += answered.warnings
    return "".join(completions.pieces(answered.answer)), {**document}


async def search(backend: Answering, given: Json) -> tuple[str, Json]:
    query = query_of(given)
    passages, warnings = await backend.search(query)
    rows = [passage_json(each) | {"score": each.score} for each in passages]
    shown = [f"{n}. {row['title']} ({render.where(row)})\n{row['text']}" for n, row in enumerate(rows, 1)]
    return "\n\n".join(shown) or "nothing found", {"query": query.query, "passages": rows, "warnings": list(warnings)}


async def read(backend: Answering, given: Json) -> tuple[str, Json]:
    found = await backend.read(place_of(given))
    return found["text"], found


async def status(backend: Answering, given: Json) -> tuple[str, Json]:
    if given:
        raise UsageError("status takes no arguments")
    found = await backend.status()
    return json.dumps(found, ensure_ascii=False), found


_TOOLS: Mapping[str, Callable[[Answering, Json], Awaitable[tuple[str, Json]]]] = {
    "ask": ask,
    "search": search,
    "read": read,
    "status": status,
}


class LazyBackend:
    """The service that ``remote`` finds, else a backend of this process, opened on first use, since loading a model blocks
    everything else for some seconds."""

    def __init__(self, remote: Callable[[], Answering | None]) -> None:
        self.remote = remote
        self.wanted = asyncio.Event()
        self.ready: asyncio.Future[Backend] = asyncio.get_running_loop().create_future()

    async def backend(self, own: bool = False) -> Answering:
        """The backend, once it is open; ``own`` forces that of this process. Raises the error of opening, at every call."""
        if not own and not self.wanted.is_set() and (found := self.remote()):
            return found
        self.wanted.set()
        return await asyncio.shield(self.ready)

    def open_soon(self) -> None:
        """Opens the backend of this process, if there is no service, once the current responses have been sent."""
        if self.remote() is None:
            asyncio.get_running_loop().call_later(0.1, self.wanted.set)


def nowhere() -> None:
    """Finds no service."""


@asynccontextmanager
async def opened(opening: Opening, remote: Callable[[], Answering | None] = nowhere) -> AsyncIterator[LazyBackend]:
    """The lazy backend, and what it opened, until the end."""
    lazy, ending = LazyBackend(remote), asyncio.Event()

    async def hold() -> None:
        await lazy.wanted.wait()
        try:
            async with opening() as backend:
                lazy.ready.set_result(backend)
                await ending.wait()
        except Exception as error:
            if lazy.ready.done():
                raise
            lazy.ready.set_exception(error)

    holding = asyncio.create_task(hold())
    try:
        yield lazy
    finally:
        ending.set()
        if not lazy.ready.done():
            holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)


def make_server(lazy: LazyBackend) -> Server[Any]:
    """The MCP server with its tools."""

    async def list_tools(_ctx: ServerRequestContext[Any], _params: object) -> types.ListToolsResult:
        lazy.open_soon()
        return types.ListToolsResult(tools=list(TOOLS))

    async def call_tool(_ctx: ServerRequestContext[Any], params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            if params.name not in _TOOLS:
                raise UsageError(f"there is no tool {params.name!r}", f"the tools are {', '.join(_TOOLS)}")
            tool, given = _TOOLS[params.name], dict(params.arguments or {})
            try:
                text, found = await tool(await lazy.backend(), given)
            except ServiceLost:
                text, found = await tool(await lazy.backend(own=True), given)
        except SelfragError as error:
            hint = f"\n→ {error.hint}" if error.hint else ""
            return _result(f"{error.message}{hint}", is_error=True)
        return _result(text, json.loads(json.dumps(found)))

    return Server("selfrag", version=__version__, instructions=INSTRUCTIONS, on_list_tools=list_tools, on_call_tool=call_tool)


def _result(text: str, found: Json | None = None, is_error: bool = False) -> types.CallToolResult:
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.CallToolResult(content=content, structured_content=found, is_error=is_error)


# --- transports ----------------------------------------------------------------------------------------------------------------


async def serve_stdio(opening: Opening, remote: Callable[[], Answering | None] = nowhere) -> None:
    """Speaks MCP on stdin and stdout until stdin ends."""
    async with opened(opening, remote) as lazy:
        server = make_server(lazy)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())


def make_app(lazy: LazyBackend, rules: Rules) -> ASGIApp:
    """Streamable HTTP at ``/mcp``, behind the same guard as the API, which checks Host, Origin, token and size."""
    app = make_server(lazy).streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=rules.most_bytes,
    )
    return Guard(app, rules)

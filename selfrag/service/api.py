"""The HTTP API: questions, searches and the state of the service as JSON, and OpenAI's chat API beside them."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from selfrag.answers.schema import answer_json, passage_json
from selfrag.answers.trace import Recorder, event_json, trace_json
from selfrag.errors import CollectionError, EngineBusy, EngineError, InputError, SelfragError, UsageError
from selfrag.service import completions
from selfrag.service.backend import Backend
from selfrag.service.guard import Guard, Rules, TooLarge, error_body
from selfrag.service.requests import Answered, Question, place_of, query_of, question_of
from selfrag.types import Event, Observer, Passage

T = TypeVar("T")
Json = dict[str, Any]

KEEP_ALIVE = 1.0
"""Seconds without an event after which a stream checks for the client and sends a comment."""


def make_app(backend: Backend, rules: Rules) -> ASGIApp:
    """The application, behind its guard."""
    api = Api(backend)
    routes = [
        Route("/v1/ask", api.ask, methods=["POST"]),
        Route("/v1/search", api.search, methods=["POST"]),
        Route("/v1/read", api.read, methods=["POST"]),
        Route("/v1/status", api.status, methods=["GET"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
    ]
    handlers: Mapping[Any, Callable[[Request, Any], Any]] = {
        SelfragError: lambda _, error: error_response(error),
        HTTPException: lambda _, error: JSONResponse(
            error_body(str(error.detail), "GET /v1/status, POST /v1/ask, POST /v1/search", "not_found_error"), error.status_code
        ),
        TooLarge: lambda _, error: JSONResponse(error_body(str(error), "send less", "size_error"), 413),
        ClientDisconnect: lambda *_: Response(status_code=499),
        Exception: _internal,
    }
    return Guard(Starlette(routes=routes, exception_handlers=handlers), rules)


class Api:
    """One method per route."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    async def ask(self, request: Request) -> Response:
        asked = question_of(await body(request))
        if asked.stream:
            return await self.stream(request, asked)
        recorder = Recorder()
        answered = await attached(request, self.backend.ask(asked, recorder if asked.trace else None))
        if asked.trace:
            return JSONResponse(trace_json(answered.answer, recorder.events))
        document = answer_json(answered.answer)
        document["warnings"] += answered.warnings
        return JSONResponse(document)

    async def search(self, request: Request) -> Response:
        query = query_of(await body(request))
        found, warnings = await self.backend.search(query)
        rows = [passage_json(each) | {"score": each.score, "dense": each.dense, "bm25": each.bm25} for each in found]
        return JSONResponse({"query": query.query, "passages": rows, "warnings": list(warnings)})

    async def read(self, request: Request) -> Response:
        return JSONResponse(await self.backend.read(place_of(await body(request))))

    async def status(self, _request: Request) -> Response:
        return JSONResponse(await self.backend.status())

    async def models(self, _request: Request) -> Response:
        return JSONResponse(completions.models(await self._collections(), self.backend.started))

    async def chat(self, request: Request) -> Response:
        given = await body(request)
        chat = completions.chat_of(given, await self._collections(), self.backend.agent.reflector.engine.model)
        if not chat.stream:
            return JSONResponse(completions.completion(chat, await attached(request, self.backend.ask(chat.question))))
        stream = completions.Stream(chat, self.backend.options(chat.question))

        def shown(part: Event | Answered) -> Iterator[bytes]:
            if isinstance(part, Answered):
                yield from (_data(chunk) for chunk in stream.last(part))
                yield b"data: [DONE]\n\n"
            else:
                yield from (_data(chunk) for chunk in stream.more(part))

        return await streamed(request, lambda observe: self.backend.ask(chat.question, observe), shown, _data(stream.first()))

    async def stream(self, request: Request, asked: Question) -> Response:
        """Server-sent events: ``options``, ``search`` for each event of the search, then ``answer``, or ``error``."""
        options = self.backend.options(asked)

        def shown(part: Event | Answered) -> Iterator[bytes]:
            if isinstance(part, Answered):
                answer = part.answer
                more = {"options": asdict(answer.options), "warnings": list(part.warnings), "described": dict(part.described)}
                yield b"event: answer\n" + _data({"answer": answer_json(answer), **more})
            else:
                passages: dict[str, Passage] = {}
                row = event_json(part, passages)
                known = {chunk: passage_json(passage) for chunk, passage in passages.items()}
                yield b"event: search\n" + _data({"event": row, "passages": known})

        first = b"event: options\n" + _data(asdict(options))
        return await streamed(request, lambda observe: self.backend.ask(asked, observe), shown, first)

    async def _collections(self) -> list[str]:
        from selfrag import index

        return await asyncio.to_thread(index.names, self.backend.settings.paths.data)


async def body(request: Request) -> object:
    """The JSON of a request. Raises UsageError."""
    raw = await request.body()
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"the body is not JSON: {reason}", 'send {"question": "…"}') from None


# --- errors --------------------------------------------------------------------------------------------------------------------

_STATUS: tuple[tuple[type[SelfragError], int, str], ...] = (
    (UsageError, 400, "invalid_request_error"),
    (InputError, 404, "not_found_error"),
    (CollectionError, 404, "not_found_error"),
    (EngineBusy, 503, "overloaded_error"),
    (EngineError, 502, "engine_error"),
    (SelfragError, 500, "server_error"),
)


def error_of(error: SelfragError) -> tuple[int, Json]:
    """The status and the body of an error. ``code`` is the name of its class."""
    status, kind = next((status, kind) for cls, status, kind in _STATUS if isinstance(error, cls))
    return status, error_body(error.message, error.hint, kind, type(error).__name__)


def error_response(error: SelfragError) -> Response:
    status, document = error_of(error)
    return JSONResponse(document, status, headers={"Retry-After": "2"} if status == 503 else None)


def _internal(_request: Request, error: Exception) -> Response:
    """The server itself prints the traceback."""
    return JSONResponse(
        error_body(f"internal error: {type(error).__name__}", "the service's own log says more", "server_error"), 500
    )


# --- disconnects and streams --------------------------------------------------------------------------------------------------


async def attached(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``, which is cancelled if the client disconnects. Raises ClientDisconnect then."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def streamed(
    request: Request,
    ask: Callable[[Observer], Awaitable[Answered]],
    shown: Callable[[Event | Answered], Iterator[bytes]],
    first: bytes = b"",
) -> Response:
    """Streams what ``shown`` makes of each event and of the answer. An error before the first event has an HTTP status."""
    news: asyncio.Queue[Event | Answered | BaseException] = asyncio.Queue()

    async def work() -> None:
        try:
            news.put_nowait(await ask(news.put_nowait))
        except Exception as error:
            news.put_nowait(error)

    task = asyncio.create_task(work())
    try:
        begin = await attached(request, news.get())
    except ClientDisconnect:
        await _end(task)
        raise
    if isinstance(begin, BaseException):
        raise begin

    async def events() -> AsyncIterator[bytes]:
        try:
            yield first
            part: Event | Answered | BaseException = begin
            while True:
                if isinstance(part, BaseException):
                    yield b"event: error\n" + _data(_error_in_stream(part))
                    return
                for piece in shown(part):
                    yield piece
                if isinstance(part, Answered):
                    return
                while True:
                    try:
                        part = await asyncio.wait_for(news.get(), KEEP_ALIVE)
                        break
                    except TimeoutError:
                        if await request.is_disconnected():
                            return
                        yield b": searching\n\n"
        finally:
            await _end(task)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _error_in_stream(error: BaseException) -> Json:
    if isinstance(error, SelfragError):
        return error_of(error)[1]
    traceback.print_exception(error, file=sys.stderr)
    return error_body(f"internal error: {type(error).__name__}", None, "server_error")


def _data(document: Json) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"

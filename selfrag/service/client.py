"""Asks a running service instead of loading a model: the same answer, without the start-up."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from selfrag import errors
from selfrag.answers.decode import answer_from, event_from
from selfrag.answers.trace import options_from, passage_from
from selfrag.service.registry import Running
from selfrag.service.requests import Answered
from selfrag.types import Observer, Passage, SearchOptions

T = TypeVar("T")
Json = dict[str, Any]
Begin = Callable[[SearchOptions], None]

CONNECTING = 2.0  # seconds


class ServiceLost(Exception):
    """The service is unreachable, overloaded, or ended before it answered: ask elsewhere."""


async def ask(service: Running, question: Json, observer: Observer, begin: Begin | None = None) -> Answered:
    """Asks, as ``POST /v1/ask`` takes it: calls ``begin`` with the options of the search, and ``observer`` with its events as
    they come, in another thread. Cancelled, it hangs up, and the service gives the question up.

    Raises ServiceLost where the question can be asked elsewhere, and the errors that the search itself raises.
    """

    def heard(reply: http.client.HTTPResponse) -> Answered:
        return _heard(reply, observer, begin)

    return await _posted(service, "/v1/ask", {**question, "stream": True}, heard)


async def post(service: Running, path: str, body: Json) -> Json:
    """The JSON that the service replies with. Raises what `ask` raises."""
    return await _posted(service, path, body, lambda reply: _json(reply.read()))


async def get(service: Running, path: str) -> Json:
    """The JSON of a page of the service. Raises what `ask` raises."""
    return await _posted(service, path, None, lambda reply: _json(reply.read()))


async def _posted(service: Running, path: str, body: Json | None, read: Callable[[http.client.HTTPResponse], T]) -> T:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=CONNECTING)
    given_up = threading.Event()

    def sent() -> T:
        try:
            connection.connect()
            if given_up.is_set():
                raise ServiceLost("the request was cancelled")
            connection.sock.settimeout(None)  # an answer takes as long as it takes
            head = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
            connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), head)
            reply = connection.getresponse()
            if reply.status != 200:
                raise _error(reply.status, _json(reply.read()))
            return read(reply)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceLost(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    try:
        return await asyncio.to_thread(sent)
    except asyncio.CancelledError:
        given_up.set()
        if connection.sock:
            with suppress(OSError):  # it has ended meanwhile
                connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread
        raise


def _heard(reply: http.client.HTTPResponse, observer: Observer, begin: Begin | None) -> Answered:
    passages: dict[str, Passage] = {}
    for kind, data in _events(reply):
        if kind == "options" and begin:
            begin(options_from(data))
        elif kind == "search":
            passages |= {chunk: passage_from(row) for chunk, row in data["passages"].items()}
            observer(event_from(data["event"], passages))
        elif kind == "answer":
            answer = answer_from(data["answer"], options_from(data["options"]))
            return Answered(answer, tuple(data["warnings"]), data["described"])
        elif kind == "error":
            raise _error(200, data)
    raise ServiceLost("it ended before it answered")


def _events(reply: http.client.HTTPResponse) -> Iterator[tuple[str, Json]]:
    """The server-sent events: kind and data."""
    kind = ""
    for line in iter(reply.readline, b""):
        name, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def _json(raw: bytes) -> Json:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, document: Json) -> Exception:
    """The exception for an error of the service, of the class that this process would raise."""
    said = document.get("error") or {}
    kind = getattr(errors, str(said.get("code")), None)
    if status == 503 or not (isinstance(kind, type) and issubclass(kind, errors.SelfragError)):
        return ServiceLost(str(said.get("message") or f"status {status}"))
    return kind(str(said.get("message")), said.get("hint"))

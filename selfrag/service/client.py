"""Asks a running service instead of loading a model: the same answer, without the start-up."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from selfrag import errors
from selfrag.answers.decode import answer_from, event_from
from selfrag.answers.trace import options_from, passage_from
from selfrag.service.registry import Running
from selfrag.types import Answer, Observer, Passage

Json = dict[str, Any]

CONNECTING = 2.0  # seconds


class Lost(Exception):
    """The service could not be reached, has too much to do, or ended before it answered: the question is asked elsewhere."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An answer of a service, its retriever's warnings, and what else it depends on."""

    answer: Answer
    warnings: tuple[str, ...]
    described: Json


def ask(service: Running, question: Json, observer: Observer) -> Remote:
    """Asks, as ``POST /v1/ask`` takes it, and calls ``observer`` with the events of the search as they come.

    Raises Lost where the question can be asked elsewhere, and the errors that the search itself raises.
    """
    connection = http.client.HTTPConnection(service.host, service.port, timeout=CONNECTING)
    try:
        connection.connect()
        connection.sock.settimeout(None)  # an answer takes as long as it takes
        head = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/ask", json.dumps({**question, "stream": True}), head)
        reply = connection.getresponse()
        if reply.status != 200:
            raise _error(reply.status, _json(reply.read()))
        return _heard(reply, observer)
    except (OSError, http.client.HTTPException) as error:
        raise Lost(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _heard(reply: http.client.HTTPResponse, observer: Observer) -> Remote:
    passages: dict[str, Passage] = {}
    for kind, data in _events(reply):
        if kind == "search":
            passages |= {chunk: passage_from(row) for chunk, row in data["passages"].items()}
            observer(event_from(data["event"], passages))
        elif kind == "answer":
            answer = answer_from(data["answer"], options_from(data["options"]))
            return Remote(answer, tuple(data["warnings"]), data["described"])
        elif kind == "error":
            raise _error(200, data)
    raise Lost("it ended before it answered")


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
    """The error that the service names, as this process would have raised it."""
    said = document.get("error") or {}
    kind = getattr(errors, str(said.get("code")), None)
    if status == 503 or not (isinstance(kind, type) and issubclass(kind, errors.SelfragError)):
        return Lost(str(said.get("message") or f"status {status}"))
    return kind(str(said.get("message")), said.get("hint"))

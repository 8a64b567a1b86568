"""The shapes of OpenAI's chat API around an answer, so that existing chat front ends can show it.

A front end shows only the text of a message, so the text includes citations and critique; programs find the whole answer, as
`ask --json` prints it, under the key ``selfrag``. Each collection appears as a separate model, ``selfrag/NAME``.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfrag._util import clean, printable
from selfrag.algorithm.certain import Certain
from selfrag.answers import render
from selfrag.answers.schema import CitationJson, answer_json
from selfrag.conversation.followup import Turn, rewrite
from selfrag.errors import UsageError
from selfrag.service.requests import Answered, Question, documents_of, flag, options_of, table, texts, words
from selfrag.types import Answer, Cited, Event, SearchOptions

Json = dict[str, Any]

NAME = "selfrag"
_SOURCES = "\n\nSources:\n"
_KNOWN = ("model", "messages", "stream", "stream_options", "n", "selfrag")


@dataclass(frozen=True, slots=True)
class Chat:
    """A request: the question that stands alone, what was typed, and the names of fields that have no meaning here."""

    model: str
    question: Question
    typed: str
    stream: bool
    usage: bool
    ignored: tuple[str, ...]


def chat_of(body: object, collections: Sequence[str], model: str) -> Chat:
    """The request of a chat client. ``collections`` are the existing ones, ``model`` is the one that the service runs.

    The last user message is the question; the ones before it only help to understand a follow-up. Raises UsageError.
    """
    if not isinstance(body, dict):
        raise UsageError("the body is not a JSON object")
    row = {name: value for name, value in body.items() if value is not None}
    name = row.get("model", NAME)
    if not isinstance(name, str) or name not in (NAME, model, *(f"{NAME}/{each}" for each in collections)):
        raise UsageError(f"there is no model {name!r}", "GET /v1/models lists them")
    if row.get("n", 1) != 1:
        raise UsageError("n is not 1: there is one best answer", "leave it out")
    said = _messages(row.get("messages"))
    if not said or said[-1][0] != "user":
        raise UsageError("the last message is not the user's", 'send {"messages": [{"role": "user", "content": "…"}]}')
    typed = words({"question": said[-1][1]}, "question")
    more = table(row.get("selfrag", {}), ("source", "where", "also", "options", "choices", "history"), "selfrag")
    collection = (name.removeprefix(f"{NAME}/"),) if name.startswith(f"{NAME}/") else ()
    asked = Question(
        rewrite(typed, _turns(said[:-1])),
        replace(documents_of(more), collections=collection),
        texts(more, "choices"),
        options_of(more.get("options", {})),
        history=flag(more, "history", True),
        typed=typed,
    )
    options = row.get("stream_options")
    usage = isinstance(options, dict) and options.get("include_usage") is True
    ignored = sorted(key for key in row if key not in _KNOWN)
    if any(role in ("system", "developer", "tool") for role, _ in said):
        ignored.append("messages that are neither the user's nor the assistant's")
    return Chat(name, asked, typed, row.get("stream") is True, usage, tuple(ignored))


def _messages(given: object) -> list[tuple[str, str]]:
    if not isinstance(given, list):
        raise UsageError("messages is not a list", 'send {"messages": [{"role": "user", "content": "…"}]}')
    found = []
    for number, each in enumerate(given):
        if not isinstance(each, dict) or not isinstance(each.get("role"), str):
            raise UsageError(f"messages[{number}] has no role")
        found.append((each["role"], _text(each.get("content"), number)))
    return found


def _text(content: object, number: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[Any] = content if isinstance(content, list) else [content]
    if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts):
        raise UsageError(f"messages[{number}] holds something other than text", "this model reads text alone")
    return "\n".join(part["text"] for part in parts)


def _turns(said: Sequence[tuple[str, str]]) -> list[Turn]:
    """The conversation so far, parsed from our own messages; its follow-ups are rewritten one after the other."""
    turns: list[Turn] = []
    for (role, text), (next_role, reply) in pairwise(said):
        if role == "user" and next_role == "assistant" and text.strip():
            answer, _, sources = reply.partition(_SOURCES)
            titles = tuple(re.findall(r"^\[\d+\] .+? — (.+?)(?: \(relevance .*)?$", sources, re.MULTILINE))
            plain = "" if answer.startswith("No answer: ") else re.sub(r" \[\d+\]", "", answer).strip()
            turns.append(Turn(rewrite(text.strip(), turns), plain, titles))
    return turns


# --- what is sent back ---------------------------------------------------------------------------------------------------------


def pieces(answer: Answer, first: int = 0) -> Iterator[str]:
    """The message in pieces: each sentence from number ``first`` on with its citation, then the sources with their critique, and
    the confidence."""
    document = answer_json(answer)
    if answer.status == "abstained":
        yield f"No answer: {render.why_abstained(document, answer.options)}"
    else:
        for number, cited in enumerate(answer.segments[first:], first):
            yield sentence(number, cited)
    if document["citations"]:
        lines = (_source_line(answer, citation) for citation in document["citations"])
        yield (_SOURCES if answer.status == "answered" else "\n\nNearest evidence:\n") + "\n".join(lines)
    if answer.status == "answered" and answer.confidence is not None:
        yield f"\nConfidence {answer.confidence:.2f}"


def sentence(number: int, cited: Cited) -> str:
    """Segment ``number`` (from 0) of an answer with its citation, and what separates it from the previous one."""
    text = printable(cited.segment.text)
    between = "\n" if text.endswith(("```", "~~~")) else " "
    mark = f"{between}[{cited.citation}]" if cited.citation else ""
    return ("" if number == 0 else "\n\n" if "\n" in text else " ") + text + mark


def _source_line(answer: Answer, citation: CitationJson) -> str:
    title = clean(citation["title"]) or Path(citation["source"]).stem
    judged = [c.segment.critique for c in answer.segments if c.citation == citation["n"] and c.segment.critique.distributions]
    line = f"[{citation['n']}] {render.where(citation)} — {title}"
    if not judged:
        return line
    isrel, issup = (sum(getattr(c, name) for c in judged) / len(judged) for name in ("isrel", "issup"))
    return f"{line} (relevance {isrel:.2f}, support {issup:.2f})"


def completion(chat: Chat, answered: Answered) -> Json:
    """A ``chat.completion``."""
    message = {"role": "assistant", "content": "".join(pieces(answered.answer)), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return {**_head("chat.completion", chat), "choices": [choice], "usage": usage(answered.answer), NAME: extra(chat, answered)}


class Stream:
    """The ``chat.completion.chunk`` objects of one answer: each sentence once it is certain, the rest when the search is over."""

    def __init__(self, chat: Chat, options: SearchOptions) -> None:
        self.chat = chat
        self._certain = Certain(options)
        self._sent = 0
        self._head = _head("chat.completion.chunk", chat)

    def first(self) -> Json:
        return _chunk(self._head, {"role": "assistant", "content": ""})

    def more(self, event: Event) -> Iterator[Json]:
        """What this event of the search makes certain."""
        self._certain(event)
        if not self._certain.firm:
            return
        for cited in self._certain.segments[self._sent :]:
            yield _chunk(self._head, {"content": sentence(self._sent, cited)})
            self._sent += 1

    def last(self, answered: Answered) -> Iterator[Json]:
        """The rest of the answer, and the data that front ends do not show."""
        for piece in pieces(answered.answer, self._sent):
            yield _chunk(self._head, {"content": piece})
        yield {**_chunk(self._head, {}, "stop"), NAME: extra(self.chat, answered)}
        if self.chat.usage:
            yield {**self._head, "choices": [], "usage": usage(answered.answer)}


def extra(chat: Chat, answered: Answered) -> Json:
    """The whole answer, the typed question, and the ignored fields."""
    document = answer_json(answered.answer)
    document["warnings"] += answered.warnings
    return {"answer": document, "typed": chat.typed, "ignored": list(chat.ignored)}


def usage(answer: Answer) -> Json:
    prompt, written = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def models(collections: Sequence[str], started: float) -> Json:
    """The list of ``/v1/models``."""
    names = [NAME, *(f"{NAME}/{name}" for name in collections)]
    rows = [{"id": name, "object": "model", "created": int(started), "owned_by": NAME} for name in names]
    return {"object": "list", "data": rows}


def _head(kind: str, chat: Chat) -> Json:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": chat.model}


def _chunk(head: Json, delta: Json, finish: str | None = None) -> Json:
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}

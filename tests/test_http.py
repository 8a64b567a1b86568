"""Addresses and keys of HTTP servers, and what their answers mean."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from selfrag._http import Caller, ClientError, TransientError, endpoint
from selfrag.errors import EngineError, UsageError

pytestmark = pytest.mark.slow

KEYS = {"SELFRAG_API_KEY": "mine", "OPENAI_API_KEY": "sk-openai"}
Answer = tuple[int, dict[str, str], str]


@pytest.mark.parametrize(
    ("url", "base", "shown"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", "http://localhost:8000"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1", "http://localhost:8000"),
        ("https://a.example/v1beta/openai", "https://a.example/v1beta/openai", "https://a.example/v1beta/openai"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1", "http://h:1"),
        ("http://h:1/v1/embeddings", "http://h:1/v1", "http://h:1"),
        ("http://me:secret@h:1/proxy", "http://me:secret@h:1/proxy/v1", "http://h:1/proxy"),
        ("http://[::1]:8000", "http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_addresses_are_taken_as_people_give_them(url: str, base: str, shown: str) -> None:
    """With or without the version, or with a whole endpoint; what is shown has no password."""
    found = endpoint(url, environ={})
    assert (found.url, found.shown) == (base, shown)


@pytest.mark.parametrize(
    ("url", "remedy"),
    [("localhost:8000", "--engine http://localhost:8000"), ("ftp://x/y", "http://localhost:8000"), ("http://h:port", "example")],
)
def test_what_is_no_url_is_refused_with_one_that_is(url: str, remedy: str) -> None:
    """A forgotten http:// is put before what was given."""
    with pytest.raises(UsageError, match="not the URL of a server") as caught:
        endpoint(url, environ={})
    assert remedy in str(caught.value.hint)


@pytest.mark.parametrize(
    ("url", "named", "more", "key"),
    [
        ("https://api.openai.com/v1", True, {}, "sk-openai"),
        ("https://evil.example/v1", True, {"SELFRAG_API_KEY": ""}, None),  # OpenAI's key goes to OpenAI alone
        ("http://127.0.0.1:8000", True, {"SELFRAG_API_KEY": ""}, None),
        ("https://proxy.example/v1", True, {"OPENAI_BASE_URL": "https://proxy.example/v1"}, "sk-openai"),
        ("http://api.openai.com/v1", True, {}, None),  # in the clear
        ("https://mine.example/v1", True, {}, "mine"),
        ("https://mine.example/v1", False, {}, None),  # a URL out of a collection, say
        ("https://mine.example/v1", False, {"SELFRAG_API_HOST": "a.example, mine.example"}, "mine"),
        ("https://other.example/v1", True, {"SELFRAG_API_HOST": "mine.example:443"}, None),
        ("http://mine.example/v1", True, {}, None),
        ("http://127.0.0.1:8000", False, {}, "mine"),
        ("http://[::1]:8000", False, {}, "mine"),
        ("http://localhost:8000", False, {}, "mine"),
        ("http://localhost.evil.example:8000", True, {}, None),
        ("http://127.0.0.1.evil.example", True, {}, None),
    ],
)
def test_a_key_goes_to_its_own_host_alone(url: str, named: bool, more: dict[str, str], key: str | None) -> None:
    """The host that it is configured for, and never in the clear to another machine."""
    assert endpoint(url, named=named, environ=KEYS | more).key == key


def test_a_key_is_no_part_of_what_is_printed() -> None:
    """An address can be logged."""
    assert "mine" not in repr(endpoint("http://localhost:1", environ=KEYS))


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that answers each path by rule: its URL, and the paths and keys that it was asked with."""
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "kind", "message", "remedy"),
    [
        ((307, {"Location": "http://b:2/v1/models"}, ""), EngineError, "redirects to http://b:2/v1/models", "http://b:2/v1"),
        ((302, {"Location": "/login"}, ""), EngineError, "redirects to /login", "/login"),
        ((200, {}, "<html><body>Please log in</body></html>"), EngineError, "web page", "log in or set the key"),
        ((200, {}, "hello"), EngineError, "does not speak the OpenAI protocol", ""),
        ((200, {}, '{"error": {"message": "not an embedding model"}}'), ClientError, "not an embedding model", ""),
        ((404, {}, '{"error": {"message": "model \'m\' not found"}}'), ClientError, "model 'm' not found", ""),
        ((401, {}, "no"), EngineError, "asks for the API key", "SELFRAG_API_KEY"),
        ((429, {}, '{"error": {"code": "insufficient_quota"}}'), EngineError, "429", "no credit"),
        ((503, {}, '{"error": "busy"}'), TransientError, "busy", ""),
        ((500, {}, "<html>oops</html>"), TransientError, "a web page", ""),
    ],
)
def test_answers_that_are_none_say_what_to_do(answer: Answer, kind: type[EngineError], message: str, remedy: str) -> None:
    """Redirects, login pages, refusals and failures are told apart, each with its remedy."""
    with answering(lambda path: answer) as (url, _):
        caller = Caller(endpoint(url, environ={}), attempts=1)
        with pytest.raises(EngineError) as caught:
            caller.fetch("/models")
        caller.close()
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert remedy in str(caught.value.hint)


def test_a_key_does_not_follow_a_redirect() -> None:
    """The other address is named, not asked."""
    with (
        answering(lambda path: (200, {}, "{}")) as (other, theirs),
        answering(lambda path: (307, {"Location": other}, "")) as (
            url,
            ours,
        ),
        pytest.raises(EngineError, match="redirects"),
    ):
        Caller(endpoint(url, environ=KEYS)).fetch("/models")
    assert ours == [("/v1/models", "Bearer mine")]
    assert theirs == []


def test_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose owner would read the key."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering(lambda path: (200, {}, json.dumps({"data": []}))) as (url, _):
        assert Caller(endpoint(url, environ=KEYS), attempts=1).fetch("/models") == {"data": []}


def test_a_failure_that_passes_is_tried_again() -> None:
    """A few times, then it is raised as what it is."""
    answers = iter([(503, {}, "busy"), (429, {}, "busy"), (200, {}, "[1]")])
    with answering(lambda path: next(answers)) as (url, seen):
        assert Caller(endpoint(url, environ={}), pause=0.001).fetch("/models") == [1]
        assert len(seen) == 3
    with pytest.raises(TransientError, match="no server answers at"):
        Caller(endpoint(url, environ={}), attempts=2, pause=0.001).fetch("/models")

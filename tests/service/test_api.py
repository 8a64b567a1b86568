"""`selfrag api` over real sockets, asked by httpx and by OpenAI's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from selfrag.answers.decode import answer_from
from selfrag.answers.schema import answer_json
from selfrag.answers.trace import options_from
from selfrag.service.completions import sentence
from selfrag.types import Cited, Critique, Segment
from tests.engines import tiny
from tests.service.conftest import QUESTION, Service, selfrag, started

WAIT = 120.0  # seconds; the machine may be busy


def post(service: Service, path: str, body: Any, **more: Any) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=WAIT, **more)


def same(document: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from run to run: times, what the engine still had in memory, and the last digits, which
    depend on what was computed together."""
    return {key: rounded(value) for key, value in document.items() if key not in ("timing_ms", "usage")}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def test_ask(service: Service) -> None:
    """An answer is the document of `ask --json`, equal to that of the command without a service."""
    document = post(service, "/v1/ask", {"question": QUESTION}).json()
    alone = selfrag(service.home, "ask", QUESTION, "--json", "--no-service", SELFRAG_MODEL=str(service.model))
    assert same(document) == same(json.loads(alone.stdout))
    assert document["segments"][0]["critique"]["isrel"] > 0.5
    assert document["citations"][0]["title"] == "Seoul"


def test_options(service: Service) -> None:
    """A request may restrict documents and set search options; `trace` returns the whole search."""
    body = {"question": QUESTION, "options": {"k": 1, "abstain_isrel": 1}, "source": ["*Seoul*"], "trace": True}
    trace = post(service, "/v1/ask", body).json()
    assert trace["schema"] == "selfrag.trace/1"
    assert (trace["options"]["k"], trace["answer"]["status"]) == (1, "abstained")
    assert {Path(passage["source"]).name for passage in trace["passages"].values()} == {"Seoul.txt"}


def test_stream(service: Service) -> None:
    """The options come first, then the events of the search as they happen, and the answer last; read back they make the same
    document."""
    kinds, answer = [], None
    with httpx.stream("POST", service.url + "/v1/ask", json={"question": QUESTION, "stream": True}, timeout=WAIT) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in reply.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                kinds.append(data["event"]["event"] if kind == "search" else kind)
                answer = data if kind == "answer" else answer
    assert kinds[:2] == ["options", "decided"]
    assert {"retrieved", "opened", "wrote", "expanded", "selected"} <= set(kinds)
    assert kinds[-1] == "answer"
    assert answer is not None
    assert answer_json(answer_from(answer["answer"], options_from(answer["options"]))) == answer["answer"]


def test_search_and_read(service: Service) -> None:
    """A search finds passages, and a source is read around a line of one, out of the index."""
    [first, *_] = post(service, "/v1/search", {"query": "capital of Korea", "k": 2}).json()["passages"]
    assert first["title"] == "Seoul"
    found = post(service, "/v1/read", {"source": first["source"], "line": first["lines"][0]}).json()
    assert first["text"] in found["text"]
    assert found["collection"] == "default"
    beyond = post(service, "/v1/read", {"source": first["source"], "line": 10_000})
    assert (beyond.status_code, "lines up to" in beyond.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize("source", ["/etc/passwd", "../../etc/passwd", "Seoul.txt", "/proc/self/environ"])
def test_only_indexed_sources_are_read(service: Service, source: str) -> None:
    """A path that is not a source of the collection, to the letter, is not read, whether the file exists or not."""
    refused = post(service, "/v1/read", {"source": source})
    assert refused.status_code == 404
    assert "root:" not in refused.text


def test_status(service: Service) -> None:
    """The state names version, model, collections and counts."""
    found = httpx.get(service.url + "/v1/status", timeout=WAIT).json()
    assert found["pid"] == service.process.pid
    assert found["collections"] == ["default"]
    assert [row["collection"] for row in found["available"]] == ["default"]
    assert set(found["questions"]) == {"running", "waiting", "answered", "failed", "cancelled", "refused"}


# --- what is refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 400, "question is missing"),
        ({"question": "  "}, 400, "question is not a text with words"),
        ({"question": 3}, 400, "question"),
        ({"question": "Why?", "optoins": {}}, 400, "unknown key 'optoins'"),
        ({"question": "Why?", "options": {"kk": 3}}, 400, "options has an unknown key 'kk'"),
        ({"question": "Why?", "options": {"k": 0}}, 400, "options.k is 0, expected a whole number of at least 1"),
        ({"question": "Why?", "options": {"mode": "often"}}, 400, "one of adaptive, always, never"),
        ({"question": "Why?", "collections": ["none"]}, 404, "There is no collection 'none'"),
        ({"question": "x" * 20_001}, 400, "at most 20,000"),
        ({"question": "half \ud800 a character"}, 400, "surrogate"),
        ([1], 400, "not a JSON object"),
    ],
)
def test_bad_questions(service: Service, body: Any, status: int, says: str) -> None:
    """What cannot be asked is refused with what is wrong, in the shape of OpenAI's errors."""
    refused = httpx.post(service.url + "/v1/ask", content=json.dumps(body), timeout=WAIT)
    error = refused.json()["error"]
    assert refused.status_code == status
    assert says in error["message"]
    assert error["type"] in ("invalid_request_error", "not_found_error")


@pytest.mark.parametrize("raw", [b"", b"not json", b"\xff\xfe", b"[" * 100_000])
def test_bodies_that_are_no_json(service: Service, raw: bytes) -> None:
    """A body that is no JSON, or nested without end, is a 400 and not a crash."""
    refused = httpx.post(service.url + "/v1/ask", content=raw, timeout=WAIT)
    assert (refused.status_code, "not JSON" in refused.json()["error"]["message"]) == (400, True)


def test_unknown_paths_and_methods(service: Service) -> None:
    """Another path is a 404 that names those that exist, another method a 405."""
    assert "POST /v1/ask" in httpx.get(service.url + "/", timeout=WAIT).json()["error"]["hint"]
    assert httpx.get(service.url + "/v1/ask", timeout=WAIT).status_code == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "attacker.example"}, 421),
        ({"Host": "attacker.example:80"}, 421),
        ({"Host": "127.0.0.1.attacker.example"}, 421),
        ({"Origin": "https://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "https://front.example"}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:1234"}, 200),
    ],
)
def test_dns_rebinding(service: Service, headers: dict[str, str], status: int) -> None:
    """A Host that is not this machine, and an Origin that was not allowed, are refused before the body is read."""
    assert httpx.get(service.url + "/v1/status", headers=headers, timeout=WAIT).status_code == status


def test_cors(service: Service) -> None:
    """A page of an allowed origin gets the headers that its browser wants; another one does not."""
    ask = {"Access-Control-Request-Method": "POST"}
    allowed = httpx.options(service.url + "/v1/ask", headers={"Origin": "https://front.example", **ask}, timeout=WAIT)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://front.example")
    assert (
        httpx.options(service.url + "/v1/ask", headers={"Origin": "https://other.example", **ask}, timeout=WAIT).status_code
        == 403
    )
    plain = httpx.get(service.url + "/v1/status", headers={"Origin": "https://front.example"}, timeout=WAIT)
    assert plain.headers["access-control-allow-origin"] == "https://front.example"


def test_size_limit(service: Service) -> None:
    """More than a megabyte is refused, with a Content-Length and, chunk by chunk, without one."""
    assert httpx.post(service.url + "/v1/ask", content=b"x" * (2**20 + 1), timeout=WAIT).status_code == 413
    chunks = (b"x" * 65536 for _ in range(17))
    assert httpx.post(service.url + "/v1/ask", content=chunks, timeout=WAIT).status_code == 413


# --- OpenAI's client -----------------------------------------------------------------------------------------------------------


def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=service.url + "/v1", api_key="unused", timeout=WAIT, max_retries=0)


def test_chat_completion(service: Service) -> None:
    """OpenAI's client gets the answer with its citation and critique in the text, and the whole of it under `selfrag`."""
    talk = client(service)
    assert [model.id for model in talk.models.list()] == ["selfrag", "selfrag/default"]
    reply = talk.chat.completions.create(
        model="selfrag/default",
        temperature=0.7,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
    )
    text = reply.choices[0].message.content or ""
    assert text.startswith(f"{tiny.KOREAN} [1]\n\nSources:\n[1] ")
    assert re.search(r"\nConfidence [01]\.\d\d\Z", text)
    assert "Seoul (relevance " in text
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0
    extra = (reply.model_extra or {})["selfrag"]
    assert extra["answer"]["segments"][0]["critique"]["issup"] > 0
    assert "temperature" in extra["ignored"]


def test_chat_completion_stream(service: Service) -> None:
    """Streamed, the pieces join to the same text; the last ones carry the whole answer and the usage."""
    talk = client(service)
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    whole = talk.chat.completions.create(model="selfrag", messages=messages).choices[0].message.content
    stream = talk.chat.completions.create(model="selfrag", messages=messages, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert (chunks[-2].model_extra or {})["selfrag"]["answer"]["status"] == "answered"


def test_chat_follow_up(service: Service) -> None:
    """The messages before the last help to understand a follow-up, in our own format and in any other."""
    messages: list[Any] = [
        {"role": "user", "content": "How tall is the Eiffel Tower?"},
        {
            "role": "assistant",
            "content": "It is 330 m tall. [1]\n\nSources:\n[1] a.md:3 — Eiffel Tower (relevance 0.98, support 0.90)",
        },
        {"role": "user", "content": "and who built it?"},
    ]
    reply = client(service).chat.completions.create(model="selfrag", messages=messages)
    extra = (reply.model_extra or {})["selfrag"]
    assert (extra["typed"], extra["answer"]["question"]) == ("and who built it?", "Who built the Eiffel Tower?")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "gpt-4"}, "no model 'gpt-4'"),
        ({"messages": []}, "last message"),
        ({"messages": [{"role": "assistant", "content": "Hello"}]}, "last message"),
        ({"n": 2}, "n is not 1"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "other than text"),
    ],
)
def test_chat_refusals(service: Service, change: dict[str, Any], says: str) -> None:
    """OpenAI's client raises its own BadRequestError with what is wrong."""
    given: Any = {"model": "selfrag", "messages": [{"role": "user", "content": "Why?"}], **change}
    with pytest.raises(openai.BadRequestError, match=says):
        client(service).chat.completions.create(**given)


# --- token, limits, end --------------------------------------------------------------------------------------------------------


def test_beyond_loopback_a_token_is_required(indexed: Path, tiny_model: Path) -> None:
    """Without a token the command refuses an address that others reach; with one every request needs it."""
    done = selfrag(indexed, "api", "--host", "0.0.0.0", "--port", "0", SELFRAG_MODEL=str(tiny_model))
    assert (done.returncode, "a token is required" in done.stderr) == (2, True)
    with started(indexed, tiny_model, "api", "--host", "0.0.0.0", "--port", "0", SELFRAG_API_TOKEN="s3cret") as service:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"}, {"Authorization": "s3cret"}):
            assert httpx.get(service.url + "/v1/status", headers=headers, timeout=WAIT).status_code == 401
        headers = {"Authorization": "Bearer s3cret"}
        assert httpx.get(service.url + "/v1/status", headers=headers, timeout=WAIT).status_code == 200
        done = selfrag(indexed, "ask", QUESTION, "--json", SELFRAG_MODEL=str(tiny_model))
        assert json.loads(done.stdout)["status"] == "answered"
        counts = httpx.get(service.url + "/v1/status", headers=headers, timeout=WAIT).json()["questions"]
        assert counts["answered"] == 1  # `ask` has a token of its own


def test_a_port_that_is_taken(service: Service) -> None:
    """A port in use is an error with what to do, before a model is loaded."""
    done = selfrag(service.home, "api", "--port", service.url.rsplit(":", 1)[1], SELFRAG_MODEL=str(service.model))
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert "--port" in done.stderr


async def test_limits_and_the_end(indexed: Path, tiny_model: Path) -> None:
    """One question at a time, two waiting, the others refused with Retry-After; SIGTERM lets those in flight finish."""
    with started(indexed, tiny_model, "api", "--port", "0", "--concurrency", "1", "--waiting", "2") as service:
        async with httpx.AsyncClient(timeout=WAIT) as web:

            async def one() -> httpx.Response:
                return await web.post(service.url + "/v1/ask", json={"question": QUESTION, "options": {"prune": False}})

            asked = [asyncio.create_task(one()) for _ in range(12)]
            first, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().status_code for task in first} == {503}
            service.process.send_signal(signal.SIGTERM)
            replies = await asyncio.gather(*asked)
        codes = sorted(reply.status_code for reply in replies)
        assert codes.count(200) >= 3
        assert set(codes) == {200, 503}
        refused = next(reply for reply in replies if reply.status_code == 503)
        assert refused.headers["retry-after"] == "2"
        assert all(reply.json()["status"] == "answered" for reply in replies if reply.status_code == 200)
        assert service.process.wait(timeout=WAIT) == 0


async def test_a_client_that_goes_away(indexed: Path, tiny_model: Path) -> None:
    """A question whose client has gone is given up, streamed or not, and the service goes on."""
    with started(indexed, tiny_model, "api", "--port", "0", "--concurrency", "1") as service:
        async with httpx.AsyncClient() as web:
            for stream in (False, True):
                body = {"question": "Tell me about Korea", "stream": stream, "options": {"prune": False, "max_segments": 40}}
                with pytest.raises(httpx.TimeoutException):
                    await web.post(service.url + "/v1/ask", json=body, timeout=httpx.Timeout(WAIT, read=0.001))
            until = time.monotonic() + WAIT
            while time.monotonic() < until:
                counts = (await web.get(service.url + "/v1/status", timeout=WAIT)).json()["questions"]
                if counts["running"] == counts["waiting"] == 0 and sum(counts.values()) >= 2:
                    break
                await asyncio.sleep(0.05)
            assert counts["running"] == counts["waiting"] == counts["failed"] == 0
            reply = await web.post(service.url + "/v1/ask", json={"question": QUESTION}, timeout=WAIT)
            assert reply.json()["status"] == "answered"


# --- `ask` through a service ---------------------------------------------------------------------------------------------------


def answered(service: Service) -> int:
    return int(httpx.get(service.url + "/v1/status", timeout=WAIT).json()["questions"]["answered"])


def test_ask_uses_the_service(service: Service, tmp_path: Path) -> None:
    """`ask` finds the service: the same output as without it, tree and trace too, and no model is loaded."""
    model = {"SELFRAG_MODEL": str(service.model)}
    before = answered(service)
    through = selfrag(service.home, "ask", QUESTION, "--show", "tree", "--save-trace", tmp_path / "a.json", **model)
    assert (through.returncode, answered(service)) == (0, before + 1)
    alone = selfrag(service.home, "ask", QUESTION, "--show", "tree", "--save-trace", tmp_path / "b.json", "--no-service", **model)
    assert answered(service) == before + 1
    cut = [done.stdout.rsplit("·", 2)[0] for done in (through, alone)]  # the last line names the seconds
    assert cut[0] == cut[1]
    assert through.stderr == alone.stderr
    a, b = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("a.json", "b.json"))
    assert (rounded(a["events"]), a["options"], same(a["answer"])) == (rounded(b["events"]), b["options"], same(b["answer"]))


@pytest.mark.parametrize("arguments", [["--abstain-isrel", "1"], ["--mode", "never"], ["--choices", "Seoul,Lyon"]])
def test_search_options_go_along(service: Service, arguments: list[str]) -> None:
    """Options of a search are the command's, not the service's; the exit status is the same."""
    before = answered(service)
    through = selfrag(service.home, "ask", QUESTION, "--json", *arguments, SELFRAG_MODEL=str(service.model))
    assert answered(service) == before + 1
    alone = selfrag(service.home, "ask", QUESTION, "--json", "--no-service", *arguments, SELFRAG_MODEL=str(service.model))
    assert through.returncode == alone.returncode
    assert same(json.loads(through.stdout)) == same(json.loads(alone.stdout))


def test_errors_are_the_same(service: Service) -> None:
    """What the service refuses is told as the command itself would."""
    through, alone = (
        selfrag(service.home, "ask", QUESTION, "-c", "none", *more, SELFRAG_MODEL=str(service.model))
        for more in ([], ["--no-service"])
    )
    assert (through.returncode, through.stderr) == (alone.returncode, alone.stderr)


def test_another_setting_is_another_service(service: Service) -> None:
    """A command with another model setting does not ask the service."""
    before = answered(service)
    done = selfrag(service.home, "ask", QUESTION, "-q", "--reflection", "tokens", SELFRAG_MODEL=str(service.model))
    assert (done.returncode, answered(service)) == (0, before)


def test_a_killed_service_is_not_missed(indexed: Path, tiny_model: Path) -> None:
    """After SIGKILL its file is a leftover: `ask` removes it and answers by itself; a new service on the port is found again."""
    with started(indexed, tiny_model, "api", "--port", "0", "--concurrency", "3") as first:
        folder = indexed / "data" / "services"
        file = folder / f"{first.process.pid}-{first.url.rsplit(':', 1)[1]}.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(timeout=WAIT)
        port = first.url.rsplit(":", 1)[1]
        with started(indexed, tiny_model, "api", "--port", port) as second:
            done = selfrag(indexed, "ask", QUESTION, "-q", SELFRAG_MODEL=str(tiny_model))
            assert done.returncode == 0
            assert not file.exists()
            assert second.stop() == 0
    assert not list(folder.glob(f"*-{port}.*"))


def test_a_chat_message_keeps_the_lines_of_code() -> None:
    """Code is fenced as in its document, with the citation on a line below it; other sentences follow on one another."""
    code = Cited(Segment("Build it:\n\n```sh\nmake\n```", None, Critique()), 1, 0.0)
    words = Cited(Segment("It is quick.", None, Critique()), 2, 0.0)
    message = "".join(sentence(number, cited) for number, cited in enumerate((words, code, words)))
    assert message == "It is quick. [2]\n\nBuild it:\n\n```sh\nmake\n```\n[1] It is quick. [2]"

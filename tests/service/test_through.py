"""`chat` and `mcp` through a running `selfrag api`, follow-ups there, and what services write into the history."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters

from tests.cli.process import COMMAND, environment
from tests.engines import tiny
from tests.service.conftest import QUESTION, Service, selfrag, started

WAIT = 240.0
TALL = "How tall is the Eiffel Tower?"


@pytest.fixture
def service(indexed: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Service]:
    """`selfrag api` over a home of its own, whose history is empty."""
    home = tmp_path / "own"
    shutil.copytree(indexed, home, ignore=shutil.ignore_patterns("history*", "services"))
    with started(home, tiny_model, "api", "--port", "0") as running:
        yield running


def answered(service: Service) -> int:
    return int(httpx.get(service.url + "/v1/status", timeout=WAIT).json()["questions"]["answered"])


def kept(service: Service) -> list[dict[str, Any]]:
    """The history, oldest first."""
    done = selfrag(service.home, "history", "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[::-1]


def chat(service: Service, *lines: str) -> subprocess.CompletedProcess[str]:
    return selfrag(service.home, "chat", stdin="\n".join(lines) + "\n", SELFRAG_MODEL=str(service.model))


def test_chat_through_the_service(service: Service) -> None:
    """`chat` loads no model: the service answers, follow-ups are understood here, every answer is kept once, in one session."""
    done = chat(service, QUESTION, TALL, "who built it?", "/good")
    assert done.returncode == 0, done.stderr
    assert answered(service) == 3
    assert tiny.KOREAN in done.stdout
    assert "→ Who built the Eiffel Tower?" in done.stderr
    entries = kept(service)
    assert [entry["typed"] for entry in entries] == [QUESTION, TALL, "who built it?"]
    assert [entry["question"] for entry in entries] == [QUESTION, TALL, "Who built the Eiffel Tower?"]
    assert len({entry["session"] for entry in entries}) == 1
    assert entries[-1]["feedback"] == "good"


def test_ask_continues_through_the_service(service: Service) -> None:
    """`ask --continue` goes on from an answer of the service, and joins its session."""
    model = {"SELFRAG_MODEL": str(service.model)}
    selfrag(service.home, "ask", TALL, "-q", **model)
    done = selfrag(service.home, "ask", "who built it?", "--continue", "--json", **model)
    assert json.loads(done.stdout)["question"] == "Who built the Eiffel Tower?"
    assert answered(service) == 2
    assert len({entry["session"] for entry in kept(service)}) == 1


def test_a_service_that_dies_in_a_chat(service: Service) -> None:
    """After SIGKILL between two questions `chat` loads the model itself and goes on."""
    env = environment(service.home, SELFRAG_MODEL=str(service.model), OMP_NUM_THREADS="1", LOOPBACK="1", PYTHONUNBUFFERED="1")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, "chat", "--quiet"], env=env, text=True, **pipes) as talk:
        assert talk.stdin is not None
        assert talk.stdout is not None
        talk.stdin.write(f"{QUESTION}\n")
        talk.stdin.flush()
        assert tiny.KOREAN in talk.stdout.readline() + talk.stdout.readline()
        assert answered(service) == 1
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(timeout=WAIT)
        out, err = talk.communicate(f"{QUESTION}\n", timeout=WAIT)
        assert tiny.KOREAN in out, err
        assert talk.returncode == 0


async def test_mcp_through_the_service(service: Service) -> None:
    """An MCP server beside a service loads no model: every tool is answered by the service, with the client's own collections; an
    answer is kept once."""
    env = environment(service.home, SELFRAG_MODEL=str(service.model), OMP_NUM_THREADS="1", LOOPBACK="1")
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "mcp"], env=env)
    async with Client(server, read_timeout_seconds=WAIT) as client:

        async def call(name: str, **arguments: Any) -> dict[str, Any]:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            found: dict[str, Any] = result.structured_content or {}
            return found

        document = await call("ask", question=QUESTION)
        assert document["segments"][0]["text"] == tiny.KOREAN
        assert document["segments"][0]["critique"]["isrel"] > 0.5
        [citation] = document["citations"]
        assert (await call("read", source=citation["source"], line=1))["lines"] == [1, 1]
        assert [each["title"] for each in (await call("search", query="capital of Korea", k=1))["passages"]] == ["Seoul"]
        state = await call("status")
        assert (state["pid"], state["questions"]["answered"]) == (service.process.pid, 1)
        refused = await client.call_tool("read", {"source": "/etc/passwd"})
        assert refused.is_error
        assert [entry["question"] for entry in kept(service)] == [QUESTION]

        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(timeout=WAIT)
        assert (await call("ask", question=QUESTION))["segments"][0]["text"] == tiny.KOREAN  # with a model of its own
        assert len(kept(service)) == 2


def test_answers_of_the_api_are_kept(service: Service) -> None:
    """Each answer is a session of its own, with the question as it was typed; a request with "history": false keeps nothing."""

    def post(path: str, body: Any) -> None:
        assert httpx.post(service.url + path, json=body, timeout=WAIT).status_code == 200

    talk = [{"role": "user", "content": TALL}, {"role": "assistant", "content": "It is 330 m tall."}]
    follow_up = {"model": "selfrag", "messages": [*talk, {"role": "user", "content": "who built it?"}]}
    post("/v1/ask", {"question": QUESTION})
    post("/v1/chat/completions", follow_up)
    post("/v1/ask", {"question": TALL, "history": False})
    post("/v1/chat/completions", {**follow_up, "selfrag": {"history": False}})
    entries = kept(service)
    assert [entry["typed"] for entry in entries] == [QUESTION, "who built it?"]
    assert entries[1]["question"] == "Who built the Eiffel Tower?"
    assert entries[0]["session"] != entries[1]["session"]
    shown = json.loads(selfrag(service.home, "history", "show", "1", "--json").stdout)
    assert shown["segments"][0]["text"] == tiny.KOREAN


def test_a_service_without_a_history(indexed: Path, tiny_model: Path, tmp_path: Path) -> None:
    """`selfrag api --no-history` keeps nothing; a history that cannot be written costs no answer, but a warning in it."""
    home = tmp_path / "own"
    shutil.copytree(indexed, home, ignore=shutil.ignore_patterns("history*", "services"))
    file = home / "data" / "history.sqlite"
    with started(home, tiny_model, "api", "--port", "0", "--no-history") as service:
        httpx.post(service.url + "/v1/ask", json={"question": QUESTION}, timeout=WAIT).raise_for_status()
        assert not file.exists()
    file.write_bytes(b"no database " * 100)
    with started(home, tiny_model, "api", "--port", "0") as service:
        document = httpx.post(service.url + "/v1/ask", json={"question": QUESTION}, timeout=WAIT).json()
        assert document["status"] == "answered"
        assert any("was not kept" in warning for warning in document["warnings"])

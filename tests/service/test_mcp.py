"""`selfrag mcp`, asked by the MCP SDK's own client over stdio and over streamable HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import Client, StdioServerParameters

from tests.cli.process import COMMAND, environment
from tests.engines import tiny
from tests.service.conftest import QUESTION, selfrag, started

WAIT = 240.0


@asynccontextmanager
async def connected(transport: str, home: Path, model: Path) -> AsyncIterator[Client]:
    """The SDK's client at the end of a running command, which loads the model itself whatever service runs beside it."""
    if transport == "stdio":
        env = environment(home, SELFRAG_MODEL=str(model), OMP_NUM_THREADS="1", LOOPBACK="1")
        server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "mcp", "--no-service"], env=env)
        async with Client(server, read_timeout_seconds=WAIT) as client:
            yield client
    else:
        with started(home, model, "mcp", "--no-service", "--http", "--port", "0") as service:
            async with Client(service.url, read_timeout_seconds=WAIT) as client:
                yield client


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_session(indexed: Path, tiny_model: Path, transport: str) -> None:
    """A client lists the tools and calls each: results hold critique and citation and are what their schemas say; what cannot be
    done is a result marked as an error, with what to do, and the session goes on."""
    async with connected(transport, indexed, tiny_model) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"ask", "search", "read", "status"}

        async def call(name: str, **arguments: Any) -> tuple[str, Any]:
            jsonschema.validate(arguments, tools[name].input_schema)
            result = await client.call_tool(name, arguments)
            text = getattr(result.content[0], "text", "")
            assert not result.is_error, text
            jsonschema.validate(result.structured_content, tools[name].output_schema or {})
            return text, result.structured_content

        text, answer = await call("ask", question=QUESTION, options={"k": 2})
        assert text.startswith(f"{tiny.KOREAN} [1]\n\nSources:\n[1] ")
        assert answer["segments"][0]["critique"]["isrel"] > 0.5
        [citation] = answer["citations"]

        text, around = await call("read", source=citation["source"], line=citation["lines"][0])
        assert citation["text"] in text
        assert around["lines"] == [1, 1]

        _, found = await call("search", query="capital of Korea", k=1)
        assert [passage["title"] for passage in found["passages"]] == ["Seoul"]

        _, abstained = await call("ask", question=QUESTION, options={"abstain_isrel": 1})
        assert (abstained["status"], abstained["answer"]) == ("abstained", "")

        _, status = await call("status")
        assert status["questions"]["answered"] == 2

        for name, arguments, says in (
            ("read", {"source": "/etc/passwd"}, "is not a source of default"),
            ("ask", {"question": " "}, "question is not a text with words"),
            ("ask", {"question": "Why?", "collections": ["none"]}, "There is no collection 'none'"),
            ("ask", {"question": "Why?", "options": {"k": "many"}}, "expected a whole number"),
            ("nothing", {}, "there is no tool 'nothing'"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert says in getattr(result.content[0], "text", "")
        await call("ask", question=QUESTION)


async def test_no_collection(home: Path, tiny_model: Path) -> None:
    """Where nothing is indexed a client is greeted all the same, and every tool says which command to run."""
    async with connected("stdio", home, tiny_model) as client:
        assert len((await client.list_tools()).tools) == 4
        for _ in range(2):
            result = await client.call_tool("ask", {"question": QUESTION})
            assert result.is_error
            assert "selfrag index PATH" in getattr(result.content[0], "text", "")


def test_http_is_guarded(indexed: Path, tiny_model: Path) -> None:
    """Over HTTP the checks of the API hold: Host, Origin, size; beyond loopback a token."""
    with started(indexed, tiny_model, "mcp", "--http", "--port", "0") as service:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "https://evil.example"}, 403)):
            assert httpx.post(service.url, json=call, headers=headers, timeout=WAIT).status_code == status
        assert httpx.post(service.url, content=b"x" * (2**20 + 1), timeout=WAIT).status_code == 413
        assert service.stop() == 0
    done = selfrag(indexed, "mcp", "--http", "--host", "0.0.0.0", SELFRAG_MODEL=str(tiny_model))
    assert (done.returncode, "a token is required" in done.stderr) == (2, True)


def test_without_the_package(home: Path) -> None:
    """Without the package `mcp` the command says how to install it."""
    hidden = "import importlib.util as u, sys; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'mcp' else f(n, *a); "
    code = hidden + "from selfrag import cli; sys.exit(cli.run(['mcp']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(home), timeout=WAIT)
    assert (done.returncode, "pip install 'selfrag[mcp]'" in done.stderr) == (1, True)

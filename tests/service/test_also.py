"""`--also` and `--correct` of a service and its requests: further collections, and a second search, where nothing was found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters

from tests.cli.process import COMMAND, environment
from tests.service.conftest import QUESTION, Service, selfrag, started

WAIT = 240.0
OPTIONS = {"mode": "always", "abstain_isrel": 0.5}
ARGUMENTS = ("--mode", "always", "--abstain-isrel", "0.5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection `food`, which does not know the answer, and `cities`, which does."""
    folder = tmp_path_factory.mktemp("also")
    for name, title, text in (
        ("food", "Lyon", "Lyon is a city in France, known for its food."),
        ("cities", "Seoul", "Seoul is the capital and largest city of South Korea."),
    ):
        (folder / name).mkdir()
        (folder / name / f"{title}.txt").write_text(text)
        done = selfrag(folder / "home", "index", folder / name, "-c", name, SELFRAG_EMBEDDER="hashing")
        assert done.returncode == 0, done.stderr
    return folder / "home"


@pytest.fixture(scope="module")
def service(home: Path, tiny_model: Path) -> Iterator[Service]:
    """A service over `food` alone."""
    with started(home, tiny_model, "api", "-c", "food", "--port", "0", SELFRAG_EMBEDDER="hashing") as running:
        yield running


def ask(service: Service, **more: Any) -> dict[str, Any]:
    body = {"question": QUESTION, "history": False, **more, "options": {**OPTIONS, **more.get("options", {})}}
    document: dict[str, Any] = httpx.post(service.url + "/v1/ask", json=body, timeout=WAIT).json()
    return document


def found(document: dict[str, Any]) -> tuple[str, str]:
    return document["status"], document["collection"]


def test_a_request_names_further_collections(service: Service) -> None:
    """They are searched where the service's own, or those of the request, hold nothing relevant; otherwise they are not."""
    assert found(ask(service)) == ("abstained", "food")
    document = ask(service, also=["cities"])
    assert found(document) == ("answered", "food,cities")
    assert document["citations"][0]["title"] == "Seoul"
    assert found(ask(service, collections=["cities"], also="food")) == ("answered", "cities")
    missing = ask(service, also=["none"])
    assert (missing["error"]["code"], "none" in missing["error"]["message"]) == ("CollectionError", True)


def test_a_request_asks_to_search_again(service: Service) -> None:
    """The option `correct` of a request searches its own collections a second time, as `ask --correct` does."""
    events = {}
    for correct in (False, True):
        trace = ask(service, options={"correct": correct}, trace=True)
        events[correct] = [event["event"] for event in trace["events"]]
        assert found(trace["answer"]) == ("abstained", "food")
    assert len(events[True]) > len(events[False])
    assert "corrected" not in events[False]
    assert "corrected" in events[True]


def test_a_search_has_no_second_round(service: Service) -> None:
    """Without a model nothing says that nothing relevant was found: /v1/search refuses `also`."""
    reply = httpx.post(service.url + "/v1/search", json={"query": QUESTION, "also": ["cities"]}, timeout=WAIT)
    assert (reply.status_code, "also" in reply.json()["error"]["message"]) == (400, True)


def test_a_chat_front_end_may_name_them(service: Service) -> None:
    """Beside the messages, under the key `selfrag`."""
    body = {"model": "selfrag", "messages": [{"role": "user", "content": QUESTION}]}
    more = {"options": OPTIONS, "also": ["cities"], "history": False}
    document = httpx.post(service.url + "/v1/chat/completions", json={**body, "selfrag": more}, timeout=WAIT).json()
    assert found(document["selfrag"]["answer"]) == ("answered", "food,cities")


def test_ask_through_the_service(service: Service) -> None:
    """`ask --also` uses a running service, and says what it says without one."""
    command = ("ask", QUESTION, *ARGUMENTS, "-c", "food", "--also", "cities", "--json", "--no-history")
    before = asked(service)
    done = selfrag(service.home, *command, SELFRAG_MODEL=str(service.model), SELFRAG_EMBEDDER="hashing")
    assert asked(service) == before + 1
    alone = selfrag(service.home, *command, "--no-service", SELFRAG_MODEL=str(service.model), SELFRAG_EMBEDDER="hashing")
    assert asked(service) == before + 1
    assert found(json.loads(done.stdout)) == found(json.loads(alone.stdout)) == ("answered", "food,cities")
    assert "searched again in food,cities" in done.stderr


async def test_mcp_through_the_service(service: Service) -> None:
    """The tool `ask` takes `also`, and `mcp --also` names them for all questions; the service answers."""
    env = environment(service.home, SELFRAG_MODEL=str(service.model), LOOPBACK="1", SELFRAG_EMBEDDER="hashing")
    before = asked(service)
    for options, more in (((), {"also": ["cities"]}), (("--also", "cities"), {})):
        server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "mcp", "-c", "food", *options], env=env)
        async with Client(server) as client:
            result = await client.call_tool("ask", {"question": QUESTION, "options": OPTIONS, **more})
        assert not result.is_error, result.content
        assert found(result.structured_content) == ("answered", "food,cities")
    assert asked(service) == before + 2


def test_a_service_with_further_collections(home: Path, tiny_model: Path) -> None:
    """`api --also` names them for requests that name no collection, and turns `correct` on, which a request may turn off."""
    with started(home, tiny_model, "api", "-c", "food", "--also", "cities", "--port", "0", SELFRAG_EMBEDDER="hashing") as service:
        assert found(ask(service)) == ("answered", "food,cities")
        assert found(ask(service, options={"correct": False})) == ("abstained", "food")
        assert found(ask(service, collections=["food"])) == ("abstained", "food")
        status = httpx.get(service.url + "/v1/status", timeout=WAIT).json()
        assert (status["collections"], status["also"], status["options"]["correct"]) == (["food"], ["cities"], True)
    done = selfrag(home, "api", "-c", "food", "--also", "none", "--port", "0", SELFRAG_MODEL=str(tiny_model))
    assert (done.returncode, "There is no collection 'none'" in done.stderr) == (1, True)


def asked(service: Service) -> int:
    return int(httpx.get(service.url + "/v1/status", timeout=WAIT).json()["questions"]["answered"])

"""`index --graph llm`: an instruct model, in process or behind a server, gives the graph the names in its triples."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from selfrag.index import graph
from tests.cli.conftest import Run
from tests.cli.process import selfrag
from tests.engines import llamacpp
from tests.engines.fake_server import FakeServer, serving

SAYS = "Seoul | is the capital of | Korea\nAtlantis | lies in | the sea"


@pytest.fixture
def docs(home: Path, folder: Path) -> Path:
    (folder / "seoul.txt").write_text("In Korea the capital is seoul.")
    (folder / "lyon.txt").write_text("Its food is praised.")
    return folder


async def test_a_server_reads_each_chunk_once(docs: Path, home: Path) -> None:
    """Its names are counted, its inventions are not; the choice is remembered, and nothing is read a second time."""
    server = FakeServer(lambda _: 0, chat=[{"token": SAYS, "logprob": -0.1, "top_logprobs": []}])

    async def index(*arguments: object) -> dict[str, object]:
        done = await asyncio.to_thread(selfrag, home, "index", *arguments, "--json", SELFRAG_EMBEDDER="hashing", LOOPBACK="1")
        assert done.returncode == 0, done.stderr
        document: dict[str, object] = json.loads(done.stdout)
        return document

    async with serving(server) as [url]:
        first = await index(docs, "--graph", "llm", "-m", f"{url}#tiny")
        asked = [body["messages"][0]["content"] for body in server.completions if "Triples:" in str(body)]
        second = await index(docs)
        assert len([body for body in server.completions if "Triples:" in str(body)]) == len(asked) == 2
    assert first["triples"] == {"chunks": 2, "empty": 1, "names": 2}
    assert (second["unchanged"], "triples" in second) == (2, False)
    status = json.loads(selfrag(home, "status", "--json").stdout)
    assert (status["fingerprint"]["graph"], status["fingerprint"]["graph_model"].split()[0]) == ("llm", "tiny")
    assert not [text for text in asked if "Seoul" in text.rpartition("Passage:")[0]]


def test_a_real_llama_cpp_server(docs: Path, home: Path, tiny_model: Path, tmp_path: Path) -> None:
    """The tiny model behind it writes no triples: the line about the run says so, and the collection works as without. A run
    that finds nothing to read needs no server."""
    pytest.importorskip("xllamacpp")
    model = llamacpp.to_gguf(tiny_model, tmp_path / "tiny.gguf")
    with llamacpp.served(model, "tiny") as url:
        done = selfrag(home, "index", docs, "--graph", "llm", "-m", f"{url}#tiny", SELFRAG_EMBEDDER="hashing", LOOPBACK="1")
    assert done.returncode == 0, done.stderr
    assert "0 names by triples from 2 chunks, 2 of which gave none" in done.stdout
    assert json.loads(selfrag(home, "search", "food", "-k", "1", "--json").stdout)["passages"][0]["title"] == "lyon"
    assert selfrag(home, "index", docs, SELFRAG_EMBEDDER="hashing").returncode == 0


def test_a_model_with_too_small_a_window(docs: Path, run: Run, tiny_model: Path) -> None:
    """It stops the run with the sizes; the same collection can still be made with a better one."""
    done = run("index", docs, "--graph", "llm", "-m", tiny_model)
    assert (done.code, "512" in done.err) == (1, True)
    assert run("index", docs, "--graph", "names", "--rebuild").code == 0


@pytest.mark.model
@pytest.mark.slow
def test_the_bundled_model(docs: Path, home_with_model: Path) -> None:
    """A model of this size reads in process; whatever it writes, the names that it gives stand in their chunk."""
    model = "smollm2-135m-selfrag"
    done = selfrag(home_with_model, "index", docs, "--graph", "llm", "-m", model, "--json", SELFRAG_EMBEDDER="hashing")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["triples"]["chunks"] == 2
    (catalog,) = home_with_model.glob("**/catalog.sqlite")
    with closing(sqlite3.connect(catalog)) as db:
        query = "SELECT names.name, text FROM names JOIN mentions ON mentions.name = names.id JOIN chunks ON chunks.id = chunk"
        found = db.execute(query).fetchall()
    assert all(name in graph.normal(text) for name, text in found if name not in ("seoul", "lyon"))


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--graph", "llm"], 2, "--graph llm needs an instruct model"),
        (["--graph", "llm", "-m", "nonsense"], 1, "unknown model 'nonsense'"),
        (["--graph", "llm", "-m", "http://127.0.0.1:9"], 2, "names no model"),
        (["--graph", "llm", "-m", "http://127.0.0.1:9#tiny"], 1, "no server answers"),
        (["-m", "nonsense"], 2, "--model is for --context llm and --graph llm"),
        (["--graph", "lm"], 2, "lm"),
    ],
)
def test_errors_say_what_and_how(docs: Path, run: Run, arguments: list[str], status: int, says: str) -> None:
    """A choice without a model, a model that is not there, a model without a use."""
    done = run("index", docs, *arguments)
    assert (done.code, done.out) == (status, "")
    assert says in done.err
    assert "Traceback" not in done.err

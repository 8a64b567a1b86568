"""`--hyde`: the documents are searched with a passage that an instruct model makes up, which is never cited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfrag.agent import open_agent
from tests.cli.conftest import Run
from tests.engines import tiny
from tests.engines.fake_server import FakeServer, serving

QUESTION = "What is the capital of Korea?"
MADE_UP = "The town is known for its food, which the whole of France praises."


async def test_an_instruct_model_makes_a_passage_up(ready: Path) -> None:
    """A server is asked with the prompt for the question; what it writes moves the search and is no passage of the answer."""
    writer = FakeServer(lambda _: 0, chat=[{"token": MADE_UP, "logprob": -0.1, "top_logprobs": []}])
    async with serving(writer) as [url]:
        dense = {}
        for hyde in (None, f"{url}#tiny"):
            async with open_agent(hyde=hyde, mode="always") as agent:
                answer = await agent.ask(QUESTION)
                assert agent.retriever is not None
                dense[hyde] = {passage.title: passage.dense or 0 for passage in await agent.retriever.search(QUESTION, 2)}
    prompt = writer.completions[0]["messages"][0]["content"]
    assert QUESTION in prompt
    assert dense[f"{url}#tiny"]["Lyon"] > dense[None]["Lyon"]
    assert MADE_UP not in str(answer)


def test_ask_with_a_checkpoint(ready: Path, run: Run, tiny_model: Path) -> None:
    """`ask --hyde FOLDER` answers as before; its citations are passages of the documents."""
    document = json.loads(run("ask", QUESTION, "--hyde", tiny_model, "--json").out)
    assert document["answer"] == tiny.KOREAN
    assert {citation["title"] for citation in document["citations"]} == {"Seoul"}


def test_search_with_a_checkpoint(ready: Path, run: Run, tiny_model: Path) -> None:
    """`search --hyde FOLDER` prints passages of the documents."""
    document = json.loads(run("search", QUESTION, "--hyde", tiny_model, "--json").out)
    assert {passage["title"] for passage in document["passages"]} == {"Seoul", "Lyon"}


def test_a_run_with_it_is_another_run(ready: Path, run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """The output of `batch` without it is not gone on with: the model that makes passages up is a setting of the run."""
    questions, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    questions.write_text(json.dumps({"question": QUESTION}))
    assert run("batch", questions, "-o", out, "--quiet").code == 0
    done = run("batch", questions, "-o", out, "--quiet", "--hyde", tiny_model)
    assert (done.code, "hyde" in done.err) == (1, True)


@pytest.mark.parametrize("command", ["ask", "search"])
@pytest.mark.parametrize(
    ("model", "status", "says"),
    [
        ("no-such-model", 1, "name a folder, a Hugging Face name, or one of"),
        ("nobody/nothing", 1, "selfrag models pull nobody/nothing"),
        ("http://localhost:1", 2, "http://localhost:1#MODEL"),
    ],
)
def test_a_model_that_cannot_be_had(ready: Path, run: Run, command: str, model: str, status: int, says: str) -> None:
    """The error says what to do; nothing is downloaded, and nothing is printed on stdout."""
    done = run(command, QUESTION, "--hyde", model)
    assert (done.code, done.out) == (status, "")
    assert says in done.err

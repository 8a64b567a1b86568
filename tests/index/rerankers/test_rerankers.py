"""Re-rankers: what each kind is opened for, what a server is asked and may answer, and what they do to a search."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfrag.errors import EngineBusy, EngineError, ModelError
from selfrag.index.rerankers import open_reranker
from selfrag.index.rerankers.server import ServerReranker, open_server
from selfrag.index.retriever import CollectionRetriever
from selfrag.index.search.hybrid import Hit
from selfrag.index.search.rerank import rerank
from selfrag.types import Passage
from tests.index.conftest import Place

URL = "http://localhost:1/rerank"


class Longest:
    """Prefers long passages, and keeps what it was asked."""

    name = "longest"

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.closed = False

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append((question, list(passages)))
        return np.asarray([len(passage) for passage in passages], dtype=np.float32)

    def close(self) -> None:
        self.closed = True


def hit(number: int, score: float, text: str = "", title: str = "") -> Hit:
    return Hit(Passage(f"c{number}", title, text or "x" * number, "a.md", score=score), 1, None)


def server(answer: Callable[[httpx.Request], httpx.Response], model: str = "") -> ServerReranker:
    return ServerReranker(httpx.Client(transport=httpx.MockTransport(answer)), URL, model, waits=(0.0,))


@pytest.mark.parametrize(
    "body",
    [
        {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -2}]},  # vLLM, llama.cpp, Cohere
        [{"index": 1, "score": 0.9}, {"index": 0, "score": -2}],  # Text Embeddings Inference
    ],
)
def test_a_server_is_asked_in_both_dialects(body: object) -> None:
    """Question, passages and the model's name go out under the names of both; scores come back in the order of the passages."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json=body)

    assert server(answer, "m").scores("q?", ["one", "two"]).tolist() == pytest.approx([-2, 0.9])
    assert sent == [{"model": "m", "query": "q?", "documents": ["one", "two"], "texts": ["one", "two"]}]


@pytest.mark.parametrize(
    "body",
    [
        {"results": [{"index": 0, "relevance_score": 1}]},
        {"results": [{"index": 7, "relevance_score": 1}]},
        {},
        [1],
        {"results": 3},
    ],
)
def test_a_senseless_answer_is_an_error(body: object) -> None:
    """Scores that are missing, of other passages, or no scores at all stop the search with the server's address."""
    with pytest.raises(EngineError, match="localhost:1"):
        server(lambda _: httpx.Response(200, json=body)).scores("q?", ["one", "two"])


def test_a_busy_server_is_asked_again() -> None:
    """One overload is waited out; a lasting one is an error that can be tried again."""
    answers = [httpx.Response(503), httpx.Response(200, json=[{"index": 0, "score": 1}])]
    assert server(lambda _: answers.pop(0)).scores("q?", ["one"]).tolist() == [1]
    with pytest.raises(EngineBusy, match="503"):
        server(lambda _: httpx.Response(503, text="later")).scores("q?", ["one"])


def test_a_refused_key_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names the variable, and the message shows no key."""
    monkeypatch.setenv("SELFRAG_API_KEY", "secret")
    with pytest.raises(EngineError, match="refuses the API key") as refused:
        server(lambda _: httpx.Response(401)).scores("q?", ["one"])
    assert "SELFRAG_API_KEY" in str(refused.value.hint)
    assert "secret" not in f"{refused.value.message} {refused.value.hint}"


def test_names_open_kinds(tmp_path: Path) -> None:
    """`none` is no re-ranker, a URL a server with its model, and what is neither there nor a model is an error with a way out."""
    assert open_reranker("none") is None
    assert open_server("http://h:1/v1/#m").name == "http://h:1/v1/rerank#m"
    assert open_server("http://h:1/rerank").name == "http://h:1/rerank"
    with pytest.raises(ModelError, match="cannot be loaded") as missing:
        open_reranker(str(tmp_path / "nothing"))
    assert "--reranker none" in str(missing.value.hint)


def test_the_order_weighs_both() -> None:
    """With all the weight the re-ranker decides, with none the search, between them the sum; nothing is lost."""
    hits = [hit(1, 0.9), hit(5, 0.8), hit(9, 0.1)]

    def order(weight: float) -> list[str]:
        return [each.passage.chunk for each in rerank(Longest(), "q?", hits, weight)]

    assert (order(0.0), order(0.5), order(1.0)) == (["c1", "c5", "c9"], ["c5", "c1", "c9"], ["c9", "c5", "c1"])


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), max_size=8), st.floats(0, 1))
def test_scores_fall_from_1_to_0(given_hits: list[tuple[int, float]], weight: float) -> None:
    """Whatever comes in, the same passages come out, best first, with scores in [0, 1]."""
    hits = [hit(at, score, "x" * length) for at, (length, score) in enumerate(given_hits)]
    found = rerank(Longest(), "q?", hits, weight)
    assert {each.passage.chunk for each in found} == {each.passage.chunk for each in hits}
    scores = [each.passage.score for each in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_passage_is_read_under_its_title() -> None:
    """The title stands before the text where there is one."""
    reranker = Longest()
    rerank(reranker, "q?", [hit(1, 1.0, "text", "Title"), hit(2, 0.5, "bare")])
    assert reranker.asked == [("q?", ["Title\ntext", "bare"])]


async def test_the_first_twenty_are_read_and_the_best_kept(place: Place) -> None:
    """A search for few passages lets the re-ranker choose among twenty, says its score, and closes it at the end."""
    for number in range(30):
        place.write(f"{number}.md", f"otter {'river ' * number}{number}")
    place.sync()
    reranker = Longest()
    retriever = CollectionRetriever([place.collection], reranker=reranker)
    plain = await CollectionRetriever([place.collection]).find("otter", 20)
    found = await retriever.find("otter", 2)
    assert len(found) == 2
    assert len(reranker.asked[0][1]) == 20
    assert found[0].rerank == max(len(f"{each.passage.title}\n{each.passage.text}") for each in plain)
    assert retriever.describe()["reranker"] == "longest"
    await retriever.close()
    assert reranker.closed

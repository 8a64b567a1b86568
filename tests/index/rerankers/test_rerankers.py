"""Re-rankers: what each kind is opened for, what a server is asked and may answer, and what they do to a search."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfrag.errors import EngineError, ModelError
from selfrag.index.rerankers import open_reranker
from selfrag.index.rerankers.server import open_server
from selfrag.index.retriever import CollectionRetriever
from selfrag.index.search.hybrid import Hit
from selfrag.index.search.rerank import rerank
from selfrag.types import Passage
from tests.index.conftest import Place


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


Answers = list[tuple[int, object]]


@pytest.fixture
def served() -> Iterator[tuple[str, Answers, list[tuple[str, Any]]]]:
    """A server's address, the answers that it gives in turn (the last for ever), and what it was asked: path and body."""
    answers: Answers = []
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


Served = tuple[str, Answers, list[tuple[str, Any]]]


@pytest.mark.parametrize(
    "body",
    [
        {"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": -2}]},  # vLLM, llama.cpp, Cohere
        [{"index": 1, "score": 0.9}, {"index": 0, "score": -2}],  # Text Embeddings Inference
    ],
)
def test_a_server_is_asked_in_both_dialects(served: Served, body: object) -> None:
    """Question, passages and the model's name go out under the names of both; scores come back in the order of the passages."""
    url, answers, asked = served
    answers.append((200, body))
    with closing(open_server(f"{url}/v1/rerank#m")) as reranker:
        assert reranker.scores("q?", ["one", "two"]).tolist() == pytest.approx([-2, 0.9])
    assert asked == [("/v1/rerank", {"model": "m", "query": "q?", "documents": ["one", "two"], "texts": ["one", "two"]})]


def test_a_server_without_a_version_is_found(served: Served) -> None:
    """Where ``/v1/rerank`` does not exist, ``/rerank`` is asked, and from then on that alone."""
    url, answers, asked = served
    answers += [(404, {}), (200, [{"index": 0, "score": 1}])]
    with closing(open_server(url)) as reranker:
        assert [reranker.scores("q?", ["one"]).tolist() for _ in range(2)] == [[1], [1]]
    assert [path for path, _ in asked] == ["/v1/rerank", "/rerank", "/rerank"]


@pytest.mark.parametrize(
    "body",
    [{"results": [{"index": 0, "relevance_score": 1}]}, [{"index": 7, "score": 1}], {}, [1], {"results": 3}],
)
def test_a_senseless_answer_is_an_error(served: Served, body: object) -> None:
    """Scores that are missing, of other passages, or no scores at all stop the search with the server's address."""
    url, answers, _ = served
    answers.append((200, body))
    with closing(open_server(url)) as reranker, pytest.raises(EngineError, match=url):
        reranker.scores("q?", ["one", "two"])


def test_names_open_kinds(tmp_path: Path) -> None:
    """`none` is no re-ranker, a URL a server with its model, and what is neither there nor a model is an error with a way out."""
    assert open_reranker("none") is None
    with closing(open_server("http://h:1/v1/#m")) as one, closing(open_server("http://h:1/rerank")) as other:
        assert (one.name, other.name) == ("http://h:1#m", "http://h:1")
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

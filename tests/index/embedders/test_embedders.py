from __future__ import annotations

import base64
import dataclasses
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from selfrag._http import Caller, endpoint
from selfrag.errors import EngineError, ModelError, TextsRefused, UsageError
from selfrag.index.embedders import EMBEDDED, Embedder, Spec, open_embedder, parse_spec
from selfrag.index.embedders.minilm import MiniLMEmbedder, embedded_folder
from selfrag.index.embedders.server import ServerEmbedder

TEXTS = ("A cat sat on the mat.", "The stock market fell sharply today.", "고양이가 자리에 앉았다.", "", "x " * 2000)


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return open_embedder()


def test_vectors_are_normalised_and_mean_something(minilm: Embedder) -> None:
    """Vectors are float32 rows of length 1, near for near meanings; no texts give no rows."""
    vectors = minilm.documents(TEXTS)
    query = minilm.queries(["Where is the kitten?"])
    assert vectors.shape == (len(TEXTS), minilm.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ query[0] > vectors[1] @ query[0] + 0.2
    assert minilm.documents([]).shape == (0, minilm.dimension)


def test_a_vector_depends_on_its_text_alone(minilm: Embedder) -> None:
    """Whatever else is embedded with it, and on however many threads, a text has the same vector, bit for bit."""
    together = minilm.documents(TEXTS)
    alone = np.vstack([minilm.documents([text]) for text in reversed(TEXTS)])[::-1]
    one_thread = MiniLMEmbedder(embedded_folder(), threads=1).documents(TEXTS)
    assert np.array_equal(together, alone)
    assert np.array_equal(together, one_thread)


def test_eight_bits_are_near_the_model(minilm: Embedder) -> None:
    """The rounded weights give nearly the vectors of sentence-transformers with the same weights in float32."""
    whole = open_embedder(f"{EMBEDDED}?query_prompt=")
    assert whole.fingerprint != minilm.fingerprint
    likeness = (whole.documents(TEXTS[:3]) * minilm.documents(TEXTS[:3])).sum(axis=1)
    assert likeness.min() > 0.98


def test_prompts_and_dimension_of_a_transformer() -> None:
    """Prompts stand before queries and documents, the dimension is cut, and both are in the fingerprint."""
    embedder = open_embedder(f"{EMBEDDED}?query_prompt=query:%20&document_prompt=passage:%20&dimension=64")
    plain = open_embedder(f"{EMBEDDED}?dimension=64")
    assert embedder.dimension == 64
    assert np.allclose(embedder.queries(["tea"]), plain.queries(["query: tea"]), atol=1e-6)
    assert np.allclose(embedder.documents(["tea"]), plain.documents(["passage: tea"]), atol=1e-6)
    assert np.allclose(np.linalg.norm(embedder.documents(["tea"]), axis=1), 1, atol=1e-5)
    assert embedder.fingerprint["query_prompt"] == "query: "


def test_the_embedded_embedder_needs_neither_torch_nor_network() -> None:
    """Embedding imports no torch, and opens no socket."""
    code = (
        "import socket, sys\n"
        "def forbidden(*args, **kwargs): raise RuntimeError('a socket')\n"
        "socket.socket.connect = forbidden\n"
        "from selfrag.index.embedders import open_embedder\n"
        "open_embedder().documents(['a'])\n"
        "assert 'torch' not in sys.modules and 'sentence_transformers' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr


def test_hashing_finds_equal_words() -> None:
    """The embedder for tests needs no model, and is near where words are shared."""
    embedder = open_embedder("hashing?dimension=64")
    vectors = embedder.documents(["a cat sits", "dogs run"])
    assert vectors.shape == (2, 64)
    assert vectors[0] @ embedder.queries(["cat"])[0] > 0.4 > vectors[1] @ embedder.queries(["cat"])[0]


def test_specs() -> None:
    """A name carries its options in URL encoding, a server's address the name of its model; other options are refused."""
    assert parse_spec("http://h:1/v1#org/m?dimension=8") == Spec("http://h:1/v1", dimension=8, model="org/m")
    assert parse_spec("m?dimension=8&query_prompt=q%3A%20") == Spec("m", query_prompt="q: ", dimension=8)
    for wrong in ("m?dimensions=8", "m?dimension=no", "m?dimension=0"):
        with pytest.raises(UsageError):
            parse_spec(wrong)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    """A folder without a model is an error that names it."""
    with pytest.raises(ModelError, match="nothing-here"):
        open_embedder(str(tmp_path / "nothing-here"))


# --- servers -------------------------------------------------------------------------------------------------------------------


class _Server(BaseHTTPRequestHandler):
    """Embeds a text as its length and its number of spaces, in reverse order, and fails as often as it is told."""

    failures = 0
    shape = ""
    key = ""
    requests: list[dict[str, object]] = []  # noqa: RUF012 (reset by the fixture)

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "tiny"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append(body)
        if self.headers.get("Authorization", "") != self.key:
            return self._answer(401, {"error": "key"})
        if type(self).failures > 0:
            type(self).failures -= 1
            return self._answer(503, {"error": "busy"})
        rows: list[dict[str, object]] = [
            {"index": at, "embedding": [float(len(text)), float(text.count(" ")), 1.0]} for at, text in enumerate(body["input"])
        ]
        if type(self).shape == "base64":
            for row in rows:
                row["embedding"] = base64.b64encode(np.asarray(row["embedding"], dtype="<f4").tobytes()).decode()
        if type(self).shape == "no index":
            return self._answer(200, {"data": [{"embedding": row["embedding"]} for row in rows]})
        return self._answer(200, {"data": rows[::-1]})

    def _answer(self, code: int, body: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("SELFRAG_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    _Server.failures, _Server.key, _Server.requests, _Server.shape = 0, "", [], ""
    running = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_a_server_embeds_in_order_and_in_batches(server: str) -> None:
    """Rows come in the order of the texts, normalised, in requests of bounded size, with prompts before them."""
    embedder = open_embedder(f"{server}/v1?document_prompt=d%20")
    vectors = embedder.documents(["x" * n for n in range(150)])
    expected = np.array([[n + 2, 1, 1] for n in range(150)], dtype=np.float32)
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert [len(body["input"]) for body in _Server.requests[1:]] == [64, 64, 22]
    assert embedder.fingerprint["embedder"] == "tiny"
    assert embedder.documents([]).shape == (0, 3)


@pytest.mark.parametrize("shape", ["base64", "no index"])
def test_other_shapes_of_embeddings_are_read(server: str, shape: str) -> None:
    """Numbers as base64, though they were not asked for, and rows without their index, in the order in which they come."""
    expected = open_embedder(server).documents(["a", "b c", "d e f"])
    _Server.shape = shape
    assert np.allclose(open_embedder(server).documents(["a", "b c", "d e f"]), expected)


def test_a_server_is_asked_for_the_model_that_is_named(server: str) -> None:
    """Behind # stands the model, and behind that the options."""
    embedder = open_embedder(f"{server}#org/other?dimension=2")
    assert (_Server.requests[-1]["model"], embedder.dimension) == ("org/other", 2)
    assert embedder.name == f"{server}#org/other"


def test_a_busy_server_is_asked_again(server: str) -> None:
    """A server that is overloaded for a moment costs nothing but time; one that stays so is an error."""
    embedder = ServerEmbedder(Caller(endpoint(server), attempts=3, pause=0.001), Spec(server, dimension=2), "tiny")
    _Server.failures = 2
    assert embedder.queries(["a"]).shape == (1, 2)
    _Server.failures = 5
    with pytest.raises(EngineError, match="503"):
        embedder.queries(["a"])


def test_the_key_comes_from_the_environment(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is sent if it is there; a refusal names the variable and not the key."""
    _Server.key = "Bearer secret-key"
    with pytest.raises(ModelError) as refused:
        open_embedder(server)
    assert "SELFRAG_API_KEY" in str(refused.value.hint)
    monkeypatch.setenv("SELFRAG_API_KEY", "secret-key")
    assert isinstance(open_embedder(server), ServerEmbedder)


def test_a_server_that_is_not_there() -> None:
    """An address where nobody listens is an error that names it."""
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9"):
        open_embedder("http://127.0.0.1:9")


# --- servers that misbehave ----------------------------------------------------------------------------------------------------


_BAD: dict[str, list[float | None]] = {"null": [None, None], "nan": [float("nan"), 1.0], "zero": [0.0, 0.0]}


class _Odd(_Server):
    """Answers in the way that the first part of its path names."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append(body)
        mode, texts = self.path.split("/")[1], body["input"]
        rows: list[dict[str, object]] = [{"index": at, "embedding": [float(len(text)), 1.0]} for at, text in enumerate(texts)]
        answers: dict[str, tuple[int, object]] = {
            "login": (200, "<html>log in</html>"),
            "error": (200, {"error": {"message": "no embedding model"}}),
            **{name: (200, {"data": [{**row, "embedding": bad} for row in rows]}) for name, bad in _BAD.items()},
            **{
                f"some-{name}": (200, {"data": [{**row, "embedding": bad} if t != "dimension" else row for row, t in pairs]})
                for name, bad in _BAD.items()
                for pairs in [list(zip(rows, texts, strict=True))]
            },
            "empty": (200, {"data": [{**row, "embedding": []} for row in rows]}),
            "fewer": (200, {"data": rows[:-1] if len(rows) > 1 else rows}),
            "unnumbered": (200, {"data": [{"embedding": row["embedding"]} for row in rows]}),
            "zeroth": (200, {"data": [{**row, "index": 0} for row in rows]}),
            "bare": (200, [{"index": row["index"], "embedding": [row["embedding"]]} for row in rows]),
            "base64": (200, {"data": [{**row, "embedding": _base64(row["embedding"])} for row in rows]}),
            "batch32": (422, {"error": "batch size"}) if len(texts) > 32 else (200, {"data": rows}),
            "long": (400, {"error": "too long"}) if max(map(len, texts)) > 99 else (200, {"data": rows}),
            "broken": (500, {"error": "NaN"}) if any("broken" in text for text in texts) else (200, {"data": rows}),
            "refuses": (400, {"error": "no"}) if texts != ["dimension"] else (200, {"data": rows}),
        }
        self._answer(*answers[mode])

    def _answer(self, code: int, body: object) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.end_headers()
        self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())


def _base64(numbers: object) -> str:
    assert isinstance(numbers, list)
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.fixture
def odd() -> Iterator[str]:
    _Odd.requests = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("mode", ["unnumbered", "zeroth", "bare", "base64"])
def test_dialects_of_servers_are_understood(odd: str, mode: str) -> None:
    """Embeddings without numbers, with wrong ones, in a list of their own, or in base64."""
    embedder = open_embedder(f"{odd}/{mode}#m")
    expected = np.array([[length, 1.0] for length in (1, 2, 3)], dtype=np.float32)
    assert np.allclose(embedder.documents(["a", "bb", "ccc"]), expected / np.linalg.norm(expected, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("login", "web page"),
        ("error", "no embedding model"),
        ("empty", "gave an empty embedding"),
        ("nan", "gave NaN for the word"),
        ("null", "gave null for the word"),
        ("zero", "gave only zeros for the word"),
    ],
)
def test_what_is_no_embeddings_server_is_refused_when_opened(odd: str, mode: str, message: str) -> None:
    """A web page, an error under status 200, an embedding of nothing and one without numbers are told as such."""
    with pytest.raises(ModelError, match=message):
        open_embedder(f"{odd}/{mode}#m")


@pytest.mark.parametrize(("mode", "reason"), [("nan", "gave NaN"), ("null", "gave null"), ("zero", "gave only zeros")])
def test_what_is_no_vector_is_refused_text_by_text(odd: str, mode: str, reason: str) -> None:
    """NaN, null and zeros are never taken for a vector, and are the text's fault where the server gives others for a word."""
    embedder = open_embedder(f"{odd}/some-{mode}#m")
    with pytest.raises(TextsRefused) as refused:
        embedder.documents(["a", "b"])
    assert [reason in each for each in refused.value.refused.values()] == [True, True]


def test_a_server_that_fails_later_is_an_error(odd: str) -> None:
    """One that gives NaN for every text from now on is told from texts that cannot be embedded."""
    embedder = open_embedder(f"{odd}/some-nan#m")
    assert isinstance(embedder, ServerEmbedder)
    caller = embedder._caller
    caller.server = dataclasses.replace(caller.server, url=caller.server.url.replace("some-nan", "nan"))
    with pytest.raises(EngineError, match="gave NaN for the word"):
        embedder.documents(["a", "b"])


def test_a_limit_of_batches_is_found_and_remembered(odd: str) -> None:
    """A server that takes 32 texts at a time is asked for 64 once."""
    embedder = open_embedder(f"{odd}/batch32#m")
    assert embedder.documents(["x" * n for n in range(1, 151)]).shape == (150, 2)
    assert [len(body["input"]) for body in _Odd.requests[1:]] == [64, 32, 32, 32, 32, 22]  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "bad"), [("long", "x" * 100), ("broken", "broken"), ("fewer", None)])
def test_one_refused_text_does_not_cost_the_others(odd: str, mode: str, bad: str | None) -> None:
    """The server is asked for halves until the text stands alone; the others have their vectors, in full batches afterwards."""
    embedder = open_embedder(f"{odd}/{mode}#m")
    texts = ["a" * n for n in range(1, 65)]
    if bad is None:
        assert embedder.documents(texts[:3]).shape == (3, 2)
        return
    texts[5] = bad
    with pytest.raises(TextsRefused) as refused:
        embedder.documents(texts)
    assert list(refused.value.refused) == [5]
    assert np.allclose(np.linalg.norm(np.delete(refused.value.vectors, 5, axis=0), axis=1), 1.0)
    embedder.documents(["a"] * 64)
    assert len(_Odd.requests[-1]["input"]) == 64  # type: ignore[arg-type]


def test_a_server_that_refuses_everything_is_an_error(odd: str) -> None:
    """It is not asked for thousands of texts one by one."""
    embedder = open_embedder(f"{odd}/refuses#m")
    with pytest.raises(EngineError, match="refuses every text"):
        embedder.documents(["a"] * 1000)
    assert len(_Odd.requests) < 40

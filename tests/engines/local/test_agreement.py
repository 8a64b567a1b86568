"""The three real engines on the embedded model: the same log-probabilities, the same answers. Run by `make test-vllm`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from selfrag import models
from selfrag.agent import Agent
from selfrag.engines import open_engine
from selfrag.reflectors.tokens import TokenReflector
from selfrag.types import Completion, Engine, OnToken, Passage, Request, SearchOptions, Token
from tests.engines.serving import served_by_vllm
from tests.fake_retriever import FakeRetriever

pytestmark = [pytest.mark.vllm, pytest.mark.model]
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

CORPUS = Path(__file__).parents[3] / "corpora" / "wikipedia"
QUESTIONS, WORDS, TOLERANCE = 50, 60, 1e-3


@pytest.fixture(scope="module")
def embedded() -> str:
    """The embedded model's folder, or the checkpoint that SELFRAG_TEST_CHECKPOINT names."""
    if named := os.environ.get("SELFRAG_TEST_CHECKPOINT"):
        return named
    if home := os.environ.get("SELFRAG_HOME"):
        info = models.show("smollm2-135m-selfrag", Path(home) / "cache")
        if info.ready:
            return info.path
    pytest.skip("the embedded model is not there: make test-vllm")


@dataclass
class Recording:
    """Passes requests on and keeps the tokens of each."""

    engine: Engine
    seen: list[tuple[Request, tuple[Token, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.model, self.exact = self.engine.name, self.engine.model, self.engine.exact

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        done = await self.engine.complete(request, on_token)
        self.seen.append((request, done.tokens))
        return done

    async def close(self) -> None:
        await self.engine.close()


def passages() -> dict[str, list[Passage]]:
    rows = [json.loads(line) for line in (CORPUS / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    articles = sorted(CORPUS.glob("*/*.md"))
    found = {}
    for row in [row for row in rows if row.get("sources")][:QUESTIONS]:
        at = articles.index(CORPUS / row["sources"][0])
        found[row["question"]] = [_passage(articles[i % len(articles)]) for i in (at + 1, at)]
    return found


def _passage(path: Path) -> Passage:
    text = " ".join(path.read_text(encoding="utf-8").split()[:WORDS])
    return Passage(path.stem, path.stem.replace("-", " "), text, path.name)


async def answers(engine: Engine) -> tuple[list[str], list[dict[str, float]]]:
    """What an engine answers to every question, and the watched log-probabilities of every passage's first position."""
    given, recording = passages(), Recording(engine)
    agent = Agent(
        TokenReflector(recording, max_tokens=40),
        FakeRetriever(given.__getitem__),
        SearchOptions(k=2, mode="always", max_segments=1),
    )
    found = await asyncio.gather(*(agent.ask(question) for question in given))
    seen = sorted(recording.seen, key=lambda pair: repr(pair[0].prompt))
    judged = [dict(tokens[0].watched) for request, tokens in seen if request.max_tokens == 1]
    return [answer.text for answer in found], judged


async def test_the_engines_agree(embedded: str) -> None:
    """transformers, vLLM in process and vLLM over HTTP give fifty questions the same answers, their log-probabilities within
    a thousandth in float32."""
    results = {}
    with served_by_vllm(Path(embedded)) as healthy:  # it loads while the others compute
        for name in ("transformers", "vllm"):
            engine = open_engine(name, embedded, dtype="float32")
            results[name] = await answers(engine)
            await engine.close()
        engine = open_engine(await asyncio.to_thread(healthy), embedded)
        results["server"] = await answers(engine)
        await engine.close()
    texts, judged = results["transformers"]
    assert len(texts) == QUESTIONS
    assert len(judged) == 2 * QUESTIONS
    for name in ("vllm", "server"):
        assert results[name][0] == texts
        for mine, theirs in zip(results[name][1], judged, strict=True):
            assert mine == pytest.approx(theirs, abs=TOLERANCE)

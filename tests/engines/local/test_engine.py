from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
import torch

from selfrag.algorithm.reflection import ISREL, JUDGEMENTS
from selfrag.engines import open_engine
from selfrag.engines.local.engine import LocalEngine
from selfrag.engines.local.onnx import OnnxEngine
from selfrag.engines.local.onnx_model import OnnxModel
from selfrag.engines.local.transformers import TransformersEngine
from selfrag.errors import EngineError, ModelError, UsageError
from selfrag.types import Control, Generated, Request, Text, Token
from tests.engines.contract import LONG, PROMPT, ModelContract, with_evidence
from tests.engines.tiny import HELLO, KOREA, LYON, SEOUL, Oracle


class TestTransformers(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[LocalEngine]:
        engine = TransformersEngine(str(checkpoint), threads=1)
        yield engine
        await engine.close()


class TestTransformersInASmallCache(ModelContract):
    """The same with room for one or two requests and prompts read in small steps: sequences wait, prefixes are thrown away."""

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[LocalEngine]:
        engine = TransformersEngine(str(checkpoint), threads=1, cache_tokens=300, step_tokens=32)
        yield engine
        await engine.close()


class TestOnnx(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[LocalEngine]:
        engine = OnnxEngine(str(checkpoint), threads=1)
        yield engine
        await engine.close()


class TestOnnxInASmallCache(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[LocalEngine]:
        engine = OnnxEngine(str(checkpoint), threads=1, cache_tokens=300, step_tokens=32)
        yield engine
        await engine.close()


Opener = Callable[..., LocalEngine]


@pytest.fixture(params=[TransformersEngine, OnnxEngine])
def opener(request: pytest.FixtureRequest, checkpoint: Path) -> Opener:
    """Opens an engine with the tiny model."""
    return partial(request.param, str(checkpoint), threads=1)


@pytest_asyncio.fixture
async def engine(opener: Opener) -> AsyncIterator[LocalEngine]:
    engine = opener()
    yield engine
    await engine.close()


async def test_no_token_is_computed_twice(engine: LocalEngine, oracle: Oracle) -> None:
    """Judging a passage, writing from it and putting the next passage behind it computes each token of the path once."""
    size = len(oracle.ids(PROMPT))
    opened = await engine.complete(Request(PROMPT, 1, watch=ISREL))
    assert (engine.prefilled, opened.cached_tokens) == (size, 0)

    path = (*PROMPT, Generated(opened.tokens))
    written = await engine.complete(Request(path, LONG, stop=frozenset({"[Fully supported]"})))
    assert written.cached_tokens == size
    size += len(opened.tokens) + len(written.tokens) - 1  # what was written last is not read by anybody yet
    assert engine.prefilled == size

    evidence = (Control("[Retrieval]"), Control("<paragraph>"), Text(LYON), Control("</paragraph>"))
    further = await engine.complete(Request((*path, Generated(written.tokens), *evidence), 1))
    assert further.cached_tokens == size
    assert engine.prefilled == size + 1 + len(oracle.ids(evidence))


async def test_passages_that_come_together_share_the_question(engine: LocalEngine, oracle: Oracle) -> None:
    """The instruction before several passages is computed once, though they are read in the same pass."""
    prompts = [with_evidence(f"{n} {LYON}") for n in range(4)]
    shared = len(oracle.ids((Text(KOREA),))) + 2
    done = await asyncio.gather(*(engine.complete(Request(prompt, 1, watch=JUDGEMENTS)) for prompt in prompts))
    assert sum(c.cached_tokens for c in done) >= 3 * shared
    assert engine.prefilled == sum(c.prompt_tokens - c.cached_tokens for c in done)
    for prompt, completion in zip(prompts, done, strict=True):
        expected = oracle.logprobs(oracle.ids(prompt))[-1]
        assert completion.tokens[0].logprob == pytest.approx(expected.max().item(), abs=1e-4)


async def test_the_same_prompt_costs_one_token(engine: LocalEngine) -> None:
    """Asked again, a prompt is found but for its last token."""
    first = await engine.complete(Request(PROMPT, 1))
    again = await engine.complete(Request(PROMPT, 1))
    assert again.cached_tokens == first.prompt_tokens - 1
    assert again.tokens[0].logprob == pytest.approx(first.tokens[0].logprob, abs=1e-4)


async def test_given_up_requests_leave_no_row(engine: LocalEngine) -> None:
    """After cancellation nothing goes on being computed, and what was computed serves as a prefix."""
    await engine.complete(Request(PROMPT, LONG), lambda token: False)
    task = asyncio.create_task(engine.complete(Request((Text(HELLO),), LONG)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again = await engine.complete(Request(PROMPT, 1))
    assert again.cached_tokens == again.prompt_tokens - 1
    assert engine.sequences_in_use == 0


async def test_memory_stays_within_the_limit(opener: Opener) -> None:
    """However many requests pass, no more tokens are kept than allowed."""
    engine = opener(cache_tokens=1024)
    for n in range(40):
        await asyncio.gather(*(engine.complete(Request((Text(f"{n} {m} {SEOUL}"),), 3)) for m in range(5)))
        assert engine.tokens_kept <= 1024
    await engine.close()


async def test_it_serves_any_event_loop(engine: LocalEngine) -> None:
    """Threads with event loops of their own may ask the same engine."""
    answers: list[str] = []

    def ask() -> None:
        done = asyncio.run(engine.complete(Request(PROMPT, LONG)))
        answers.append(done.finish)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    done = await engine.complete(Request(PROMPT, LONG))
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    assert [*answers, done.finish] == ["end"] * 4


async def test_failures_of_the_model_reach_the_caller(engine: LocalEngine) -> None:
    """What goes wrong in the engine's thread is an EngineError for every request under way, and no end of the engine."""
    broken = Token(10**6, "", 0.0)  # an id that no embedding has
    with pytest.raises(EngineError, match=r"IndexError|token id"):
        await engine.complete(Request((*PROMPT, Generated((broken,))), 5))
    assert (await engine.complete(Request(PROMPT, LONG))).finish == "end"


async def test_a_closed_engine_says_so(opener: Opener) -> None:
    """Requests under way when the engine closes, and later ones, fail; closing twice is harmless."""
    engine = opener()
    task = asyncio.create_task(engine.complete(Request((Text("a b c"),), 400)))
    await asyncio.sleep(0)
    await engine.close()
    await engine.close()
    done = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(done, EngineError)
    with pytest.raises(EngineError, match="closed"):
        await engine.complete(Request(PROMPT, 1))


async def test_open_engine_opens_it(checkpoint: Path) -> None:
    """Without CUDA "auto" is onnx for a model that has a graph; "transformers" can be named."""
    if torch.cuda.is_available():
        pytest.skip("a GPU is taken where there is one")
    for spec, name in (("auto", "onnx"), ("onnx", "onnx"), ("transformers", "transformers")):
        engine = open_engine(spec, str(checkpoint), threads=1)
        assert (engine.name, engine.model) == (name, str(checkpoint))
        await engine.close()


@pytest.mark.parametrize("spec", ["", "gpt", "ftp://host", "http://one,two"])
def test_unknown_engines_are_refused(spec: str) -> None:
    """A word that names no engine is a usage error that lists those there are."""
    with pytest.raises(UsageError, match="unknown engine"):
        open_engine(spec, "model")


def test_bad_models_are_refused(tmp_path: Path) -> None:
    """A folder without a model is a ModelError, not a traceback of the library."""
    with pytest.raises(ModelError):
        TransformersEngine(str(tmp_path))


def test_a_model_without_a_graph_is_not_for_onnx(tmp_path: Path) -> None:
    """The error names the engine that can run it."""
    with pytest.raises(ModelError, match="no graph") as caught:
        OnnxModel(tmp_path)
    assert caught.value.hint == "--engine transformers"


async def test_the_engines_agree(checkpoint: Path) -> None:
    """Prompts of many lengths, alone and together, judged and written: the same tokens, their log-probabilities within 1e-4."""
    prompts = [with_evidence(f"{SEOUL} {LYON} " * n) for n in (1, 3, 2, 5, 1)] + [PROMPT, (Text(HELLO),)]
    requests = [Request(prompt, limit, watch=JUDGEMENTS) for prompt in prompts for limit in (1, 40)]
    answers = []
    for engine in (TransformersEngine(str(checkpoint), threads=1), OnnxEngine(str(checkpoint), threads=1)):
        answers.append(await asyncio.gather(*(engine.complete(request) for request in requests)))
        answers.append([await engine.complete(request) for request in requests])
        await engine.close()
    for others in zip(*answers, strict=True):
        for tokens in zip(*(completion.tokens for completion in others), strict=True):
            assert len({token.id for token in tokens}) == 1
            for token in tokens[1:]:
                assert token.logprob == pytest.approx(tokens[0].logprob, abs=1e-4)
                assert dict(token.watched) == pytest.approx(dict(tokens[0].watched), abs=1e-4)


@pytest.mark.parametrize("dtype", ["float8", "int8"])
def test_unknown_dtypes_are_refused(checkpoint: Path, dtype: str) -> None:
    """A number format that the engine does not have is a usage error."""
    with pytest.raises(UsageError, match=dtype):
        TransformersEngine(str(checkpoint), dtype=dtype)

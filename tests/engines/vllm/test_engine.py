"""The real vLLM, in process and over HTTP, held to the contract of all engines. Run by `make test-vllm`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from selfrag.algorithm.reflection import JUDGEMENTS
from selfrag.engines.http.engine import ServerEngine
from selfrag.errors import EngineError
from selfrag.types import Request, Text, Token
from tests.engines.contract import LONG, PROMPT, ModelContract
from tests.engines.serving import served_by_vllm

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")


class TestVllm(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[object]:
        from selfrag.engines.vllm.engine import VllmEngine

        engine = VllmEngine(str(checkpoint))
        yield engine
        await engine.close()

    async def test_a_passage_is_read_once(self, engine) -> None:
        """Going on from a prompt that was read before computes its last block again and nothing else."""
        prompt = (Text("The quick brown fox jumps over the lazy dog. " * 8),)
        first = await engine.complete(Request(prompt, 1))
        again = await engine.complete(Request((*prompt, Text(" And so on.")), 1))
        assert again.cached_tokens > first.prompt_tokens - 2 * 32

    async def test_a_cancelled_request_leaves_the_batch(self, engine) -> None:
        """A request that nobody waits for any more is taken out of vLLM."""

        def on_token(_token: Token) -> bool:
            task.cancel()  # while vLLM works on it, however fast it is
            return True

        task = asyncio.create_task(engine.complete(Request((Text("word " * 20),), 400), on_token))
        with pytest.raises(asyncio.CancelledError):
            await task
        await _until(lambda: engine._llm.get_num_unfinished_requests() == 0)

    async def test_its_processes_do_not_hear_ctrl_c(self, engine) -> None:
        """A terminal sends it to them, too; what is in flight is finished all the same, as a batch needs it."""
        for process in engine._processes:
            process.send_signal(signal.SIGINT)
        await asyncio.sleep(1)
        assert (await engine.complete(Request(PROMPT, LONG))).finish == "end"


class TestVllmServer(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[ServerEngine]:
        with served_by_vllm(checkpoint) as healthy:
            engine = ServerEngine([healthy()], str(checkpoint))
            yield engine
            await engine.close()

    async def test_it_is_found_to_be_exact(self, engine: ServerEngine) -> None:
        """vLLM honours the ids over HTTP, and is seen to."""
        done = await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS))
        assert done.exact
        assert engine.exact


@pytest.mark.parametrize("which", [0, -1], ids=["engine", "worker"])
async def test_a_death_of_the_models_process_is_an_error(checkpoint: Path, which: int) -> None:
    """What is in flight fails, and so does what is asked later; nothing waits for ever, and closing leaves no child behind."""
    from selfrag.engines.vllm.engine import VllmEngine

    before = children()
    engine = VllmEngine(str(checkpoint))
    assert (await engine.complete(Request(PROMPT, LONG))).finish == "end"
    engine._processes[which].suspend()  # so that it cannot have answered before it dies
    asked = asyncio.create_task(engine.complete(Request(PROMPT, LONG)))
    await asyncio.sleep(0.5)
    engine._processes[which].kill()
    with pytest.raises(EngineError, match="process died"):
        await asyncio.wait_for(asked, 120)
    with pytest.raises(EngineError, match="process died"):
        await asyncio.wait_for(engine.complete(Request(PROMPT, LONG)), 120)
    await engine.close()
    assert children() == before


async def _until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def children() -> dict[int, str]:
    """The processes below this one and what they run, but for Python's own helper that is started once and stays."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found[process.pid] = f"{process.status()} {process.name()} {' '.join(process.cmdline())}"
    return {pid: words for pid, words in found.items() if "multiprocessing.resource_tracker" not in words}

"""The real vLLM, in process and over HTTP, held to the contract of all engines. Run by `make test-vllm`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from selfrag.engines.server import ServerEngine
from selfrag.errors import ModelError, UsageError
from selfrag.reflection import JUDGEMENTS
from selfrag.types import Request, Text, Token
from tests.engines.contract import LONG, PROMPT, ModelContract
from tests.engines.serving import START_SECONDS, served_by_vllm

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")


class TestVllm(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[object]:
        from selfrag.engines.vllm import VllmEngine

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


class TestVllmServer(ModelContract):
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def engine(cls, checkpoint: Path) -> AsyncIterator[ServerEngine]:
        with served_by_vllm(checkpoint) as url:
            engine = ServerEngine([url], str(checkpoint))
            yield engine
            await engine.close()

    async def test_it_is_found_to_be_exact(self, engine: ServerEngine) -> None:
        """vLLM honours the ids over HTTP, and is seen to."""
        done = await engine.complete(Request(PROMPT, LONG, watch=JUDGEMENTS))
        assert done.exact
        assert engine.exact


async def test_the_process_of_the_model_ends_with_close(checkpoint: Path) -> None:
    """No child is left behind, running or as a zombie."""
    from selfrag.engines.vllm import VllmEngine

    before = children()
    engine = VllmEngine(str(checkpoint))
    assert (await engine.complete(Request(PROMPT, 2))).tokens
    assert len(children()) > len(before)
    await engine.close()
    assert children() == before


@pytest.mark.parametrize(("question", "code"), [("Say hello.", 0), ("word " * 600, 1)], ids=["answered", "failed"])
def test_ask_leaves_no_process_behind(checkpoint: Path, home: Path, question: str, code: int) -> None:
    """Neither after an answer nor after an error, here of a question that is longer than the model's context window."""
    process = ask(checkpoint, question)
    _, said = process.communicate(timeout=START_SECONDS)
    assert process.returncode == code, said
    assert nothing_left(process.pid)


def test_a_model_that_vllm_cannot_load_is_an_error_with_its_cause(checkpoint: Path, tmp_path: Path, capfd) -> None:
    """The reason is vLLM's own, found in the output of its process, which does not reach the terminal."""
    from selfrag.engines.vllm import VllmEngine

    broken = tmp_path / "broken"
    broken.mkdir()
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(ModelError, match="vLLM cannot load") as caught:
        VllmEngine(str(broken))
    assert "Engine core" not in caught.value.message
    assert capfd.readouterr().out == ""


def test_int8_is_not_a_dtype_of_vllm(checkpoint: Path) -> None:
    """It is the transformers engine's."""
    from selfrag.engines.vllm import VllmEngine

    with pytest.raises(UsageError, match="int8"):
        VllmEngine(str(checkpoint), dtype="int8")


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


def ask(checkpoint: Path, question: str) -> subprocess.Popen[str]:
    """`selfrag ask` with vLLM in process, as a session of its own."""
    words = [sys.executable, "-m", "selfrag", "ask", question, "--engine", "vllm", "--model", str(checkpoint), "--mode", "never"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def nothing_left(leader: int, seconds: float = 60) -> bool:
    """Python's helper, which a process with children of vLLM's kind has, ends a moment after that process."""
    deadline = time.monotonic() + seconds
    while left := session(leader):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    return True


def session(leader: int) -> dict[int, str]:
    """The processes of a session and what they run; vLLM's change their names."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == leader:
                found[process.pid] = f"{process.status()} {process.name()} {' '.join(process.cmdline())}"
    return found

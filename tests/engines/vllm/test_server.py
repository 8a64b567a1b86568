"""`selfrag ask --engine vllm` as a person runs it: how it ends, and that nothing is left of it. Run by `make test-vllm`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.engines.serving import START_SECONDS
from tests.engines.tiny import CONTEXT, GREETING

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vLLM is not installed: make test-vllm")

VLLM = ("--engine", "vllm", "--model")


class Asked:
    """`selfrag ask` with vLLM in process, as a session of its own, which hears Ctrl-C once a process of that name is in it."""

    def __init__(self, folder: Path, checkpoint: Path, question: str, interrupted_at: str = "") -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SELFRAG_")}
        words = [sys.executable, "-m", "selfrag", "ask", question, "--mode", "never", *VLLM, str(checkpoint)]
        environ = kept | {"SELFRAG_HOME": str(folder), "NO_COLOR": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        if interrupted_at:
            threading.Thread(target=self._interrupt, args=(interrupted_at,), daemon=True).start()

    def _interrupt(self, name: str) -> None:
        while self.process.poll() is None:
            if any(name in words for words in session(self.process.pid).values()):
                os.killpg(self.process.pid, signal.SIGINT)  # a terminal sends it to all of them
                return
            time.sleep(0.1)

    def ends(self) -> tuple[int, str, str]:
        """Its exit status, what it printed and what it said, when nothing is left of it."""
        out, said = self.process.communicate(timeout=START_SECONDS)
        assert nothing_left(self.process.pid)
        return self.process.returncode, out, said


@pytest.fixture(scope="module")
def asked(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Asked]:
    """Several commands that load at the same time, since one leaves a core idle."""
    folder, broken = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("broken")
    for file in checkpoint.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"not a tensor file")
    return {
        "answered": Asked(folder, checkpoint, "Say hello."),
        "failed": Asked(folder, checkpoint, "word " * 600),
        "broken": Asked(folder, broken, "Say hello."),
        "engine": Asked(folder, checkpoint, "Say hello.", interrupted_at="VLLM::EngineCor"),
        "worker": Asked(folder, checkpoint, "Say hello.", interrupted_at="VLLM::Worker"),
    }


def test_ask_answers_and_leaves_no_process_behind(asked: dict[str, Asked]) -> None:
    """The answer is on stdout, and nothing that vLLM logs is anywhere."""
    code, out, said = asked["answered"].ends()
    assert (code, GREETING in out) == (0, True), said
    assert "Traceback" not in said
    assert "ERROR" not in said
    assert "WARNING" not in said


def test_a_question_that_fails_leaves_no_process_behind(asked: dict[str, Asked]) -> None:
    """Here one that is longer than the model's context window."""
    code, out, said = asked["failed"].ends()
    assert (code, out) == (1, "")
    assert str(CONTEXT) in said
    assert "Traceback" not in said


def test_a_model_that_vllm_cannot_load_is_an_error_with_its_cause(asked: dict[str, Asked]) -> None:
    """The reason is vLLM's own, found in the output of its process, which does not reach the terminal."""
    code, out, said = asked["broken"].ends()
    assert (code, out) == (1, "")
    assert "vLLM cannot load" in said
    assert "deserializing header" in said
    assert "Engine core" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("loading", ["engine", "worker"])
def test_ctrl_c_ends_a_command_whose_model_is_loading(asked: dict[str, Asked], loading: str) -> None:
    """At once, although vLLM's own processes would hear it too and vLLM would go on to wait for them."""
    code, out, said = asked[loading].ends()
    assert (code, out) == (130, "")
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said


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

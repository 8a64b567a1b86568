"""Services in processes of their own, on the tiny model and two documents, as a person starts them."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli import process
from tests.cli.conftest import indexed, tiny_model
from tests.cli.process import COMMAND, Done, environment

__all__ = ["indexed", "tiny_model"]

QUESTION = "What is the capital of Korea?"


@dataclass
class Service:
    """A running command and where it listens."""

    process: subprocess.Popen[str]
    url: str
    home: Path
    model: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits; returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)


def selfrag(home: Path, *arguments: str | Path, **more: str) -> Done:
    """Runs one command that may reach services of this machine."""
    return process.selfrag(home, *arguments, LOOPBACK="1", **more)


@contextmanager
def started(home: Path, model: Path, *arguments: str, **more: str) -> Iterator[Service]:
    """`selfrag ARGUMENTS` until the end of the block, once it says where it listens."""
    env = environment(home, SELFRAG_MODEL=str(model), OMP_NUM_THREADS="1", LOOPBACK="1", **more)
    running = subprocess.Popen([*COMMAND, *arguments], env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert running.stderr is not None
        said = []
        for line in running.stderr:
            said.append(line)
            if match := re.search(r"serving .* at (http://\S+?);", line):
                yield Service(running, match[1], home, model)
                break
        else:
            pytest.fail("it did not start: " + "".join(said))
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(timeout=120)
        if running.stderr:
            running.stderr.close()


@pytest.fixture(scope="session")
def service(indexed: Path, tiny_model: Path) -> Iterator[Service]:
    """`selfrag api` for all tests that only ask it."""
    with started(indexed, tiny_model, "api", "--port", "0", "--allow-origin", "https://front.example") as running:
        yield running

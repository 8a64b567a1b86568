"""`selfrag serve` with the real vLLM, as a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 900  # half a minute on an idle machine


@contextmanager
def served_by_vllm(checkpoint: Path) -> Iterator[Callable[[], str]]:
    """`selfrag serve` while this lasts, interrupted at the end. Yields what waits until it is healthy and returns its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "selfrag", "serve", str(checkpoint), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def healthy() -> str:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            assert process.poll() is None, "the server ended before it was healthy"
            assert time.monotonic() < deadline, "the server did not become healthy in time"
            time.sleep(0.5)
        return url

    try:
        yield healthy
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(90) in (0, 130)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.TransportError:
        return False

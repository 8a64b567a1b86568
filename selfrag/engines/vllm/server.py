"""Starts vLLM's own server for a reflection model and waits for it. Imports no vLLM: the server is a process of its own."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from selfrag import environment as variables
from selfrag.engines.vllm.output import cpu_environment, root_cause
from selfrag.errors import EngineError, ModelError, UsageError

STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """``model`` is a checkpoint folder or Hugging Face name, served under ``names``; sizes are vLLM's parallel sizes.

    ``extra`` are further arguments of `vllm serve`. None leaves a setting to vLLM.
    """

    model: str
    names: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    max_model_len: int | None = None
    dtype: str | None = None
    extra: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The server's address from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def command(serving: Serving, *, cpu: bool, program: tuple[str, ...] = ("vllm", "serve")) -> list[str]:
    """The command line. ``cpu``: for a machine without CUDA.

    Prefix caching prefills a passage once for its critique and its sentence; the model's sampling settings are ignored, since
    everything is greedy; the cached part of a prompt is reported.
    """
    words = [*program, *([] if "serve" in program else ["--model"]), serving.model, "--served-model-name", *serving.names]
    words += ["--host", serving.host, "--port", str(serving.port)]
    words += ["--enable-prefix-caching", "--enable-prompt-tokens-details", "--generation-config", "vllm", "--max-logprobs", "20"]
    if dtype := serving.dtype or ("float32" if cpu else None):
        words += ["--dtype", dtype]
    if serving.max_model_len is not None:
        words += ["--max-model-len", str(serving.max_model_len)]
    for kind in ("tensor", "pipeline", "data"):
        if (size := getattr(serving, f"{kind}_parallel")) > 1:
            words += [f"--{kind}-parallel-size", str(size)]
    if cpu:  # blocks of 32 tokens are the smallest that the CPU kernels take; a block is the unit of prefix reuse
        words += ["--enforce-eager", "--block-size", "32"]
    return [*words, *serving.extra]


def installed_program() -> tuple[str, ...]:
    """The command of the installed vLLM server. The CPU build has another name, and its `vllm` command fails. Raises ModelError
    when vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelError("vLLM is not installed", "pip install 'selfrag[vllm]'; without a GPU see docs/servers.md")
    script = Path(sys.executable).with_name("vllm")
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        return (sys.executable, "-m", "vllm.entrypoints.openai.api_server")
    return (str(script), "serve") if script.exists() else (sys.executable, "-m", "vllm.entrypoints.cli.main", "serve")


def shown_program() -> tuple[str, ...]:
    """What ``installed_program`` finds; without vLLM the command that `pip install vllm` would install."""
    try:
        return installed_program()
    except ModelError:
        return "vllm", "serve"


def environment(*, cpu: bool, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The server's environment. It passes the API key, since a list of processes shows arguments."""
    added = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
    if key := variables.API_KEY.read(environ):
        added[variables.VLLM_KEY.name] = key
    if cpu:
        added |= cpu_environment()
    return added | dict(environ)


def check_port(serving: Serving) -> None:
    """Raises UsageError for a port in use."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((serving.url.split("//")[1].rsplit(":", 1)[0].strip("[]"), serving.port)) == 0:
            raise UsageError(f"port {serving.port} is in use", f"selfrag serve --port {serving.port + 1}")


class ServerProcess:
    """A running server. It has its own session, so that a terminal's Ctrl-C reaches it only through ``stop``."""

    def __init__(self, words: list[str], environ: Mapping[str, str], log: IO[str]) -> None:
        self._log = log
        self._works = False
        self._process = subprocess.Popen(
            words, env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def wait_until_healthy(self, url: str) -> None:
        """Raises EngineError, with the cause from its log, when it ends before it answers."""
        while not _healthy(url):
            if self._process.poll() is not None:
                cause = root_cause(self._log) if self._log.seekable() else None
                raise EngineError(
                    f"the server ended while it started: {cause or f'exit status {self._process.returncode}'}",
                    "selfrag serve --debug shows its log",
                )
            time.sleep(0.5)
        self._works = True

    def wait(self) -> None:
        """Blocks until the server exits by itself, then raises EngineError."""
        status = self._process.wait()
        raise EngineError(f"the server has ended with status {status}", "selfrag serve --debug shows its log")

    def stop(self) -> None:
        """Sends SIGINT and waits up to a minute, then kills the whole session; a server that still loads is killed at once."""
        if self._works and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what is left of its session
        self._process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

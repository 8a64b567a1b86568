"""`selfrag serve` around a hand-written stand-in for vLLM's server process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfrag.engines.vllm.server import STOP_SECONDS, Serving, command, environment

HEALTHY = """
import http.server, os, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

port = int(sys.argv[sys.argv.index("--port") + 1])
pathlib.Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
print("a line of its log", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
LOADING = """
import os, pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
pathlib.Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
time.sleep(600)
"""
FAILING = """
print("Traceback (most recent call last):")
print("ValueError: No available memory for the cache blocks.")
print("RuntimeError: Engine core initialization failed. See root cause above.")
raise SystemExit(1)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """As much of a checkpoint as `serve` looks at."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def start(tmp_path: Path, server: str | None, *arguments: str) -> subprocess.Popen[str]:
    """`selfrag serve` where ``server`` is the code of vLLM's server; None where vLLM is not installed."""
    library = tmp_path / "library"
    package = library / "vllm" / "entrypoints" / "openai"
    if server is not None:
        package.mkdir(parents=True)
        (package / "api_server.py").write_text(server)
        for folder in (package, package.parent, package.parent.parent):
            (folder / "__init__.py").touch()
    environ = {
        **os.environ,
        "PYTHONPATH": str(library),
        "PID_FILE": str(tmp_path / "pid"),
        "SELFRAG_HOME": str(tmp_path / "home"),
    }
    words = [sys.executable, "-m", "selfrag", "serve", *arguments]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_what_to_pass_and_ends_with_its_server(tmp_path: Path, model: Path, port: int, number: int) -> None:
    """stdout is the option to pass, once the server is healthy; a signal ends both processes."""
    process = start(tmp_path, HEALTHY, str(model), "--port", str(port))
    assert process.stdout is not None
    assert process.stdout.readline() == f"--engine http://127.0.0.1:{port}\n"
    server = int((tmp_path / "pid").read_text())
    assert is_running(server)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not is_running(server)
    assert "a line of its log" not in said
    assert "Traceback" not in said


def test_a_server_that_loads_is_not_waited_for(tmp_path: Path, model: Path, port: int) -> None:
    """vLLM does not hear Ctrl-C while it loads; it ends all the same, and not only after the minute that a working server has."""
    process = start(tmp_path, LOADING, str(model), "--port", str(port))
    file = tmp_path / "pid"
    while not (file.exists() and file.read_text()):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert time.monotonic() - began < STOP_SECONDS
    assert not is_running(int(file.read_text()))


def test_debug_shows_the_log(tmp_path: Path, model: Path, port: int) -> None:
    """The server's own words go to stderr."""
    process = start(tmp_path, HEALTHY, str(model), "--port", str(port), "--debug")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert "a line of its log" in process.communicate(timeout=60)[1]


def test_a_server_that_cannot_start_says_why(tmp_path: Path, model: Path, port: int) -> None:
    """The cause is in the message, not in a traceback; the status is 1."""
    process = start(tmp_path, FAILING, str(model), "--port", str(port))
    out, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert "No available memory for the cache blocks." in said
    assert "Traceback" not in said


def test_a_server_that_dies_is_told(tmp_path: Path, model: Path, port: int) -> None:
    """When the server ends by itself, so does the command, as a failure."""
    process = start(tmp_path, HEALTHY, str(model), "--port", str(port))
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the server has ended" in said


def test_a_port_in_use_is_refused(tmp_path: Path, model: Path) -> None:
    """Before anything is loaded, with a port to try instead."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(tmp_path, HEALTHY, str(model), "--port", str(port))
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"port {port} is in use" in said
    assert f"--port {port + 1}" in said


def test_without_vllm_the_install_command_is_told(tmp_path: Path, model: Path) -> None:
    """vLLM is an extra."""
    pytest.importorskip("chromadb", reason="an environment without vLLM is needed")
    process = start(tmp_path, None, str(model))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "pip install 'selfrag[vllm]'" in said


def test_the_command_can_be_printed(tmp_path: Path, model: Path) -> None:
    """Without vLLM, and ready for a shell."""
    process = start(tmp_path, None, str(model), "--print-command", "--tensor-parallel", "2", "--vllm=--quantization=awq")
    out, _ = process.communicate(timeout=120)
    assert out.startswith(f"vllm serve {model} --served-model-name my-model {model} --host 127.0.0.1 --port 8000 ")
    assert "--enable-prefix-caching" in out
    assert "--tensor-parallel-size 2" in out
    assert out.endswith(" --quantization=awq\n")


def test_sizes_are_named_only_when_asked_for() -> None:
    """vLLM's defaults stay its own; without CUDA the CPU's flags are added."""
    plain = command(Serving("org/model", ("org/model",)), cpu=False)
    assert not {"--tensor-parallel-size", "--max-model-len", "--dtype", "--enforce-eager"} & set(plain)
    many = command(Serving("m", ("m",), data_parallel=4, max_model_len=2048), cpu=True)
    assert {"--data-parallel-size", "--max-model-len", "2048", "--dtype", "float32", "--block-size"} <= set(many)


def test_the_api_key_goes_through_the_environment() -> None:
    """The command line, which every user of the machine can read, does not hold it."""
    environ = environment(cpu=False, environ={"SELFRAG_API_KEY": "secret"})
    assert environ["VLLM_API_KEY"] == "secret"
    assert "secret" not in command(Serving("m", ("m",)), cpu=False)


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")])
def test_the_url_is_one_to_connect_to(host: str, url: str) -> None:
    """Listening everywhere is reached at the loopback address."""
    assert Serving("m", ("m",), host).url == url

"""Processes that a library starts: shielded from Ctrl-C, known, and ended when they have to go. Here they only sleep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from selfrag.engines.vllm.subprocesses import kill, start_shielded

SLEEPERS = [sys.executable, "-S", "-c", "import subprocess; subprocess.run(['sleep', '60'])"]
"""A process with one below it."""


def started() -> subprocess.Popen[bytes]:
    top = subprocess.Popen(SLEEPERS)
    until(lambda: len(psutil.Process(top.pid).children()) == 1)
    return top


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_processes_at_every_depth_are_told() -> None:
    """Beside the result; one that was there before is not among them, and lives on when they are killed."""
    other = started()
    top, mine = start_shielded(started)
    assert {process.pid for process in mine} == {top.pid, *(child.pid for child in psutil.Process(top.pid).children())}
    kill(mine)
    assert not any(map(runs, mine))
    assert runs(psutil.Process(other.pid))
    kill([*psutil.Process(other.pid).children(), psutil.Process(other.pid)])


def test_what_another_process_starts_meanwhile_is_not_told() -> None:
    """A server below this one that still loads keeps the processes that it starts while an engine loads."""
    other = subprocess.Popen([sys.executable, "-S", "-c", f"import subprocess; input(); subprocess.run({SLEEPERS!r})"],
                             stdin=subprocess.PIPE, text=True)  # fmt: skip
    above = psutil.Process(other.pid)

    def work() -> subprocess.Popen[bytes]:
        assert other.stdin is not None
        print(file=other.stdin, flush=True)
        until(lambda: len(above.children(recursive=True)) == 2)
        return started()

    top, mine = start_shielded(work)
    assert {process.pid for process in mine} == {top.pid, *(child.pid for child in psutil.Process(top.pid).children())}
    kill([*mine, *above.children(recursive=True), above])


def test_they_do_not_hear_ctrl_c() -> None:
    """The signal that a terminal sends to all processes of a command is blocked in them."""
    _, mine = start_shielded(started)
    for process in mine:
        process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    assert all(map(runs, mine))
    kill(mine)


def test_those_of_multiprocessing_do_not_either(tmp_path: Path) -> None:
    """The first process of multiprocessing brings its helper along, and starting that unblocks the signal."""
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing, signal

def tell():
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

def work():
    child = multiprocessing.get_context("spawn").Process(target=tell)
    child.start()
    child.join()

if __name__ == "__main__":
    from selfrag.engines.vllm.subprocesses import start_shielded
    start_shielded(work)
""")
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environ, timeout=120, check=True)
    assert done.stdout == "True\n"


def test_what_the_work_raises_is_raised_and_nothing_is_left() -> None:
    """A start that fails half-way leaves no process behind."""
    mine: list[psutil.Process] = []

    def fail() -> None:
        mine.append(psutil.Process(started().pid))
        mine.extend(mine[0].children())
        raise LookupError("no such model")

    with pytest.raises(LookupError, match="no such model"):
        start_shielded(fail)
    assert len(mine) == 2
    assert not any(map(runs, mine))


@pytest.mark.parametrize("deaf", [False, True], ids=["work ends", "work waits on"])
def test_ctrl_c_ends_the_start(deaf: bool) -> None:
    """It is raised here and not in the work, which may swallow it; whether the work notices that its process ended or not."""
    code = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
sys.path.insert(0, {os.getcwd()!r})
from selfrag.engines.vllm import subprocesses
subprocesses._GRACE_SECONDS = 0.5

def work():
    top = subprocess.Popen({SLEEPERS!r})
    print(top.pid, flush=True)
    while True:
        try:
            top.wait()
            time.sleep({60 * deaf})
            return
        except KeyboardInterrupt:
            pass

try:
    subprocesses.start_shielded(work)
except KeyboardInterrupt:
    sys.exit(130)
"""
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert program.stdout is not None
    top = psutil.Process(int(program.stdout.readline()))
    until(lambda: len(top.children()) == 1)
    mine = [top, *top.children()]
    os.killpg(program.pid, signal.SIGINT)
    assert program.wait(60) == 130
    assert not any(map(runs, mine))

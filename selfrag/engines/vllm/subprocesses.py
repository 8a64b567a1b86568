"""Child processes started by a library: shielded from a terminal's Ctrl-C, and all killed at the end.

A terminal sends Ctrl-C to every process of a command. vLLM's child processes then exit, while vLLM swallows the KeyboardInterrupt
in the process that waits for them to load, which waits forever. So neither receives the signal: the children block it, and the
waiting code runs in its own thread.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import TypeVar

import psutil

T = TypeVar("T")
_GRACE_SECONDS = 10.0


def start_shielded(work: Callable[[], T]) -> tuple[T, list[psutil.Process]]:
    """What ``work`` returns, and the processes that it started. They block SIGINT, like its thread.

    Raises what ``work`` raises, and KeyboardInterrupt at Ctrl-C at any time; then all its processes are killed.
    """
    others = set(psutil.Process().children())
    done: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(work, done), daemon=True)
    thread.start()
    try:
        return done.result(), _below(others)
    except BaseException:
        _abandon(thread, others)
        raise


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kills the processes still running, and waits for their end."""
    running = [process for process in processes if _runs(process)]
    for process in running:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(map(_runs, running)) and time.monotonic() < deadline:
        time.sleep(0.01)
    multiprocessing.active_children()  # reaps its own ended children, which would stay as zombies


def _abandon(thread: threading.Thread, others: set[psutil.Process]) -> None:
    """Kills the processes that ``thread`` starts until it has ended."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while True:
        kill(_below(others))
        if not thread.is_alive() or time.monotonic() > deadline:
            return
        thread.join(0.1)


def _run(work: Callable[[], T], done: Future[T]) -> None:
    resource_tracker.ensure_running()  # started later, by multiprocessing's first process, it would unblock SIGINT in this thread
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        done.set_result(work())
    except BaseException as error:  # raised where the result is waited for
        done.set_exception(error)


def _below(others: set[psutil.Process]) -> list[psutil.Process]:
    """Every descendant of this process, parents first, except ``others`` with their descendants, which may be loading at the same
    time, and Python's helper processes, which clean up after a killed process and then exit."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        if child not in others:
            found.append(child)
            with suppress(psutil.NoSuchProcess):
                found += child.children(recursive=True)
    return [process for process in found if not _is_helper(process)]


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _is_helper(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    return False

"""Child processes started by a library: shielded from a terminal's Ctrl-C, and all killed when they have to end.

A terminal sends Ctrl-C to every process of a command. vLLM's take it as an order to end, while vLLM swallows the
KeyboardInterrupt in the process that waits for them to load, which then waits on. So they never get to see it, and neither
does the code that waits: it runs in a thread of its own.
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
    """What ``work`` returns, and the processes that it started. They have SIGINT blocked, as its thread has.

    Raises what ``work`` raises, and KeyboardInterrupt at Ctrl-C, wherever ``work`` is; then no process of it is left.
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
    """Kills what ``thread`` starts until it has ended, which its work need not notice before it waits in vain."""
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
    """Every process below this one, from the top, but for ``others`` with all below them, which may be loading meanwhile, and for
    Python's helpers, which clean up after a process that was killed and then end."""
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

"""Runs native or memory-hungry parsers in a separate process, which may crash, hang or grow without harming this one.

The process is started for the first such file, kept for the next ones, and replaced after it died. Its limits are
``Limits.time``, in CPU time, so that a busy machine rejects nothing, and ``Limits.memory``. It ends with this process in every
case.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import IO

from selfrag.errors import InputError
from selfrag.ingest.document import Document, Limits

_START = 120.0  # seconds for a new process to import its parsers on a busy machine
_PATIENCE = 10  # times the limit of a file's work that may pass on the clock
_OUT_OF_TIME = getattr(signal, "SIGPROF", None)
_INSIDE = threading.Event()
_OUTPUTS: list[IO[bytes]] = []
COMMAND = "command: "
"""The prefix of a converter's reader name."""


Reader = Callable[[PurePath, bytes, Limits], Document]


def isolated(reader: str) -> Reader:
    """The reader `module.function` of `formats` (``docx`` is short for ``docx.read_docx``) in the separate process.

    Inside that process (for a mail's attachment) it is called directly.
    """

    def read(path: PurePath, data: bytes, limits: Limits) -> Document:
        if _INSIDE.is_set():
            return named(reader)(path, data, limits)
        return _WORKER.read(reader, path, data, limits)

    return read


def named(reader: str) -> Reader:
    """The function for the name of a reader, or of a converter's command; imports its libraries."""
    if reader.startswith(COMMAND):
        from selfrag.ingest.formats.converters import read_converted

        return partial(read_converted, reader.removeprefix(COMMAND))
    module, _, function = reader.partition(".")
    found: Reader = getattr(importlib.import_module(f"selfrag.ingest.formats.{module}"), function or f"read_{module}")
    return found


def enter(output: IO[bytes]) -> None:
    """Marks this process as the worker, which answers on ``output``."""
    _OUTPUTS.append(output)
    _INSIDE.set()


@dataclass(frozen=True, slots=True)
class MoreTime:
    """Sent by the worker before work that takes ``seconds``, such as OCR of a page."""

    seconds: float


def ask_for_time(seconds: float) -> None:
    """Gives the current file ``seconds`` more CPU time from now on; does nothing outside the worker process."""
    if _INSIDE.is_set():
        alarm(seconds)
        send(_OUTPUTS[0], MoreTime(seconds))


def alarm(seconds: float) -> None:
    """Ends this process after this many seconds of CPU time, even in native code or without its parent; 0: never."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def send(pipe: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    pipe.write(len(data).to_bytes(8, "little"))
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> object:
    """The next message; EOFError if the other side is gone."""
    header = pipe.read(8)
    data = pipe.read(int.from_bytes(header, "little")) if len(header) == 8 else b""
    if not data:
        raise EOFError
    return pickle.loads(data)


class Worker:
    """One process, one file at a time; further threads wait."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._memory = 0
        self._lock = threading.Lock()

    def read(self, reader: str, path: PurePath, data: bytes, limits: Limits) -> Document:
        with self._lock:
            process = self._running(limits)
            reply, late = self._exchange(process, (reader, str(path), data, limits), _PATIENCE * limits.time(len(data)))
        if late:
            raise InputError(f"took longer than {limits.time(len(data)):.0f} s to read")
        if isinstance(reply, Document):
            return reply
        raise InputError(str(reply) if reply is not None else "so damaged that the parser crashed")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # it exits at the end of its input, or reports how it ended
        process.kill()
        process.wait()
        process.stdout.close()

    def _running(self, limits: Limits) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None and self._memory == limits.memory:
            return self._process
        self.close()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "selfrag.ingest.sandbox_worker", str(limits.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process; that one ends with it
        )
        self._memory = limits.memory
        if self._exchange(self._process, None, _START)[0] != "ready":
            raise InputError("the process that reads such files could not be started")
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], message: object, seconds: float) -> tuple[object, bool]:
        """The reply, None if the process died; and whether it exceeded its time. Discards a dead process."""
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            send(process.stdin, message)
            while isinstance(reply := receive(process.stdout), MoreTime):
                timer.cancel()
                timer = threading.Timer(_PATIENCE * reply.seconds, stop)
                timer.start()
            return reply, False
        except (EOFError, OSError):
            self.close()
            return None, late.is_set() or process.returncode == -(_OUT_OF_TIME or 0)
        finally:
            timer.cancel()


_WORKER = Worker()
atexit.register(_WORKER.close)

"""Captures the output of a loading engine and its child processes, and finds the cause of a failure in it."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

_CAUSE = re.compile(r"\b[A-Z]\w*(?:Error|Exception): (.+)")
_WRAPPERS = ("Engine core initialization failed", "EngineCore", "Worker failed", "WorkerProc")


def cpu_environment() -> dict[str, str]:
    """Environment variables for vLLM's CPU build: GiB of key-value cache, and the cores for its threads.

    vLLM would reserve a core for its scheduler, which halves the speed of a machine with two.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    bound = {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))} if 0 < len(cores) <= 4 else {}
    return {"VLLM_CPU_KVCACHE_SPACE": "2"} | bound


@contextmanager
def diverted_output() -> Iterator[IO[str]]:
    """Redirects the output of this process, and of children started meanwhile, to the unnamed file that is yielded.

    This works on file descriptors, since child processes inherit those and libraries print to them; those of a child stay
    diverted afterwards. When the ``selfrag`` logger is at DEBUG everything goes to stderr instead.
    """
    debug = logging.getLogger("selfrag").isEnabledFor(logging.DEBUG)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        target = kept[1] if debug else log.fileno()
        os.dup2(target, 1)
        os.dup2(target, 2)
        try:
            yield log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])


def root_cause(log: IO[str]) -> str | None:
    """The message of the first exception in a log that has no other cause, or None."""
    log.seek(0)
    return _first_cause(log)


def _first_cause(lines: Iterable[str]) -> str | None:
    causes = (found[1].strip() for line in lines if (found := _CAUSE.search(line)))
    return next((cause for cause in causes if not cause.startswith(_WRAPPERS)), None)

"""Processes that are killed with SIGKILL while they write: a few of the hundreds of kills of ``python -m tests.stress.kill``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.stress
@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_a_kill_loses_nothing() -> None:
    """Killed at commits, calls into Chroma and renames of `index`, `rm`, `repair` and a rebuild, a collection can be searched at
    once, and equals a clean build after the next run."""
    command = [sys.executable, "-m", "tests.stress.kill", "--kills", "10", "--seed", "3", "--boundaries", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills survived" in done.stdout

"""Real processes that are killed with SIGKILL while they write: a few of the hundreds of kills of `benchmarks/kill.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILL = Path(__file__).parents[2] / "benchmarks" / "kill.py"


@pytest.mark.skipif(os.name == "nt", reason="processes are forked")
def test_a_kill_loses_nothing() -> None:
    """Killed at commits, calls into Chroma and renames of `index`, `rm`, `repair` and a rebuild, a collection can be searched at
    once, and equals a clean build after the next run."""
    command = [sys.executable, str(KILL), "--kills", "10", "--seed", "3", "--boundaries", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills survived" in done.stdout

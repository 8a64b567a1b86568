"""Runs the command as a person does, in a process of its own that has no network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

OFFLINE = Path(__file__).parent / "offline"
COMMAND = (sys.executable, "-m", "selfrag")


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process with ``home`` as its SELFRAG_HOME; of ours, no setting and no terminal are passed on."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("SELFRAG_", "NO_COLOR", "FORCE_COLOR"))}
    path = os.pathsep.join([str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**ours, "SELFRAG_HOME": str(home), "PYTHONPATH": path, "OMP_NUM_THREADS": "2", **more}


def selfrag(home: Path, *arguments: str | Path, stdin: str | None = None, cwd: Path | None = None, **more: str) -> Done:
    """Runs one command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment(home, **more),
        cwd=cwd,
        timeout=600,
    )


Done = subprocess.CompletedProcess[str]

"""Checkpoints: a resumed run must match its checkpoint; write errors are reported as messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from selfrag.errors import SelfragError, UsageError

OPTIONS: Mapping[str, str] = {
    "batch_tokens": "--batch-tokens", "max_tokens": "--max-tokens", "seed": "--seed", "rank": "--rank",
    "first_block": "--first-block", "processes": "processes",
}  # fmt: skip


def folder(out: Path) -> None:
    """Makes the folder of a run. Raises UsageError where it cannot be one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be the folder of a run: {error.strerror}", "name another folder with --out") from error


def check(out: Path, saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Checks that the checkpoint of ``out`` has the rows, the batch order and the shape of this run. Raises UsageError, naming
    the difference."""
    if saved["rows"] != mine["rows"]:
        raise UsageError(
            f"{out} was trained on other rows than these",
            f"name the rows it began with; or train it further with: --from {out / 'adapter'} --out ANOTHER",
        )
    for name, value in saved.get("settings", {}).items():
        if value != mine["settings"][name]:
            raise UsageError(
                f"{out} was begun with {OPTIONS[name]} {value}, not {mine['settings'][name]}",
                "resume with the options it began with, or name another --out",
            )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns a failed write (a full disk, a missing right) into a message; torch and safetensors have errors of their own."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split("\n")[0].split())
        raise SelfragError(
            f"cannot write to {out}: {reason}", "make room there; the same command then resumes from the last checkpoint"
        ) from error

"""Small helpers that every part may use: atomic file writes, the machine, URLs, text that is safe to print."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Replaces the file atomically, or leaves it unchanged and no draft behind. Follows links; writes directly to a pipe or
    device. Raises OSError, with ``path``."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as stream:
            stream.writelines(pieces)
        return
    whole = path.resolve()
    part = whole.with_name(f"{whole.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(whole)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_url(text: str) -> bool:
    """Whether ``text`` begins with http:// or https://."""
    return text.startswith(("http://", "https://"))


ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move the cursor, ring the bell, start an escape sequence, change the text direction, or are not text."""


def printable(text: str) -> str:
    """``text`` that is safe on a terminal: acting characters become U+FFFD, and a carriage return before a newline is removed."""
    return ACTING.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def printable_path(path: str) -> str:
    """A path on one line that is safe on a terminal: spaces and tabs are kept, a newline becomes ``\\n``."""
    return printable(path.replace("\n", "\\n"))


HELD_TAB = "\ue009"
"""Stands for a tab that rich is not to turn into spaces, until `cli.console` writes it."""


def clean(text: str) -> str:
    """`printable`, on one line: runs of white space become one space."""
    return printable(" ".join(text.split()))

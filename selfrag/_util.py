"""Small helpers that every part may use: atomic file writes, the machine, URLs, text that is safe to print."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """The file is replaced in one step, or stays as it is and nothing is left beside it. A link stays a link; a pipe or a device
    is written to. Raises OSError, of ``path``."""
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
"""Characters that move the cursor, ring the bell, begin an escape sequence, turn the direction of writing, or are no text."""


def printable(text: str) -> str:
    """``text`` as a terminal may show it: a character that acts becomes U+FFFD, a carriage return before a newline goes."""
    return ACTING.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def printable_path(path: str) -> str:
    """A path on one line as a terminal may show it: spaces and tabs stay as they are, a newline is written ``\\n``."""
    return printable(path.replace("\n", "\\n"))


HELD_TAB = "\ue009"
"""Stands for a tab that rich is not to turn into spaces, until `cli.console` writes it."""


def clean(text: str) -> str:
    """`printable`, on one line: runs of white space become one space."""
    return printable(" ".join(text.split()))

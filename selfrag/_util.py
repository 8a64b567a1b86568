"""Small helpers that every part may use: atomic file writes, URLs."""

from __future__ import annotations

import os
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


def is_url(text: str) -> bool:
    """Whether ``text`` begins with http:// or https://."""
    return text.startswith(("http://", "https://"))

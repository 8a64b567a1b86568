"""Who may write, across processes: one writer of a collection, and Chroma's files held still while they are read."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

from selfrag.errors import CollectionError, LockedError

_WRITER, _HOLDER, _CHROMA = "writer.lock", "writer.json", "chroma.lock"
_PATIENCE = 60.0  # seconds; readers hold Chroma for the time of one query


@contextmanager
def only_writer(folder: Path, name: str) -> Iterator[None]:
    """Makes this process the only writer of the collection ``name`` in ``folder``.

    Raises LockedError, naming the process that is, or CollectionError if the folder cannot be written to.
    """
    lock = FileLock(folder / _WRITER, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"The collection {name!r} is being written to by process {holder(folder) or 'unknown'}.",
            "wait for it to end, or stop it",
        ) from None
    except OSError as error:
        raise CollectionError(
            f"The collection {name!r} cannot be written to: {error.strerror or error} ({folder}).",
            "check the permissions, or set SELFRAG_HOME",
        ) from error
    try:
        _write_holder(folder)
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> int | None:
    """The process that said last that it writes here."""
    try:
        return int(json.loads((folder / _HOLDER).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def writing_process(folder: Path) -> int | None:
    """The process that is writing here now, 0 if it is unknown; None if there is none."""
    lock = FileLock(folder / _WRITER, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return holder(folder) or 0
    except OSError:
        return None
    lock.release()
    return None


def _write_holder(folder: Path) -> None:
    try:
        (folder / _HOLDER).write_text(json.dumps({"pid": os.getpid()}))
    except OSError as error:
        raise CollectionError(
            f"{folder} cannot be written to: {error.strerror or error}.", "free some space, or check the permissions"
        ) from error


@contextmanager
def chroma_still(folder: Path) -> Iterator[bool]:
    """Keeps writers from Chroma's files for a moment; False if one is at work, or if the folder cannot be written to."""
    try:
        lock = ReadWriteLock(folder / _CHROMA, is_singleton=False)
        lock.acquire_read(timeout=0)
    except (OSError, ValueError, sqlite3.Error):  # Timeout is an OSError
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
        lock.close()


@contextmanager
def chroma_alone(folder: Path) -> Iterator[None]:
    """Chroma's files for this process alone. Raises CollectionError if another one never lets go of them."""
    try:
        lock = ReadWriteLock(folder / _CHROMA, is_singleton=False)
        lock.acquire_write(timeout=_PATIENCE)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise CollectionError(
            f"The vectors in {folder} cannot be locked: {error}.", "check the disk and the permissions"
        ) from error
    try:
        yield
    finally:
        lock.release()
        lock.close()

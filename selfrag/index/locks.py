"""Locks across processes: one writer for each collection, and no writes to Chroma's files while they are read."""

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

    Raises LockedError, naming the current writer, or CollectionError if the folder is not writable.
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
    """The last process that registered as the writer."""
    try:
        return int(json.loads((folder / _HOLDER).read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def writing_process(folder: Path) -> int | None:
    """The current writer's process id, 0 if unknown; None without a writer."""
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
    """Locks writers out of Chroma's files for a moment; False if one is active, or if the folder is not writable."""
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
    """Locks Chroma's files for this process. Raises CollectionError if another process never releases them."""
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

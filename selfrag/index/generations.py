"""Where collections are stored: one folder each, with numbered generations and a file ``current`` that names the served one.

A rebuild writes the next generation next to the current one; when it is complete, one rename switches to it.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from selfrag.errors import CollectionError, UsageError
from selfrag.index.catalog.catalog import Catalog

_NAME = re.compile(r"[^\W_][\w.-]{0,99}")
_CURRENT = "current"


def folder_of(home: Path, name: str) -> Path:
    """The folder of the collection ``name``, whether or not it exists. Raises UsageError for an invalid name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a collection.", "use letters, digits, '-', '_' and '.'")
    return home / "collections" / name


def names(home: Path) -> list[str]:
    """The collections in ``home``."""
    folder = home / "collections"
    return sorted(each.name for each in folder.iterdir() if (each / _CURRENT).exists()) if folder.is_dir() else []


def current(folder: Path) -> Path | None:
    """The folder of the current generation, or None."""
    try:
        return folder / (folder / _CURRENT).read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CollectionError(f"{folder} cannot be read: {error.strerror or error}.", "check the permissions") from error


def catalog_in(generation: Path) -> Path:
    return generation / "catalog.sqlite"


def make(folder: Path) -> Path:
    """The folder where collections are written, created if missing. Raises CollectionError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CollectionError(
            f"{folder} cannot be made: {error.strerror or error}.", "check the permissions, or set SELFRAG_HOME"
        ) from error
    return folder


def new_generation(folder: Path, made_with: Mapping[str, object]) -> Catalog:
    """The catalog of a generation not served yet; resumes an unfinished one with the same fingerprint."""
    served = current(folder)
    generation = folder / f"g{int(served.name[1:]) + 1 if served else 1}"
    if unfinished := _unfinished(generation, made_with):
        return unfinished
    sweep(folder)
    try:
        generation.mkdir()
        catalog = Catalog.create(catalog_in(generation))
    except (OSError, sqlite3.Error) as error:
        raise CollectionError(f"{folder} cannot be written to: {error}.", "check the disk and the permissions") from error
    catalog.set_meta(id=uuid4().hex, made_with=made_with)
    return catalog


def _unfinished(generation: Path, made_with: Mapping[str, object]) -> Catalog | None:
    try:
        catalog = Catalog.open(catalog_in(generation), writable=True)
    except CollectionError:
        return None
    if catalog.meta("made_with") == made_with:
        return catalog
    catalog.close()
    return None


def serve(folder: Path, generation: Path) -> None:
    """Makes ``generation`` the current one, atomically, and deletes the others."""
    draft = folder / (_CURRENT + ".new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(generation.name)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, folder / _CURRENT)
    except OSError as error:
        raise CollectionError(
            f"{folder} cannot be written to: {error.strerror or error}.", "free some space and run it again"
        ) from error
    sweep(folder)


def sweep(folder: Path) -> None:
    """Deletes every generation but the current one."""
    served = current(folder)
    for each in folder.glob("g*"):
        if each.is_dir() and each != served:
            shutil.rmtree(each, ignore_errors=True)


def delete(folder: Path) -> None:
    """Removes a collection: an atomic rename hides it, then its files are deleted."""
    try:
        (folder / _CURRENT).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        raise CollectionError(f"{folder} cannot be removed: {error.strerror or error}.", "check the permissions") from error


def size(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

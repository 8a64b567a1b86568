"""The services that run on this machine for this SELFRAG_HOME: a file for each, readable only by its owner, and a lock.

A service is alive while it holds its lock, which the system releases when the process ends for any reason. A file without a held
lock is left over from a crash and is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from selfrag import index
from selfrag._version import __version__
from selfrag.config import profiles
from selfrag.config.options import SEARCH
from selfrag.config.settings import TABLE, Settings
from selfrag.types import ReflectionKind

_OWN = ("collection", "embedder", "history", "history_mb")
"""The settings that a service need not share: those sent with each question, and those that only its client uses."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running service: its process, where it listens, a token of its own, how its model reflects, and what its answers depend
    on (`setup`)."""

    pid: int
    host: str
    port: int
    token: str
    reflection: ReflectionKind
    setup: dict[str, Any]


def setup(settings: Settings) -> dict[str, Any]:
    """What must be equal for a service to give the same answers: version, model, engine, thresholds, documents."""
    profile = ""
    if settings.profile:
        path = profiles.path_of(settings.profile, settings.paths.profiles)
        profile = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    chosen = {name: getattr(settings, name) for name in TABLE if name not in SEARCH and name not in _OWN}
    places = {"data": str(settings.paths.data), "cache": str(settings.paths.cache)}
    return {"version": __version__, **places, **chosen, "profile_content": profile}


def folder_of(settings: Settings) -> Path:
    return settings.paths.data / "services"


@contextmanager
def announced(settings: Settings, host: str, port: int, reflection: ReflectionKind) -> Iterator[Running]:
    """Lets clients find this process for as long as this lasts."""
    folder = folder_of(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    here = Running(os.getpid(), host, port, secrets.token_urlsafe(32), reflection, setup(settings))
    file = folder / f"{here.pid}-{port}.json"
    with FileLock(file.with_suffix(".lock"), timeout=0, mode=0o600):
        draft = file.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(asdict(here), stream)
        draft.replace(file)
        try:
            yield here
        finally:
            file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)


def running(settings: Settings) -> list[Running]:
    """The services that live, the youngest first."""
    files = sorted(folder_of(settings).glob("*.json"), key=_age, reverse=True)
    return [found for file in files if (found := _living(file))]


def find(settings: Settings, collections: Iterable[str] = ()) -> Running | None:
    """A running service with the same settings, else None; also None if one of the ``collections`` does not exist, which this
    process reports itself."""
    if not folder_of(settings).is_dir() or not set(collections) <= set(index.names(settings.paths.data)):
        return None
    wanted = setup(settings)
    return next((each for each in running(settings) if each.setup == wanted), None)


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _living(file: Path) -> Running | None:
    """What a file says, if its service lives and the file is ours."""
    lock = FileLock(file.with_suffix(".lock"), timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        return _read(file)
    except OSError:
        return None
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()
    return None


def _read(file: Path) -> Running | None:
    try:
        mine = file.stat().st_uid == os.getuid()
        return Running(**json.loads(file.read_text("utf-8"))) if mine else None
    except (OSError, ValueError, TypeError):  # it has just ended, or is another version
        return None

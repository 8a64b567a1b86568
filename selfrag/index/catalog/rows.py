"""The rows of the catalog: plain values, no SQL."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfrag.types import Header

SourceStatus = Literal["ok", "skipped", "stale"]


@dataclass(frozen=True, slots=True)
class Hints:
    """A file's `stat` values; equal hints mean equal content, unless the file was written during the check."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Hints:
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino % 2**63)


NO_HINTS = Hints(-1, -1, -1, -1)
"""Equals no file's hints, so the next run reads the file again."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the collection. ``skipped`` has a ``reason`` and no chunks; ``stale`` cannot be opened and keeps its old ones."""

    path: str
    hash: str | None
    hints: Hints
    status: SourceStatus = "ok"
    reason: str | None = None
    reader: str | None = None
    title: str = ""
    metadata: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored chunk. BM25 matches ``head`` and ``body``; ``embedding`` is the hash of the embedded text. ``names`` are the names
    that a model found in it, for the graph; ``written`` the keys of what a model wrote about it (annotate.py)."""

    key: str
    text: str
    headings: tuple[str, ...]
    headers: tuple[Header, ...]
    start: int
    stop: int
    lines: tuple[int, int] | None
    page: int | None
    place: str | None
    embedding: str
    head: str
    body: str
    names: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    sources: int
    skipped: int
    chunks: int
    words: int
    embeddings: int
    missing: int
    pending: int


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """Describes where two fingerprints differ."""
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return "; ".join(f"{key}: {then.get(key)!r} then, {now.get(key)!r} now" for key in keys)

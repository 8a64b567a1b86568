"""The questions of a run: a file in any known format, or standard input, all or some of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from selfrag.batch.datasets import NAMES, detect, read_task
from selfrag.batch.rows import Row, sample, survey, unique
from selfrag.errors import UsageError


@dataclass(frozen=True, slots=True)
class Questions:
    """``rows`` reads the questions again at each call (standard input: only once); ``total`` is None if unknown; ``fingerprint``
    is the digest of the file; ``sample`` is the size and the seed of a sample."""

    name: str
    task: str
    rows: Callable[[], Iterator[Row]]
    total: int | None
    fingerprint: str | None
    sample: tuple[int, int] | None = None

    def describe(self) -> dict[str, object]:
        """What a stored run names of its questions, besides the file."""
        drawn = {"sample": self.sample[0], "seed": self.sample[1]} if self.sample else {}
        return {"task": self.task, **drawn}


def open_questions(
    source: str, task: str | None = None, limit: int | None = None, count: int | None = None, seed: int = 0
) -> Questions:
    """The rows of ``source`` ("-" is standard input): the first ``limit``, or a sample of ``count`` drawn by ``seed``.

    InputError if it cannot be read, UsageError for an unknown task or a sample of standard input.
    """
    if task is not None and task not in NAMES:
        raise UsageError(f"unknown task {task!r}", f"the tasks are {', '.join(NAMES)}")
    if source == "-":
        if count is not None:
            raise UsageError("standard input cannot be sampled, since its length is not known", "write it to a file first")
        return Questions("standard input", task or "as they are", lambda: islice(_stdin(task), limit), limit, None)
    path = Path(source)
    found = survey(path)
    with path.open("rb") as stream:
        kind = task or detect(path.name, stream.read(1 << 16))

    def everything() -> Iterator[Row]:
        with path.open("rb") as stream:
            yield from unique(read_task(stream, path.name, kind))

    total = _length(path, kind, found.lines, everything)
    if count is not None:
        some = lambda: sample(everything(), total, count, seed)  # noqa: E731
        return Questions(source, kind, some, min(count, total), found.sha256, (count, seed))
    shown = total if limit is None else min(limit, total)
    return Questions(source, kind, lambda: islice(everything(), limit), shown, found.sha256)


def _stdin(task: str | None) -> Iterator[Row]:
    # A reader of its own: the interpreter cannot close one that another thread waits in.
    with open(sys.stdin.fileno(), "rb", closefd=False) as stream:
        kind = task or detect("", stream.peek(1))
        yield from unique(read_task(stream, "standard input", kind))


def _length(path: Path, task: str, lines: int, everything: Callable[[], Iterator[Row]]) -> int:
    """The number of rows: exact if that is cheap, otherwise the number of lines, which may be slightly too high."""
    if task in ("squad", "asqa", "csv", "json") or path.suffix.lower() in (".csv", ".tsv", ".json"):
        return sum(1 for _ in everything())
    return lines

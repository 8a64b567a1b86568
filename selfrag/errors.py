"""Errors with messages for the user: what happened, to what, and the command that fixes it.

SelfragError            1
├── UsageError          2   a value that cannot be (a negative weight, an unknown option)
│   └── ConfigError     2   the configuration file or an environment variable
├── InputError          1   a file that cannot be read as what it should be (path and line in the message)
├── CollectionError     1   a collection that is missing, damaged, or made with another embedder
│   └── LockedError     1   another process is writing to it
├── ModelError          1   a model that is missing, cannot be loaded, or lacks reflection tokens
└── EngineError         1   generation failed
    ├── EngineBusy      1   ... in a way that may pass: try again
    └── TextsRefused    1   an embedder took some texts and not others
Interrupted           130   the person pressed Ctrl-C
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ANSWERED, FAILED, USAGE, ABSTAINED, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class SelfragError(Exception):
    """The base of every error that selfrag raises. ``message`` says what happened and to what, in one line; ``hint`` is the
    command, or the change, that fixes it, or None; ``exit_code`` is the exit status of the command."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SelfragError):
    """A value that is not allowed: a negative weight, an unknown option. Exit code 2."""

    exit_code = USAGE


class ConfigError(UsageError):
    """A setting whose value is not allowed, in the configuration file, the environment, a flag, an argument. Exit code 2."""


class InputError(SelfragError):
    """A file that cannot be read as what it should be; the message names the path, and the line where there is one."""


class CollectionError(SelfragError):
    """A collection that is missing, damaged, or made with another embedder."""


class LockedError(CollectionError):
    """Another process is writing to the collection; what it holds can be read all the while."""


class ModelError(SelfragError):
    """A model that is missing, cannot be loaded, or lacks reflection tokens."""


class EngineError(SelfragError):
    """Generation failed: a server that refuses, a prompt longer than the model's context, a process that died."""


class EngineBusy(EngineError):
    """Generation failed in a way that may pass, such as a server that is starting or has too much to do: try again."""


class TextsRefused(EngineError):
    """``refused`` says why, by the number of the text. ``vectors`` has a row for each text; rows of refused ones mean nothing."""

    def __init__(self, refused: Mapping[int, str], vectors: NDArray[np.float32]) -> None:
        first = next(iter(refused.values()), "")
        super().__init__(f"{len(refused):,} of {len(vectors):,} texts cannot be embedded: {first}")
        self.refused = refused
        self.vectors = vectors


class Interrupted(SelfragError):
    """The person pressed Ctrl-C. Exit code 130; what was finished before is kept."""

    exit_code = INTERRUPTED

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
    """A message for a person. ``hint`` is the command, or the change, that fixes it; ``exit_code`` the process's status."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SelfragError):
    """A value that is not allowed: a negative weight, an unknown option."""

    exit_code = USAGE


class ConfigError(UsageError):
    """A wrong value in the configuration file, the environment or on the command line."""


class InputError(SelfragError):
    """A file that cannot be read as what it should be; the message names path and line."""


class CollectionError(SelfragError):
    """A collection that is missing, damaged, or made with another embedder."""


class LockedError(CollectionError):
    """Another process is writing to the collection."""


class ModelError(SelfragError):
    """A model that is missing, cannot be loaded, or lacks reflection tokens."""


class EngineError(SelfragError):
    """Generation failed."""


class EngineBusy(EngineError):
    """Generation failed in a way that may pass: try again."""


class TextsRefused(EngineError):
    """``refused`` says why, by the number of the text. ``vectors`` has a row for each text; rows of refused ones mean nothing."""

    def __init__(self, refused: Mapping[int, str], vectors: NDArray[np.float32]) -> None:
        first = next(iter(refused.values()), "")
        super().__init__(f"{len(refused):,} of {len(vectors):,} texts cannot be embedded: {first}")
        self.refused = refused
        self.vectors = vectors


class Interrupted(SelfragError):
    """The person pressed Ctrl-C."""

    exit_code = INTERRUPTED

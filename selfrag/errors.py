"""What can go wrong, as a person should read it: what happened, to what, and the command that mends it.

SelfragError            1
├── UsageError          2   a value that cannot be (a negative weight, an unknown option)
│   └── ConfigError     2   the configuration file or an environment variable
├── InputError          1   a file that cannot be read as what it should be (path and line in the message)
├── CollectionError     1   a collection that is missing, damaged, or made with another embedder
│   └── LockedError     1   another process is writing to it
├── ModelError          1   a model that is missing, cannot be loaded, or lacks reflection tokens
└── EngineError         1   generation failed
    └── EngineBusy      1   ... in a way that may pass: try again
Interrupted           130   the person pressed Ctrl-C
"""

from __future__ import annotations

ANSWERED, FAILED, USAGE, ABSTAINED, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class SelfragError(Exception):
    """A message for a person. ``hint`` is the command, or the change, that mends it; ``exit_code`` the process's status."""

    exit_code = FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SelfragError):
    exit_code = USAGE


class ConfigError(UsageError):
    pass


class InputError(SelfragError):
    pass


class CollectionError(SelfragError):
    pass


class LockedError(CollectionError):
    pass


class ModelError(SelfragError):
    pass


class EngineError(SelfragError):
    pass


class EngineBusy(EngineError):
    pass


class Interrupted(SelfragError):
    exit_code = INTERRUPTED

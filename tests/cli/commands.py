"""Walks the commands, for the tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from selfrag.cli import app


def every_command() -> Iterator[tuple[list[str], Any]]:
    """Every command with its path, `["trace", "show"]`; groups come before their commands."""
    root: Any = typer.main.get_command(app)
    yield [], root
    for name in root.list_commands(None):
        yield from _below([name], root.get_command(None, name))


def _below(path: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _below([*path, name], child)

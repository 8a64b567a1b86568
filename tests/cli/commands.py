"""Walks the commands, for the tests that hold for all of them."""

from __future__ import annotations

import re
import shlex
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


def written_commands(text: str) -> Iterator[str]:
    """The commands that stand in ``text``: on lines of their own, in pipes, and, those with options, in backquotes."""
    for line in re.findall(r"^ {2,}(?:\w+=\S+ )*(selfrag .+)$|`(selfrag [^`]* -[^`]*)`|\| (selfrag [^|\n]+)", text, re.MULTILINE):
        command = re.split(r" \| | {3,}", next(filter(None, line)))[0]
        yield " ".join(command.split())


def found_command(line: str) -> tuple[Any, list[str]]:
    """The command that ``line`` calls, and its arguments."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and (child := getattr(command, "get_command", lambda *_: None)(None, words[0])) is not None:
        command, words = child, words[1:]
    return command, words

"""The help: complete, with examples, for every command there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import every_command, found_command, written_commands

ALL = [pytest.param(path, command, id=" ".join(path) or "selfrag") for path, command in every_command()]


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_has_an_example(path: list[str], command: Any) -> None:
    """The help shows how the command is called, at least once."""
    text = command.help or ""
    assert "Example" in text
    assert " ".join(["selfrag", *path]) in text.replace("uv run ", "")
    assert "\\b" not in text  # the mark that keeps lines apart, written twice escaped, would be printed


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_option_is_described(path: list[str], command: Any) -> None:
    """Each option and each argument says what it is for."""
    silent = [parameter.name for parameter in command.params if not (getattr(parameter, "help", None) or "").strip()]
    assert silent == []


@pytest.mark.parametrize(("path", "command"), ALL)
def test_every_command_says_what_it_does(path: list[str], command: Any) -> None:
    """The first line of the help is a sentence."""
    first = (command.help or "").strip().splitlines()[0]
    assert first.endswith((".", ":")), first


def test_the_reference_lists_only_flags_that_exist() -> None:
    """Each flag in the configuration reference is an option of a command; a setting without one has none there."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text("utf-8")
    rows = [row for row in (line.split(" | ") for line in page.splitlines()) if len(row) == 5]
    listed = set(re.findall(r"`(--?[\w-]+)", " ".join(flags.replace("/", "` `") for _, flags, *_ in rows)))
    assert {"--model", "--no-prune"} <= listed
    exist = {name for _, command in every_command() for p in command.params for name in (*p.opts, *p.secondary_opts)}
    assert listed <= exist


README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
WRITTEN = {line for text in (README, *(command.help or "" for _, command in every_command())) for line in written_commands(text)}


@pytest.mark.parametrize("line", sorted(WRITTEN))
def test_what_help_and_readme_tell_to_type_is_understood(line: str) -> None:
    """Every command that stands in a help text or in the README has the options and arguments that it is given there."""
    command, arguments = found_command(line)
    assert command.make_context(line, arguments).command is command

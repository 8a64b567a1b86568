"""Prompt templates: plain text files in prompts/, one a prompt, named by their path without the suffix.

A file's first line declares its variables (``variables: question passage``); the rest is the text, to the last newline, with
``{question}`` where a variable goes and ``{{``, ``}}`` for braces. What is put in is never read as a template itself.
"""

from __future__ import annotations

import difflib
import string
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from selfrag.errors import InputError, UsageError

_HEADER = "variables:"
_INSTALLED = Path(__file__).parent / "_prompts"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "prompts"


@dataclass(frozen=True, slots=True)
class Template:
    """``pieces`` alternate: literal text, and the variable that follows it (None at the end)."""

    name: str
    variables: frozenset[str]
    pieces: tuple[tuple[str, str | None], ...]

    def render(self, **values: str) -> str:
        """The text with every variable filled in; UsageError unless ``values`` are exactly the declared variables."""
        if missing := sorted(self.variables - values.keys()):
            raise UsageError(f"the prompt {self.name} needs a value for {', '.join(missing)}")
        if unknown := sorted(values.keys() - self.variables):
            raise UsageError(f"the prompt {self.name} has no variable {', '.join(unknown)}")
        return "".join(literal + (values[variable] if variable else "") for literal, variable in self.pieces)


@cache
def load(name: str) -> Template:
    """The template prompts/``name``.txt. Raises UsageError if it does not exist, InputError if it is malformed."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        raise UsageError(f"unknown prompt {name!r}", f"did you mean {near[0]}?" if near else None)
    return parse((FOLDER / f"{name}.txt").read_text(encoding="utf-8"), name)


def names(folder: str = "") -> list[str]:
    """The names of all templates, or of those in a subfolder, sorted."""
    files = (FOLDER / folder).rglob("*.txt")
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in files)


def parse(source: str, name: str) -> Template:
    """A template from the text of its file. Raises InputError when text and header do not agree on the variables."""
    header, _, text = source.partition("\n")
    if not header.startswith(_HEADER):
        raise InputError(f"the prompt {name} does not begin with a line `{_HEADER} …`")
    declared = frozenset(header.removeprefix(_HEADER).split())
    pieces = _pieces(text, name)
    used = {variable for _, variable in pieces if variable is not None}
    if odd := sorted(used ^ declared):
        raise InputError(f"the prompt {name} declares or uses {', '.join(odd)}, but not both")
    return Template(name, declared, pieces)


def _pieces(text: str, name: str) -> tuple[tuple[str, str | None], ...]:
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise InputError(f"the prompt {name} has a brace out of place: {error}", "write {{ and }} for braces") from error
    for _, field, spec, conversion in parsed:
        if field is not None and (not field.isidentifier() or spec or conversion):
            raise InputError(f"the prompt {name} has the placeholder {{{field}}}, which is not a plain variable name")
    return tuple((literal, field) for literal, field, _, _ in parsed)

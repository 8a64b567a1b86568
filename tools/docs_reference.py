"""Writes the reference pages of the documentation from the code: options, commands, public names.

python tools/docs_reference.py [FOLDER]        FOLDER is docs/reference by default
"""

from __future__ import annotations

import inspect
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path

import selfrag
from selfrag import cli
from selfrag.config.settings import TABLE
from selfrag.environment import VARIABLES

HEAD = "<!-- Written by tools/docs_reference.py: `make reference`. -->\n\n"


def configuration() -> str:
    """Every setting, from the table of options; every environment variable."""
    lines = [
        "# Configuration\n",
        "A setting comes from the command line, from `SELFRAG_<KEY>` in the environment, from the project's `.selfrag.toml`, or",
        "from the configuration file, in this order ([more](../terminal.md)). `selfrag config show` prints the values in force",
        "and where each comes from; `selfrag config path` says where the file is. API keys are not settings; they stay in the",
        "environment.\n",
        "| key | flag | allowed | default | what it does |",
        "|---|---|---|---|---|",
    ]
    for name, row in TABLE.items():
        flags = ", ".join(f"`{flag}`" for flag in row.flags) or "–"
        lines.append(f"| `{name}` | {flags} | {row.allowed} | {row.default_text or '–'} | {row.option.help} |")
    lines += [
        "\n## Environment variables\n",
        "`SELFRAG_<KEY>` sets each key above, `SELFRAG_K=8` for example. These are read, too; an empty one counts as not set.\n",
        "| variable | what it is for | default |",
        "|---|---|---|",
    ]
    lines += [f"| `{each.name}` | {each.meaning} | {each.default} |" for each in VARIABLES]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """The help of every command."""
    parts = ["# Commands\n"]
    for name, entry in cli.COMMANDS.items():
        printed = io.StringIO()
        with redirect_stdout(printed):
            cli.run([name, "--help"])
        body = "\n".join(f"    {line}".rstrip() for line in printed.getvalue().strip().splitlines())
        parts.append(f"## selfrag {name}\n\n{entry.summary}\n\n{body}\n")
    return "\n".join(parts)


def library() -> str:
    """Every public name with its signature and docstring."""
    parts = ["# Library\n", "The public names of `import selfrag`. Everything else may change between versions.\n"]
    for name in selfrag.__all__:
        found = getattr(selfrag, name)
        if isinstance(found, str):
            continue
        shown = signature(found) if inspect.isroutine(found) else ""
        parts.append(f"## {name}\n\n`{name}{shown}`\n\n{indented(found)}\n")
        if inspect.isclass(found) and not issubclass(found, Exception):
            parts += [f"{line}\n" for line in members(found)]
    return "\n".join(parts)


def signature(found: Callable[..., object]) -> str:
    """Its parameters, without quotes around annotations and without the addresses of functions."""
    shown = re.sub(r"<function (\w+) at 0x\w+>", r"\1", str(inspect.signature(found)))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", shown)


def indented(found: object) -> str:
    """A docstring as a block."""
    return "\n".join(f"    {line}".rstrip() for line in (inspect.getdoc(found) or "").splitlines())


def members(kind: type) -> Iterator[str]:
    """The fields of a dataclass, and the public methods with their signatures and docstrings."""
    if is_dataclass(kind):
        rows = [f"| `{f.name}` | `{f.type}` | {_default(f)} | {_help(f)} |" for f in fields(kind)]
        yield "\n".join(["| field | type | default | |", "|---|---|---|---|", *(row.replace(" |  |", " | |") for row in rows)])
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            kept = "async " if inspect.iscoroutinefunction(method) else ""
            yield f"`{kept}{name}{signature(method)}`"
            if text := indented(method):
                yield text


def _default(field: Field[object]) -> str:
    return "" if field.default is MISSING else f"`{field.default}`"


def _help(field: Field[object]) -> str:
    option = field.metadata.get("option")
    return option.help if option else ""


def pages() -> dict[str, str]:
    """The pages by file name."""
    return {f"{make.__name__}.md": HEAD + make() for make in (configuration, commands, library)}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in pages().items():
        (folder / file).write_text(text, "utf-8")

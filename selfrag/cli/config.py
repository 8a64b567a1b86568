"""`selfrag config`: shows and changes the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json, group

if TYPE_CHECKING:
    from selfrag.config.settings import Settings

Key = Annotated[str, typer.Argument(metavar="KEY", help="Name of the setting, as `selfrag config show` lists it.")]


CONFIG = """Show and change the settings.

A setting comes from the command line, from SELFRAG_<KEY> in the environment, from `.selfrag.toml` in the working directory or
above it, or from the configuration file, in this order. API keys are not settings; they stay in the environment.

\b
Examples:
  selfrag config show
  selfrag config set k 8
"""


def show(json: Json = False) -> None:
    """Show every setting, its value and its origin.

    \b
    Examples:
      selfrag config show
      selfrag config show --json | jq .model
    """
    from rich.text import Text

    from selfrag.config import settings

    now = settings.load()
    if json:
        terminal.print_json({name: shown(now, name) for name in settings.TABLE})
        return
    table = terminal.table("key", "value", "from", "what it is")
    for name, row in settings.TABLE.items():
        value = shown(now, name)
        origin = now.origins.get(name, "default")
        words = "(not set)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        words = row.default_text if row.option.fitted and origin == "default" else words
        table.add_row(Text(name, "bold"), Text(words), Text(origin, "dim"), Text(row.option.help, "dim"))
    terminal.show(table)


def path(json: Json = False) -> None:
    """Show the paths of the configuration file, the collections and the models.

    \b
    Examples:
      selfrag config path
      SELFRAG_HOME=/mnt/big selfrag config path
    """
    from selfrag.config import settings

    paths = settings.find_paths()
    places = {"config": paths.file, "data": paths.data, "cache": paths.cache, "profiles": paths.profiles}
    lines = "\n".join(f"{name:<9} {place}" for name, place in places.items())
    terminal.result({name: str(place) for name, place in places.items()}, lines, json)


def get(key: Key) -> None:
    """Print the value of one setting; an empty line if it has no value.

    \b
    Examples:
      selfrag config get model
    """
    from selfrag.config import settings

    now = settings.load()
    settings.check_key(key, "config get")
    value = shown(now, key)
    terminal.put("" if value is None else str(value))


def set_(key: Key, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its new value.")]) -> None:
    """Write one setting to the configuration file.

    \b
    Examples:
      selfrag config set model selfrag/selfrag_llama2_7b
      selfrag config set k 8
    """
    from selfrag.config import settings

    paths = settings.find_paths()
    settings.save(paths, key, value)
    terminal.say(f"{key} is set in {paths.file}")


def unset(key: Key) -> None:
    """Remove one setting from the configuration file.

    \b
    Examples:
      selfrag config unset k
    """
    from selfrag.config import settings

    paths = settings.find_paths()
    settings.save(paths, key, None)
    terminal.say(f"{key} is not set in {paths.file}")


def shown(now: Settings, name: str) -> Any:
    """The value of a setting for printing, without the password of a URL."""
    import re

    value = now.value(name)
    return re.sub(r"(://[^/:@\s]*):[^/@\s]*@", r"\1:***@", value) if isinstance(value, str) else value


config = group(CONFIG, show, path, get, set_, unset)

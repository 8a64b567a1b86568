"""Paths on this machine, and the user's settings: the configuration file, ``SELFRAG_*``, the command line.

Later sources win. Knows no command and no model library. API keys are never settings: they stay in the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

from selfrag import environment
from selfrag._util import is_url, write_whole
from selfrag.config import options
from selfrag.errors import ConfigError
from selfrag.types import Graph, option

ReflectionChoice = Literal["auto", "tokens", "prompted"]

DEFAULT_MODEL = "smollm2-135m-selfrag"
PROJECT = ".selfrag.toml"
DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"
DEFAULT_RERANKER = "none"

# --- places --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of selfrag: the platform's own, or all three under ``SELFRAG_HOME``."""

    data: Path
    cache: Path
    config: Path
    chosen: Path | None = None

    @property
    def file(self) -> Path:
        """The configuration file, which need not exist unless it was ``chosen`` (--config, SELFRAG_CONFIG)."""
        return self.chosen or self.config / "config.toml"

    @property
    def profiles(self) -> Path:
        """Where `calibrate` keeps thresholds, one file a profile."""
        return self.config / "profiles"

    @property
    def history(self) -> Path:
        """What was typed into `chat`."""
        return self.data / "history"

    @property
    def conversations(self) -> Path:
        """Questions and answers, for `selfrag history`."""
        return self.data / "history.sqlite"


def find_paths(environ: Mapping[str, str] = os.environ) -> Paths:
    """The folders that ``environ`` asks for; creates none of them."""
    file = environment.CONFIG.read(environ)
    chosen = Path(file).expanduser() if file else None
    if home := environment.HOME.read(environ):
        root = Path(home).expanduser().resolve()
        return Paths(root / "data", root / "cache", root, chosen)
    place = platformdirs.PlatformDirs("selfrag", appauthor=False)
    return Paths(Path(place.user_data_dir), Path(place.user_cache_dir), Path(place.user_config_dir), chosen)


def find_project(folder: Path) -> Path | None:
    """The `.selfrag.toml` of ``folder`` or of the nearest folder above it, or None."""
    return next((file for each in (folder, *folder.parents) if (file := each / PROJECT).is_file()), None)


# --- settings ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, as `config show` lists them. None leaves it to the model or the machine.

    ``readers`` are the converters of ``[readers]``, commands by extension. ``search`` holds the search options that a person has
    set, by name; ``origins`` says where each setting comes from.
    """

    paths: Paths
    collection: str = option("default", "Collection.", metavar="NAME", flags=("--collection", "-c"))
    model: str = option(
        DEFAULT_MODEL, "Registry name, Hugging Face name or folder of the model.", metavar="M", flags=("--model", "-m")
    )
    engine: str = option(
        "auto", "auto, onnx, transformers, vllm, ollama, lmstudio, llamacpp, openai, or a server's URL.", metavar="E"
    )
    reflection: ReflectionChoice = option("auto", "Reflection by tokens or by prompts; auto: by tokens if the model has them.")
    device: str | None = option(None, "Device of the transformers engine: cpu, cuda, cuda:1.", metavar="D")
    cache_mb: int | None = option(
        None, "KV cache of a local engine in MiB; 256 by default with onnx, else 2048.", metavar="N", low=1
    )
    profile: str | None = option(None, "Thresholds that `selfrag calibrate` fitted.", metavar="NAME")
    relevant_above: float | None = option(
        None, "Treat a passage as relevant, and write from it, if ISREL is at least P.", metavar="P", high=1, fitted=True
    )
    embedder: str = option(DEFAULT_EMBEDDER, "Embedder of new collections.", metavar="E")
    chunk_words: int = option(160, "Maximum words of a passage in new collections.", low=20, metavar="N")
    reranker: str = option(
        DEFAULT_RERANKER,
        "Re-ranker: FILE of `train reranker`, cross-encoder, URL of a /rerank server, or none.",
        metavar="R",
    )
    graph: Graph = option(
        "auto",
        "Follow names from passage to passage: always (on), if the question has a known name (auto), never (off).",
    )
    ocr: Literal["auto", "never", "always"] = option(
        "auto", "OCR for pages without text (auto), for all (always), for none (never); needs selfrag[ocr]."
    )
    chroma: str | None = option(None, "URL of a Chroma server; embedded when not set.", metavar="URL")
    history: bool = option(True, "Keep questions and answers, for `selfrag history`.")
    history_mb: int = option(100, "Maximum size of the history in MB; the oldest answers are removed first.", low=1, flags=())
    links: str = option(
        "auto",
        "Hyperlinks of citations: auto, off, or a template with {path} and {line}, like vscode://file{path}:{line}.",
        flags=(),
    )
    readers: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, object] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> object:
        """The value of any setting by its name, a search option's default included where a person set none."""
        return self.search.get(name, options.SEARCH[name].default) if name in options.SEARCH else getattr(self, name)


TABLE: Mapping[str, options.Row] = {**options.rows_of(Settings), **options.SEARCH}
"""Every setting by name, in the order in which `config show` lists them."""


def check_key(name: str, where: str, mend: str = "`selfrag config show` lists every key") -> None:
    """Raises ConfigError for a key that does not exist, naming the nearest one that does."""
    if name not in TABLE:
        close = difflib.get_close_matches(name.replace("-", "_"), TABLE, n=1, cutoff=0.5)
        raise ConfigError(f"{where}: unknown key {name!r}" + (f", did you mean {close[0]!r}?" if close else ""), mend)


def read_value(name: str, value: object, where: str) -> object:
    """The setting ``name`` from ``value``, found at ``where``. Raises ConfigError for an invalid value."""
    check_key(name, where)
    try:
        return TABLE[name].read(value)
    except ValueError as expected:
        raise ConfigError(
            f"{where}: {name} is {value!r}, expected {expected}", "`selfrag config show` says what it is for"
        ) from None


# --- the files and the environment ----------------------------------------------------------------------------------------------


def _line(text: str, key: str) -> int:
    pattern = re.compile(rf"""\s*\[?["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)


def _read_file(file: Path) -> dict[str, tuple[object, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}", f"correct the file, or remove it: {file}") from None
    places = {name: f"{file}:{_line(text, name)}" for name in table}
    for name in table:
        if name != "readers":
            check_key(name, places[name], f"selfrag config unset {name}")
    return {name: (_read_entry(name, value, places[name]), places[name]) for name, value in table.items()}


def _read_entry(name: str, value: object, where: str) -> object:
    """A setting of the file, or the table of converters. Raises ConfigError."""
    if name != "readers":
        return read_value(name, value, where)
    for suffix, command in value.items() if isinstance(value, dict) else [("readers", value)]:
        if not (isinstance(value, dict) and suffix.startswith(".") and isinstance(command, str) and "{file}" in command):
            raise ConfigError(
                f"{where}: [readers] has {suffix!r} = {command!r}, expected an extension and a command that names {{file}}",
                '".wpd" = "wpd2text {file}"',
            )
    return value


def _read_project(file: Path | None) -> dict[str, tuple[object, str]]:
    """A project's settings. It may come with files from an untrusted source, so it may name no server, which would receive
    questions and passages, no command, which would be run, and no links, which would open a program of its choice.
    """
    found = _read_file(file) if file else {}
    if "readers" in found:
        raise ConfigError(
            f"{found['readers'][1]}: [readers] names commands, which a project's file may not", "move it to your own config.toml"
        )
    if "links" in found:
        raise ConfigError(
            f"{found['links'][1]}: links open programs, which a project's file may not choose", "selfrag config set links …"
        )
    for name, (value, place) in found.items():
        if is_url(str(value)):
            raise ConfigError(
                f"{place}: {name} names a server, which a project's file may not", f"selfrag config set {name} {value}"
            )
    return found


def _read_environment(environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    names = {f"SELFRAG_{name.upper()}": name for name in TABLE}
    given = {variable: environ[variable] for variable in names if environ.get(variable)}
    return {names[v]: (read_value(names[v], value, f"environment variable {v}"), v) for v, value in given.items()}


def load(environ: Mapping[str, str] = os.environ, **given: object) -> Settings:
    """The settings of the file, overridden by those of the project (`.selfrag.toml` in the working directory or above it; not
    where a file was chosen), by ``SELFRAG_<KEY>``, and by those of ``given`` that are not None.

    Raises ConfigError, with file and line, for anything unknown or impossible.
    """
    paths = find_paths(environ)
    if paths.chosen and not paths.chosen.is_file():
        raise ConfigError(f"{paths.chosen}: there is no such configuration file", "name another one with --config")
    project = {} if paths.chosen else _read_project(find_project(Path.cwd()))
    return override(_with(Settings(paths), _read_file(paths.file) | project | _read_environment(environ)), given)


def override(settings: Settings, given: Mapping[str, object]) -> Settings:
    """``settings`` with those of ``given`` that are not None. Raises ConfigError, with the flag, for anything not allowed."""
    flags = {name: "--" + name.replace("_", "-") for name, value in given.items() if value is not None}
    return _with(settings, {name: (read_value(name, given[name], flag), flag) for name, flag in flags.items()})


def _with(settings: Settings, found: Mapping[str, tuple[object, str]]) -> Settings:
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    search = {**settings.search, **{name: values.pop(name) for name in options.SEARCH if name in values}}
    origins = {**settings.origins, **{name: origin for name, (_, origin) in found.items()}}
    return replace(settings, search=search, origins=origins, **values)


def save(paths: Paths, name: str, value: str | None) -> None:
    """Writes one key to the configuration file, or removes it for None; other lines, comments too, stay as they are.

    Raises ConfigError for an unknown key (unless it is to be removed), for a value that is not allowed, and for a file that is
    not TOML.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    setting = None if value is None else read_value(name, value, "config set")
    try:
        table = tomlkit.parse(paths.file.read_text("utf-8")) if paths.file.exists() else tomlkit.document()
    except (UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{paths.file}: {error}", f"correct the file, or remove it: {paths.file}") from None
    if setting is not None:
        table[name] = setting
    elif name in table:
        del table[name]
    else:
        check_key(name, "config unset")
        return
    paths.file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(paths.file, [tomlkit.dumps(table).encode()])

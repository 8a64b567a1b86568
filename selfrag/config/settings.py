"""Where things lie on this machine, and what a person has set: the configuration file, ``SELFRAG_*``, the command line.

The later wins. Knows no command and no library of models. API keys are never settings: they stay in the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, cast

import platformdirs

from selfrag._util import write_whole
from selfrag.errors import ConfigError
from selfrag.types import Mode, SearchOptions, Support, Weights

DEFAULT_MODEL = "smollm2-135m-selfrag"
DEFAULT_EMBEDDER = "all-MiniLM-L6-v2"

# --- places --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of selfrag: the platform's own, or all three under ``SELFRAG_HOME``."""

    data: Path
    cache: Path
    config: Path

    @property
    def file(self) -> Path:
        """The configuration file, which need not exist."""
        return self.config / "config.toml"

    @property
    def profiles(self) -> Path:
        """Where `calibrate` keeps thresholds, one file a profile."""
        return self.config / "profiles"

    @property
    def history(self) -> Path:
        """What was typed into `chat`."""
        return self.data / "history"


def find_paths(environ: Mapping[str, str] = os.environ) -> Paths:
    """The folders that ``environ`` asks for; none of them is made."""
    if home := environ.get("SELFRAG_HOME"):
        root = Path(home).expanduser().resolve()
        return Paths(root / "data", root / "cache", root)
    place = platformdirs.PlatformDirs("selfrag", appauthor=False)
    return Paths(Path(place.user_data_dir), Path(place.user_cache_dir), Path(place.user_config_dir))


# --- keys ----------------------------------------------------------------------------------------------------------------------

Read = Callable[[object], object]
"""Turns a TOML value, or the text of an environment variable, into a setting; ValueError says what is expected."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text")
    return value.strip()


def _flag(value: object) -> bool:
    found = value if isinstance(value, bool) else {"true": True, "false": False, "1": True, "0": False}.get(str(value).lower())
    if found is None:
        raise ValueError("true or false")
    return found


def _number(value: object, low: float = 0.0, high: float = float("inf")) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(cast(Any, value))
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high or number == float("inf"):
        raise ValueError(f"a number of at least {low:g}" if high == float("inf") else f"a number from {low:g} to {high:g}")
    return number


def _whole(value: object, low: int = 1) -> int:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"a whole number of at least {low}")
    return value


def _choice(value: object, names: tuple[str, ...]) -> str:
    if value not in names:
        raise ValueError("one of " + ", ".join(names))
    return str(value)


def _about(read: Read, help: str) -> dict[str, object]:
    return {"read": read, "help": help}


_share = partial(_number, low=0.0, high=1.0)
_reflection = partial(_choice, names=("auto", "tokens", "prompted"))
_mode = partial(_choice, names=("adaptive", "always", "never"))
_support = partial(_choice, names=("full", "partial"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, as `config show` lists them. None leaves it to the model (thresholds, weights) or the machine (device)."""

    paths: Paths
    collection: str = field(default="default", metadata=_about(_text, "collection that is asked when no -c is given"))
    model: str = field(
        default=DEFAULT_MODEL, metadata=_about(_text, "reflection model: registry name, Hugging Face name or folder")
    )
    engine: str = field(default="auto", metadata=_about(_text, "auto, onnx, transformers, vllm, or the URL of a server"))
    reflection: str = field(default="auto", metadata=_about(_reflection, "auto, tokens or prompted: how the model reflects"))
    device: str | None = field(default=None, metadata=_about(_text, "device of the transformers engine: cpu, cuda, cuda:1"))
    embedder: str = field(default=DEFAULT_EMBEDDER, metadata=_about(_text, "embedder of new collections"))
    chroma: str | None = field(default=None, metadata=_about(_text, "URL of a Chroma server; embedded when not set"))
    profile: str | None = field(default=None, metadata=_about(_text, "thresholds fitted by `selfrag calibrate`, by name"))
    k: int = field(default=5, metadata=_about(_whole, "passages retrieved for a segment"))
    mode: Mode = field(default="adaptive", metadata=_about(_mode, "adaptive, always or never: when to retrieve"))
    threshold: float | None = field(default=None, metadata=_about(_share, "retrieve when its probability is above this"))
    beam_width: int = field(default=2, metadata=_about(_whole, "answers kept after each segment"))
    max_segments: int = field(default=4, metadata=_about(_whole, "segments of an answer at most; 1 is the short form"))
    w_rel: float | None = field(default=None, metadata=_about(_number, "weight of ISREL, relevance"))
    w_sup: float | None = field(default=None, metadata=_about(_number, "weight of ISSUP, support"))
    w_use: float | None = field(default=None, metadata=_about(_number, "weight of ISUSE, usefulness"))
    w_ret: float | None = field(default=None, metadata=_about(_number, "weight of the passage's score in the search"))
    sequence: bool = field(default=True, metadata=_about(_flag, "count the sequence term in scores"))
    prune: bool = field(default=True, metadata=_about(_flag, "skip candidates that cannot win; same answer"))
    require_support: Support | None = field(default=None, metadata=_about(_support, "full or partial: drop segments below it"))
    abstain_isrel: float | None = field(default=None, metadata=_about(_share, "abstain when relevance is below this"))
    abstain_issup: float | None = field(default=None, metadata=_about(_share, "abstain when support is below this"))
    origins: Mapping[str, str] = field(default_factory=dict)

    def search_options(
        self,
        fitted: Mapping[str, float] | None = None,
        choices: tuple[str, ...] = (),
        weights: Mapping[str, float] | None = None,
    ) -> SearchOptions:
        """The options of a search. ``fitted`` holds thresholds ("retrieve", "isrel", "issup") and ``weights`` weights ("rel",
        "sup", "use", "ret") for those a person left open."""
        weighed = {"rel": self.w_rel, "sup": self.w_sup, "use": self.w_use, "ret": self.w_ret}
        given = {"retrieve": self.threshold, "isrel": self.abstain_isrel, "issup": self.abstain_issup}
        known = over(fitted, given)
        defaults = SearchOptions()
        return SearchOptions(
            k=self.k,
            mode=self.mode,
            threshold=known.get("retrieve", defaults.threshold),
            beam_width=self.beam_width,
            max_segments=self.max_segments,
            weights=Weights(sequence=self.sequence, **over(weights, weighed)),
            require_support=self.require_support,
            prune=self.prune,
            abstain_isrel=known.get("isrel", defaults.abstain_isrel),
            abstain_issup=known.get("issup", defaults.abstain_issup),
            choices=choices,
        )


def over(fitted: Mapping[str, float] | None, given: Mapping[str, float | None]) -> dict[str, float]:
    """What was fitted, under what a person gave."""
    return dict(fitted or {}) | {name: value for name, value in given.items() if value is not None}


KEYS: Mapping[str, str] = {f.name: f.metadata["help"] for f in fields(Settings) if "read" in f.metadata}
"""The name of every setting, and what it is for."""
_READERS: Mapping[str, Read] = {f.name: f.metadata["read"] for f in fields(Settings) if "read" in f.metadata}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that ``name`` was probably meant to be."""
    return next(iter(difflib.get_close_matches(name.replace("-", "_"), list(names), n=1, cutoff=0.5)), None)


def check_key(name: str, where: str, mend: str = "`selfrag config show` lists every key") -> None:
    """Raises ConfigError for a key that does not exist, naming the nearest one that does."""
    if name not in KEYS:
        close = nearest(name, KEYS)
        raise ConfigError(
            f"{where}: unknown key {name!r}" + (f", did you mean {close!r}?" if close else ""),
            mend,
        )


def read_value(name: str, value: object, where: str) -> object:
    """The setting ``name`` from ``value``, found at ``where``. Raises ConfigError for a value that cannot be."""
    check_key(name, where)
    try:
        return _READERS[name](value)
    except ValueError as expected:
        raise ConfigError(
            f"{where}: {name} is {value!r}, expected {expected}", "`selfrag config show` says what it is for"
        ) from None


# --- the file and the environment ----------------------------------------------------------------------------------------------


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
        check_key(name, places[name], f"selfrag config unset {name}")
    return {name: (read_value(name, value, places[name]), places[name]) for name, value in table.items()}


def _read_environment(environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    names = {f"SELFRAG_{name.upper()}": name for name in KEYS}
    given = {variable: environ[variable] for variable in names if environ.get(variable)}
    return {names[v]: (read_value(names[v], value, f"environment variable {v}"), v) for v, value in given.items()}


def load(environ: Mapping[str, str] = os.environ, **given: object) -> Settings:
    """The settings of the file, overridden by ``SELFRAG_<KEY>``, overridden by those of ``given`` that are not None.

    Raises ConfigError, with file and line, for anything unknown or impossible.
    """
    paths = find_paths(environ)
    found = _read_file(paths.file) | _read_environment(environ)
    for name, value in given.items():
        if value is not None:
            option = "--" + name.replace("_", "-")
            found[name] = (read_value(name, value, option), option)
    values: dict[str, Any] = {name: value for name, (value, _) in found.items()}
    return Settings(paths=paths, origins={name: origin for name, (_, origin) in found.items()}, **values)


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'


def save(paths: Paths, name: str, value: str | None) -> None:
    """Writes one key to the configuration file, or takes it out for None; other lines, comments too, stay as they are.

    Raises ConfigError for an unknown key, unless it is one to take out, for a value that cannot be, and for a file that is no
    text.
    """
    setting = None if value is None else read_value(name, value, "config set")
    lines = _lines(paths.file)
    at = next((i for i, line in enumerate(lines) if re.match(rf"\s*{re.escape(name)}\s*=", line)), None)
    if setting is not None:
        lines[slice(len(lines), None) if at is None else slice(at, at + 1)] = [f"{name} = {_as_toml(setting)}"]
    elif at is not None:
        del lines[at]
    else:
        check_key(name, "config unset")
        return
    paths.file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(paths.file, (f"{line}\n".encode() for line in lines))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: {error}", f"correct the file, or remove it: {file}") from None

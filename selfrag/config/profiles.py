"""Named profiles: what was fitted on labelled questions, one TOML file each under the config directory."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfrag._util import write_whole
from selfrag.algorithm.reflection import GROUPS
from selfrag.errors import ConfigError, UsageError

_LOWEST = {
    "retrieve": 0.0,
    "isrel": 0.0,
    "issup": 0.0,
    "isuse": -1.0,
    "confidence": 0.0,
    "found": 0.0,
    "reconsider": -1.0,
    "join": -1.0,
}
"""The thresholds, each with its least value; 1 is the largest of all."""

_CONFIDENCE = {"bias": -math.inf, "isrel": 0.0, "isuse": 0.0, "similarity": 0.0, "centre": -1.0}
"""The fields of `ConfidenceWeights`, each with its least value."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The result of `selfrag calibrate`.

    ``thresholds`` in [0, 1]: "retrieve" above which passages are retrieved, "isrel", "issup" and "confidence" below which the
    program abstains, "found" below which it searches again (with --correct); in [-1, 1]: "isuse" below which it abstains,
    "reconsider" below which it takes a second look, "join" above which it adds what other passages say. ``temperatures`` maps a
    reflection group ("ISREL") to a positive number, 1 where it is missing, ``biases`` to a number of log-odds, 0 where it is
    missing. ``confidence`` holds the fields of `ConfidenceWeights`, the model's where they are missing.
    """

    name: str
    model: str
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)


def path_of(name: str, folder: Path) -> Path:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"{name!r} cannot name a profile", "use letters, digits, '-' and '_'")
    return folder / f"{name}.toml"


def load(name: str, folder: Path) -> Profile:
    """The profile ``name`` of ``folder``; UsageError if it does not exist, ConfigError if its file is damaged."""
    path, mend = path_of(name, folder), f"selfrag calibrate QUESTIONS.jsonl --name {name}"
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(each.stem for each in folder.glob("*.toml"))) or "none yet"
        raise UsageError(f"no profile is named {name!r} (known: {known})", mend) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}", mend) from error
    if unknown := set(found) - {"model", "note", "thresholds", "temperatures", "biases", "confidence"}:
        raise ConfigError(f"{path}: unknown key {min(unknown)!r}", mend)
    try:
        thresholds = _numbers(found.get("thresholds", {}), _LOWEST, 1.0)
        temperatures = _numbers(found.get("temperatures", {}), dict.fromkeys(GROUPS, math.ulp(0.0)), math.inf)
        biases = _numbers(found.get("biases", {}), dict.fromkeys(GROUPS, -math.inf), math.inf)
        confidence = _numbers(found.get("confidence", {}), _CONFIDENCE, math.inf)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", mend) from None
    return Profile(name, str(found.get("model", "")), thresholds, temperatures, biases, confidence)


def _numbers(table: Mapping[str, Any], lowest: Mapping[str, float], high: float) -> dict[str, float]:
    for name, value in table.items():
        if name not in lowest:
            raise ValueError(f"{name!r} is not one of {', '.join(lowest)}")
        low = lowest[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not (low <= value <= high and math.isfinite(value)):
            raise ValueError(f"{name} is {value!r}, not a number between {low:g} and {high:g}")
    return {name: float(value) for name, value in table.items()}


def save(profile: Profile, folder: Path, note: str = "") -> Path:
    """Writes the profile, replacing an older one of its name in one step; returns its path."""
    import tomlkit

    path = path_of(profile.name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "model": profile.model,
        "note": note,
        "thresholds": dict(profile.thresholds),
        "temperatures": dict(profile.temperatures),
        "biases": dict(profile.biases),
        "confidence": dict(profile.confidence),
    }
    write_whole(path, [tomlkit.dumps(table).encode()])
    return path

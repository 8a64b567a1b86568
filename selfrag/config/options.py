"""The single table of options, for the command line, the environment and the configuration file.

A search option is a field of `SearchOptions` or `Weights`; every other setting is a field of `Settings`. This module derives the
table from those fields, the only place for names, types, ranges, defaults and help texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from selfrag.types import ConfidenceWeights, Option, SearchOptions, Weights

_WEIGHTS = {"rel": "w_rel", "sup": "w_sup", "use": "w_use", "ret": "w_ret", "sequence": "sequence"}
"""Option names of the fields of `Weights`."""
_CONFIDENCE = {each.name: f"confidence_{each.name}" for each in fields(ConfidenceWeights)}
"""The same of `ConfidenceWeights`."""


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``kind`` is str, int, float, bool, or the tuple of the words that are allowed."""

    name: str
    kind: type | tuple[str, ...]
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """Its names on the command line; none if it is a setting alone."""
        dashed = self.name.replace("_", "-")
        if self.option.flags is not None:
            return self.option.flags
        return (f"--{dashed}/--no-{dashed}",) if self.kind is bool else (f"--{dashed}",)

    @property
    def help(self) -> str:
        """The help text with the default: ``Passages retrieved for a segment.  [5]``."""
        default = self.default_text
        return self.option.help + (f"  [{default}]" if default else "")

    @property
    def default_text(self) -> str:
        """The default in words; empty without one."""
        if self.default is None:
            return "the model's" if self.option.fitted else ""
        words = ("on" if self.default else "off") if isinstance(self.default, bool) else f"{self.default}"
        words = f"{self.default:g}" if isinstance(self.default, float) else words
        return f"the model's, or {words}" if self.option.fitted else words

    @property
    def allowed(self) -> str:
        """The allowed values, in words: ``a number from 0 to 1``."""
        if isinstance(self.kind, tuple):
            return "one of " + ", ".join(self.kind)
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        least = f"{self.option.low:g}"
        noun = "a whole number" if self.kind is int else "a number"
        return f"{noun} of at least {least}" if self.option.high == math.inf else f"{noun} from {least} to {self.option.high:g}"

    def read(self, value: object) -> object:
        """The setting from a TOML value, the text of an environment variable, or a flag. ValueError says what is allowed."""
        found = self._read(value)
        if found is None:
            raise ValueError(self.allowed)
        return found

    def _read(self, value: object) -> object:
        if isinstance(self.kind, tuple):
            return value if value in self.kind else None
        if self.kind is bool:
            return value if isinstance(value, bool) else _BOOLEANS.get(str(value).lower())
        if self.kind is str:
            return value.strip() if isinstance(value, str) and value.strip() else None
        number = _whole(value) if self.kind is int else _number(value)
        return number if number is not None and self.option.low <= number <= self.option.high else None


def _whole(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    try:
        number = math.nan if isinstance(value, bool) else float(cast(Any, value))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def rows_of(kind: type, names: Mapping[str, str] | None = None) -> dict[str, Row]:
    """The rows of a dataclass, by name; ``names`` renames fields."""
    hints = get_type_hints(kind)
    found = {}
    for each in fields(kind):
        if "option" in each.metadata and each.default is not MISSING:
            name = (names or {}).get(each.name, each.name)
            found[name] = Row(name, _kind(hints[each.name]), each.default, each.metadata["option"])
    return found


def _kind(hint: Any) -> type | tuple[str, ...]:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
    return get_args(hint) if get_origin(hint) is Literal else hint


SEARCH: Mapping[str, Row] = {**rows_of(SearchOptions), **rows_of(Weights, _WEIGHTS)}
"""The options of a search, by name."""


def search_options(given: Mapping[str, Any], fitted: Mapping[str, float], choices: tuple[str, ...] = ()) -> SearchOptions:
    """The options of a search: ``given`` by the user, else ``fitted`` for the model, else the defaults. A field of
    `ConfidenceWeights` is named ``confidence_`` and its name in ``fitted``; nobody gives it."""
    known: dict[str, Any] = {**{name: value for name, value in fitted.items() if name in SEARCH}, **given}
    weights = {field: known.pop(name) for field, name in _WEIGHTS.items() if name in known}
    sure = ConfidenceWeights(**{name: fitted[key] for name, key in _CONFIDENCE.items() if key in fitted})
    return SearchOptions(**known, weights=Weights(**weights), choices=choices, confidence=sure)

"""Checks the options of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from selfrag.algorithm import reflection
from selfrag.errors import UsageError
from selfrag.types import Option, SearchOptions

ABSTAINS_NEVER: Mapping[str, Any] = {
    each.name: each.default for each in fields(SearchOptions) if each.name.startswith("abstain_")
}
"""The options of abstention with which nothing is withheld, their defaults."""


def check(options: SearchOptions) -> SearchOptions:
    """Raises UsageError for invalid options, naming the flag."""
    reflection.check_weights(options.weights)
    for each in fields(options):
        option, value = each.metadata.get("option"), getattr(options, each.name)
        if option is None or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not option.low <= value <= option.high:
            raise UsageError(f"--{each.name.replace('_', '-')} is {value}, but {_range(option)}")
    return options


def _range(option: Option) -> str:
    if option.high == math.inf:
        return f"at least {option.low:g} is needed"
    return f"{'a probability' if option.low == 0 else 'it'} lies between {option.low:g} and {option.high:g}"

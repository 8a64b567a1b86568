"""Preparing data for, training and measuring reflection models. Heavy libraries load only with `run` and `evaluate`."""

from __future__ import annotations

import importlib.util

from selfrag.errors import ModelError


def check_packages() -> None:
    """Raises ModelError if the packages for training are not installed."""
    if missing := [name for name in ("peft", "accelerate") if importlib.util.find_spec(name) is None]:
        raise ModelError(f"training needs {' and '.join(missing)}", "pip install 'selfrag[train]'")

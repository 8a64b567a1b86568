"""Adapter folders as the start of another run: finding them, their shape, their weights.

A folder has the files that `selfrag train run` or peft wrote: `adapter_config.json` and `adapter_model.safetensors`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

from selfrag.errors import InputError, UsageError
from selfrag.models.build import scratch
from selfrag.models.registry import entries
from selfrag.train.lora import AdapterConfig, adapt, load

# These settings decide how the weights are used, besides rank and blocks; an adapter that differs in one is not supported.
SAME = ("lora_alpha", "target_modules", "use_rslora", "use_dora", "bias", "rank_pattern", "alpha_pattern", "modules_to_save")


def find(name: str) -> Path:
    """The folder of the adapter ``name``: a folder, or a registry name of a model that comes with one. Raises InputError if no
    adapter is found."""
    if entry := entries().get(name):
        if entry.folder is None:
            with_one = ", ".join(n for n, e in entries().items() if e.folder)
            raise InputError(f"no adapter comes with {name}", f"name an adapter's folder, or one of: {with_one}")
        return entry.folder
    folder = Path(name).expanduser()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).exists():
            inside = folder / "adapter"
            hint = f"name {inside}" if (inside / file).exists() else "name the folder `adapter` of a run, or a registry name"
            raise InputError(f"{folder} holds no adapter: {file} is missing", hint)
    return folder


def base_of(name: str) -> str:
    """The model that the adapter ``name`` was trained on, as `--base` takes it."""
    if (entry := entries().get(name)) and entry.adapter:
        return next(n for n, e in entries().items() if e.base == entry.base and e.adapter is None)
    return str(_settings(find(name))["base_model_name_or_path"])


def shape(folder: Path) -> AdapterConfig:
    """Rank, scale and first block of the adapter in ``folder``."""
    found = _settings(folder)
    layers = found.get("layers_to_transform")
    first = 0 if layers is None else layers if isinstance(layers, int) else min(layers)
    return AdapterConfig(rank=found["r"], scale=found["lora_alpha"] / found["r"], first_block=first)


def adapt_from(model: Any, tokenizer: Any, config: AdapterConfig, folder: Path) -> Any:
    """`lora.adapt`, then the weights in ``folder``: LoRA matrices and the rows of the reflection tokens.

    ``config`` may begin at a lower block than the adapter; the blocks that it lacks start as those of a new adapter do.

    Raises UsageError when the adapter has another rank than ``config`` or begins at a lower block, was trained on another base,
    or is of another kind.
    """
    has = shape(folder)
    _check_shape(config, has, folder)
    adapted = adapt(model, tokenizer, config)
    _check_kind(adapted.peft_config["default"], LoraConfig.from_pretrained(str(folder)), folder)
    saved = load_peft_weights(str(folder), device="cpu")
    expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    new = {n for n in expected if (block := re.search(r"\.layers\.(\d+)\.", n)) and int(block[1]) < has.first_block}
    odd = [
        n for n in saved.keys() | expected.keys() - new
        if n not in saved or n not in expected or saved[n].shape != expected[n].shape
    ]  # fmt: skip
    if odd:
        raise _other_base(folder, f"{len(odd)} of {len(expected)} weights do not fit, first {min(odd)}")
    set_peft_model_state_dict(adapted, saved)
    return adapted


def merge(base: str, folder: Path, out: Path) -> None:
    """Writes ``base`` with the adapter in ``folder`` merged into it as an ordinary checkpoint ``out``, in bfloat16. Raises
    UsageError when something is at ``out``, or the adapter does not fit, ModelError when the base cannot be loaded."""
    if out.exists():
        raise UsageError(f"there is a {out} already", "name another folder with --out")
    model, tokenizer = load(base, torch.float32)
    adapted = adapt_from(model, tokenizer, shape(folder), folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out) as work:
        partial = work / "checkpoint"
        adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(out)


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "adapter_config.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if found["peft_type"] != "LORA" or found["r"] < 1 or found["lora_alpha"] <= 0:
            raise ValueError(f"peft_type {found['peft_type']}, r {found['r']}, lora_alpha {found['lora_alpha']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} does not describe a LoRA adapter: {error}", "name the folder `adapter` of a run") from error
    return found


def _check_shape(given: AdapterConfig, has: AdapterConfig, folder: Path) -> None:
    for option, mine, its, fits in (
        ("rank", given.rank, has.rank, given.rank == has.rank),
        ("first-block", given.first_block, has.first_block, given.first_block <= has.first_block),
    ):
        if not fits:
            raise UsageError(f"--{option} is {mine}, and of the adapter {folder} it is {its}", f"leave out --{option}, or --from")


def _check_kind(mine: LoraConfig, its: LoraConfig, folder: Path) -> None:
    for name in SAME:
        ours, theirs = getattr(mine, name), getattr(its, name)
        if (ours or None) != (theirs or None):
            raise UsageError(
                f"the adapter {folder} is not of the kind trained here: its {name} is {theirs!r}, expected {ours!r}",
                "name one that `selfrag train run` wrote",
            )
    if mine.trainable_token_indices != its.trainable_token_indices:
        raise _other_base(folder, "its reflection tokens have other ids or tables")


def _other_base(folder: Path, reason: str) -> UsageError:
    trained_on = _settings(folder).get("base_model_name_or_path")
    return UsageError(f"the adapter {folder} does not fit this base: {reason}", f"it was trained on: --base {trained_on}")

"""A run whose weights and optimizer state DeepSpeed shards over the processes (ZeRO): how it is wrapped, saved and loaded.

DeepSpeed keeps its own float32 masters and clips; its backward pass takes the step as well.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import nn

from selfrag import environment
from selfrag.train.lora import BETAS, at, peaks


class ShardedAdamW:
    """The loop's view of DeepSpeed's optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def at(self, factor: float) -> None:
        at(self.optimizer, factor)

    def step(self) -> None:
        """Nothing: `Accelerator.backward` has taken it."""


def start() -> Accelerator:
    """The launcher's configuration. For DeepSpeed on CPUs, accelerate needs the communication backend named explicitly."""
    on_cpus = environment.DEEPSPEED.read() == "true" and not torch.cuda.is_available()
    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")] if on_cpus else None)


def load_whole() -> None:
    """Makes transformers and peft build the whole model in every process, until `shard` partitions it.

    Under ZeRO-3 they would partition it while loading, regardless of `--zero3_init_flag`; the rows and matrices that are added
    afterwards would then be initialised from empty weights, and peft's do not work without CUDA at all.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]


def shard(accelerator: Accelerator, objective: nn.Module, lr: float, rows_lr: float, clip: float) -> tuple[Any, ShardedAdamW]:
    """``objective`` and its optimizer under the DeepSpeed configuration that the launcher chose."""
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings |= {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": clip, "zero_allow_untested_optimizer": True}
    adam = torch.optim.AdamW(peaks(objective, lr, rows_lr), lr=lr, betas=BETAS, weight_decay=0.0)
    _announce_rows(objective)
    engine, optimizer = accelerator.prepare(objective, adam)
    return engine, ShardedAdamW(optimizer)


def _announce_rows(objective: nn.Module) -> None:
    """Registers with ZeRO-3 that the layer of the new rows reads its embedding's weight without calling it."""
    import deepspeed

    for module in objective.modules():
        if isinstance(module, TrainableTokensLayer):
            deepspeed.zero.register_external_parameter(module, module.base_layer.weight)


def save(accelerator: Accelerator, folder: Path, state: dict[str, Any]) -> None:
    """Saves every process's shard, without the frozen weights, then the run's own state, which makes the checkpoint valid."""
    partial = folder.with_suffix(".partial")
    accelerator.save_state(str(partial), exclude_frozen_parameters=True)
    if accelerator.is_main_process:
        (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    accelerator.wait_for_everyone()


def load(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    accelerator.load_state(str(folder), load_module_strict=False)
    loaded: dict[str, Any] = json.loads((folder / "state.json").read_text("utf-8"))
    return loaded


def adapter_weights(accelerator: Accelerator, engine: Any) -> dict[str, Any]:
    """The peft model's weights, gathered from all processes (a collective call)."""
    gathered = accelerator.get_state_dict(engine)
    return {name.removeprefix("model."): value for name, value in (gathered or {}).items()}

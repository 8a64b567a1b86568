"""The model to train: a base with the reflection vocabulary, LoRA on its upper blocks, and rows for the new tokens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config as inductor
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfrag.errors import ModelError, UsageError
from selfrag.models.base import add_reflection_tokens
from selfrag.train.tensors import GROUPS, Batch

BETAS = (0.9, 0.98)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """LoRA of ``rank`` with scale ``scale`` on all linear layers of the blocks from ``first_block`` on.

    ``rows_from_input``: the new rows also learn from the input side. Without it, a tied row learns from the output side only,
    and the blocks below ``first_block`` need no backward pass, which saves about a seventh of the time.
    """

    rank: int = 32
    scale: float = 2.0
    first_block: int = 8
    rows_from_input: bool = True


def load(base: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """A causal language model and its tokenizer, with the fifteen reflection tokens added where they are missing.

    On a CPU attention is two plain matrix products: with its fused kernel, a step of 1,600 tokens took 1.22 times as long.

    Raises ModelError if the model is found neither locally nor on the hub, or the hub cannot be reached.
    """
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    try:
        model = AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype, attn_implementation=attention)
        tokenizer = AutoTokenizer.from_pretrained(str(base))
    except OSError as error:
        raise ModelError(
            f"cannot load the base {base}: {str(error).splitlines()[0]}", "name a folder or a model: --base M"
        ) from error
    add_reflection_tokens(model, tokenizer)
    return model, tokenizer


def adapt(model: Any, tokenizer: Any, config: AdapterConfig) -> Any:
    """A peft model over ``model``: frozen but for LoRA matrices and the new rows, in the input and output embeddings."""
    ids = add_reflection_tokens(model, tokenizer)
    tables = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=int(config.rank * config.scale),
        target_modules=LINEAR,
        layers_to_transform=list(
            range(min(config.first_block, model.config.num_hidden_layers - 1), model.config.num_hidden_layers)
        ),
        layers_pattern="layers",
        trainable_token_indices=dict.fromkeys(tables, ids),
        task_type="CAUSAL_LM",
    )
    adapted: Any = get_peft_model(model, lora, autocast_adapter_dtype=False)
    if not config.rows_from_input:
        adapted.get_input_embeddings().register_forward_hook(lambda _module, _args, output: output.detach())
    return adapted


def compile_blocks(adapted: Any) -> None:
    """Has torch compile every block when it first runs, for batches of any shape. Fused work element by element gave a CPU 1.27
    times as many tokens a second. Raises UsageError where the compiler that torch would call is missing."""
    compiler = inductor.cpp.cxx[-1]
    if shutil.which(compiler) is None:
        raise UsageError(f"--compile wants a C++ compiler, and there is no {compiler} here", "install it, or leave out --compile")
    for block in adapted.get_base_model().get_decoder().layers:
        block.compile(dynamic=True)


class Objective(nn.Module):
    """Weighted cross-entropy at labelled positions; the head is computed there alone.

    One module with one forward, so that data-parallel and ZeRO wrappers see everything.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's mean weighted loss, and the unweighted losses of its labelled positions (L,)."""
        core: Any = self.model.get_base_model()
        added = additive(batch.mask, core.dtype)
        hidden = core.get_decoder()(
            input_ids=batch.ids, attention_mask=added, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        picked = hidden.flatten(0, 1)[batch.source]
        losses = nn.functional.cross_entropy(core.get_output_embeddings()(picked).float(), batch.target, reduction="none")
        return (losses * batch.weight).sum() / batch.weight.sum(), losses.detach()


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``mask`` as an additive attention bias, 0 where it is true: every attention implementation accepts that form."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def by_group(batch: Batch, losses: torch.Tensor) -> Iterator[tuple[str, float, int]]:
    """(group, summed loss, count) of every group that ``batch`` labels."""
    for index, name in enumerate(GROUPS):
        mine = losses[batch.group == index]
        if len(mine):
            yield name, float(mine.sum()), len(mine)


class MasterAdamW:
    """AdamW on float32 copies of low-precision weights: bfloat16 alone would round small updates away.

    Takes the gradients of the weights, clips their norm to ``clip``, and writes the result back. ``at`` sets what share (0 to 1)
    of the peak learning rates the next steps have.
    """

    def __init__(self, groups: list[dict[str, Any]], clip: float) -> None:
        self.weights = [p for group in groups for p in group["params"]]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.weights]
        copies = iter(self.masters)
        mine = [{**group, "params": [next(copies) for _ in group["params"]]} for group in groups]
        self.clip = clip
        self.adam = torch.optim.AdamW(mine, betas=BETAS, weight_decay=0.0)

    def at(self, factor: float) -> None:
        at(self.adam, factor)

    def step(self) -> None:
        for master, weight in zip(self.masters, self.weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, self.clip)
        self.adam.step()
        self._write_back()

    def _write_back(self) -> None:
        with torch.no_grad():
            for master, weight in zip(self.masters, self.weights, strict=True):
                weight.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        return {"masters": [m.detach() for m in self.masters], "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for master, saved in zip(self.masters, state["masters"], strict=True):
                master.copy_(saved)
        self._write_back()
        self.adam.load_state_dict(state["adam"])


def peaks(model: nn.Module, lr: float, rows_lr: float) -> list[dict[str, Any]]:
    """Parameter groups with their peak learning rates: the adapter's matrices, the new tokens' rows."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    rows = [p for n, p in named if "trainable_tokens" in n]
    return [{"params": [p for n, p in named if "trainable_tokens" not in n], "peak": lr}, {"params": rows, "peak": rows_lr}]


def at(adam: Any, factor: float) -> None:
    """Sets the learning rates to ``factor`` of their peaks."""
    for group in adam.param_groups:
        group["lr"] = group["peak"] * factor

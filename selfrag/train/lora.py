"""The model that is trained: a base with the reflection vocabulary, LoRA on its upper blocks, the new tokens' rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfrag.models.base import add_reflection_tokens
from selfrag.train.tree import GROUPS, Batch

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """LoRA of ``rank`` with scale ``scale`` on all linear layers of the blocks from ``first_block`` on.

    ``rows_from_input``: the new rows also learn from where they are read. Without it a tied row learns from the output side
    alone, and the blocks below ``first_block`` need no backward pass, which saves about a seventh of the time.
    """

    rank: int = 32
    scale: float = 2.0
    first_block: int = 8
    rows_from_input: bool = True


def load(base: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """A causal language model and its tokenizer, with the fifteen reflection tokens added where they are missing."""
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    add_reflection_tokens(model, tokenizer)
    return model, tokenizer


def adapt(model: Any, tokenizer: Any, config: AdapterConfig) -> PeftModel:
    """Freezes ``model`` but for LoRA matrices and the new rows, which serve input and output embeddings."""
    ids = add_reflection_tokens(model, tokenizer)
    tables = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=int(config.rank * config.scale),
        target_modules=LINEAR,
        layers_to_transform=list(range(min(config.first_block, model.config.num_hidden_layers - 1), model.config.num_hidden_layers)),
        layers_pattern="layers",
        trainable_token_indices={name: ids for name in tables},
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, lora, autocast_adapter_dtype=False)
    if not config.rows_from_input:
        adapted.get_input_embeddings().register_forward_hook(lambda _module, _args, output: output.detach())
    return adapted


class Objective(nn.Module):
    """Weighted cross-entropy at labelled positions; the head is computed there alone.

    One module with one forward, so that data-parallel and ZeRO wrappers see everything.
    """

    def __init__(self, model: PeftModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's mean weighted loss, and the unweighted losses of its labelled positions (L,)."""
        core = self.model.get_base_model()
        hidden = core.get_decoder()(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        picked = hidden.flatten(0, 1)[batch.source]
        losses = nn.functional.cross_entropy(core.get_output_embeddings()(picked).float(), batch.target, reduction="none")
        return (losses * batch.weight).sum() / batch.weight.sum(), losses.detach()


def by_group(batch: Batch, losses: torch.Tensor) -> Iterator[tuple[str, float, int]]:
    """(group, summed loss, count) of every group that ``batch`` labels."""
    for index, name in enumerate(GROUPS):
        mine = losses[batch.group == index]
        if len(mine):
            yield name, float(mine.sum()), len(mine)


class MasterAdamW:
    """AdamW on float32 copies of low-precision weights: bfloat16 alone would round small updates away.

    ``step`` takes the gradients of the weights, clips their norm to ``clip``, and writes the result back.
    """

    def __init__(self, model: nn.Module, lr: float, rows_lr: float, clip: float) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self.weights = [p for _, p in named]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.weights]
        is_row = ["trainable_tokens" in n for n, _ in named]
        groups = [
            {"params": [m for m, row in zip(self.masters, is_row, strict=True) if row == rows], "peak": peak}
            for rows, peak in ((False, lr), (True, rows_lr))
        ]
        self.clip = clip
        self.adam = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, factor: float) -> None:
        """One update at ``factor`` (0 to 1) of the peak learning rates."""
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * factor
        for master, weight in zip(self.masters, self.weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, self.clip)
        self.adam.step()
        with torch.no_grad():
            for master, weight in zip(self.masters, self.weights, strict=True):
                weight.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        return {"masters": [m.detach() for m in self.masters], "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for master, weight, saved in zip(self.masters, self.weights, state["masters"], strict=True):
                master.copy_(saved)
                weight.copy_(saved)
        self.adam.load_state_dict(state["adam"])

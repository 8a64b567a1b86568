"""A base checkpoint with the reflection vocabulary: GGUF in, ordinary Llama checkpoint out.

transformers refuses to save a model that it read from GGUF, so its (de-quantised) weights are copied into a
fresh `LlamaForCausalLM`. This file knows tensors and tokenizers; it does not know where files come from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The words whose mean embedding each new row starts from: a new token should first behave like what it says.
NEAR_WORDS: dict[str, str] = {
    "[No Retrieval]": " answer directly without searching",
    "[Retrieval]": " search lookup evidence document",
    "[Continue to Use Evidence]": " continue further same evidence",
    "[Irrelevant]": " irrelevant unrelated useless",
    "[Relevant]": " relevant related useful",
    "<paragraph>": " begin paragraph quote",
    "</paragraph>": " end paragraph close",
    "[Utility:1]": " worst terrible one",
    "[Utility:2]": " poor weak two",
    "[Utility:3]": " fair medium three",
    "[Utility:4]": " good four",
    "[Utility:5]": " best excellent five",
    "[Fully supported]": " true supported correct",
    "[Partially supported]": " partly partially incomplete",
    "[No support / Contradictory]": " false contradictory wrong",
}
_GGUF_ONLY = ("_name_or_path", "quantization_config", "transformers_version", "architectures", "dtype")


def load_gguf(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Reads a Llama GGUF file into a fresh, saveable model and its fast tokenizer."""
    source = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=dtype)
    settings = {k: v for k, v in source.config.to_dict().items() if k not in _GGUF_ONLY}
    model: Any = LlamaForCausalLM(LlamaConfig(**settings))
    model.to(dtype)
    model.load_state_dict(source.state_dict())
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    _split_digits(tokenizer)
    return model, tokenizer


def _split_digits(tokenizer: Any) -> None:
    """GGUF names SmolLM2's pre-tokenizer but does not carry it: every digit by itself, then byte-level BPE."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def add_reflection_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Adds what is missing of the fifteen tokens; returns all their ids in the published order.

    New rows of the input (and, if untied, the output) embeddings start from the mean of near words' rows.
    """
    known = tokenizer.get_vocab()
    missing = [t for t in REFLECTION_TOKENS if t not in known]
    near = {t: tokenizer(NEAR_WORDS[t], add_special_tokens=False)["input_ids"] for t in missing}
    added = [AddedToken(t, special=True, normalized=False, lstrip=False, rstrip=False) for t in missing]
    tokenizer.add_tokens(added, special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = {id(m.weight): m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for weight in tables.values():
            for token, ids in near.items():
                weight[tokenizer.convert_tokens_to_ids(token)] = weight[ids].mean(dim=0)
    return reflection_ids(tokenizer)


def reflection_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the fifteen tokens in the published order.

    Raises:
        ModelError: when one of them is not a single token of this vocabulary.
    """
    known = tokenizer.get_vocab()
    missing = [t for t in REFLECTION_TOKENS if t not in known]
    if missing:
        raise ModelError(
            f"the vocabulary lacks {len(missing)} of the 15 reflection tokens: {', '.join(missing)}",
            hint="use a Self-RAG model, or train one: selfrag train prepare, selfrag train run",
        )
    return [known[t] for t in REFLECTION_TOKENS]


def merge(gguf: Path, adapter: Path | None, out: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes the base in ``gguf``, the peft adapter in ``adapter`` merged into it, as a checkpoint folder ``out``.

    Merged in float32, stored in ``dtype``. Without an adapter the reflection tokens are there and untrained.
    """
    from peft import PeftModel

    model, tokenizer = load_gguf(gguf)
    add_reflection_tokens(model, tokenizer)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload() if adapter else model
    merged.to(dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)

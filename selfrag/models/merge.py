"""Merges a base in GGUF and a peft adapter into an ordinary Llama checkpoint folder, using only numpy.

Merged in float32 as peft does it, stored in bfloat16. Knows tensors and tokenizers; does not know where files come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import deserialize
from tokenizers import AddedToken, Tokenizer

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import ModelError
from selfrag.models.gguf_file import LlamaGguf, Weight

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
_EMBEDDINGS = "model.embed_tokens.weight"
_UNKNOWN = ("use_dora", "use_bdlora", "fan_in_fan_out", "lora_bias", "modules_to_save", "alpha_pattern", "rank_pattern")
"""Options of adapter_config.json that this merge does not support."""


def merge(gguf: Path, adapter: Path | None, out: Path) -> None:
    """Writes the base in ``gguf``, the peft adapter in ``adapter`` merged into it, as a checkpoint folder ``out``.

    Without an adapter the reflection tokens are there and untrained. Raises ModelError for an adapter of another kind than LoRA
    with token rows, or of another shape than the base.
    """
    base = LlamaGguf(gguf)
    tokenizer = base.tokenizer()
    new = add_reflection_tokens(tokenizer)
    weights = Adapter(adapter) if adapter else None
    stored = {}
    for name in base.names:
        weight = base.weight(name)
        if name == _EMBEDDINGS:
            weight = np.concatenate([weight, *(weight[ids].mean(axis=0, keepdims=True) for ids in new)])
        stored[name] = to_bfloat16(weights.merged(name, weight) if weights else weight)
    if weights:
        weights.check_used(stored)
    out.mkdir(parents=True)
    config = base.config() | {"vocab_size": len(stored[_EMBEDDINGS]), "dtype": "bfloat16"}
    _write_json(out / "config.json", config)
    _write_json(out / "generation_config.json", {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")})
    _write_json(out / "tokenizer_config.json", base.tokenizer_config())
    (out / "chat_template.jinja").write_text(base.chat_template(), "utf-8")
    tokenizer.save(str(out / "tokenizer.json"))
    write_bfloat16(out / "model.safetensors", stored)


def add_reflection_tokens(tokenizer: Tokenizer) -> list[list[int]]:
    """Adds the fifteen tokens; returns for each, in the published order, the ids of its near words."""
    near = [tokenizer.encode(NEAR_WORDS[token], add_special_tokens=False).ids for token in REFLECTION_TOKENS]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in REFLECTION_TOKENS])
    return near


class Adapter:
    """A peft adapter folder: low-rank factors of linear layers, and whole rows for single tokens."""

    def __init__(self, folder: Path) -> None:
        config: Mapping[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        if config.get("peft_type") != "LORA" or (found := [name for name in _UNKNOWN if config.get(name)]):
            what = ", ".join(found) if config.get("peft_type") == "LORA" else str(config.get("peft_type"))
            raise ModelError(f"the adapter in {folder} cannot be merged here: {what}", "train it as `selfrag train run` does")
        rank = int(config["r"])
        self._scale = np.float32(config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))
        self._rows: Sequence[int] = (config.get("trainable_token_indices") or {}).get("embed_tokens", ())
        self._tensors = read_safetensors(folder / "adapter_model.safetensors")
        self._folder = folder

    def merged(self, name: str, weight: Weight) -> Weight:
        """``weight``, the base's, with what the adapter adds to it."""
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        left, right = f"{stem}.lora_B.weight", f"{stem}.lora_A.weight"
        try:
            if left in self._tensors:
                # in float64, whose rounding to bfloat16 does not depend on the order in which a processor adds
                added = self._tensors[left].astype(np.float64) @ self._tensors[right].astype(np.float64)
                weight = (weight + added * self._scale).astype(np.float32)
            if (rows := f"{stem}.token_adapter.trainable_tokens_delta") in self._tensors:
                weight = weight.copy()
                weight[list(self._rows)] = self._tensors[rows]
        except (ValueError, IndexError) as error:
            why = f"the adapter in {self._folder} does not fit the base: {name}: {error}"
            raise ModelError(why, "use its own base") from error
        return weight

    def check_used(self, names: Mapping[str, object]) -> None:
        """Raises ModelError when the adapter holds something for a weight that is not in ``names``."""
        stems = {name.removesuffix(".weight") for name in names}
        for tensor in self._tensors:
            stem = tensor.removeprefix("base_model.model.").rsplit(".", 2)[0]
            if stem not in stems:
                raise ModelError(f"the adapter in {self._folder} is for another base: it holds {tensor}", "use its own base")


def read_safetensors(path: Path) -> dict[str, Weight]:
    """Every tensor of a file as float32. Raises ModelError for number formats other than bfloat16, float16 and float32."""
    return {name: _as_float32(name, each) for name, each in deserialize(path.read_bytes())}  # type: ignore[no-untyped-call]


def _as_float32(name: str, tensor: Mapping[str, Any]) -> Weight:
    raw, shape = tensor["data"], tensor["shape"]
    if tensor["dtype"] == "BF16":
        return from_bfloat16(np.frombuffer(raw, np.uint16)).reshape(shape)
    kinds = {"F32": np.float32, "F16": np.float16}
    if tensor["dtype"] not in kinds:
        raise ModelError(f"{name} is stored as {tensor['dtype']}", "store it as bfloat16, float16 or float32")
    return np.frombuffer(raw, kinds[tensor["dtype"]]).astype(np.float32).reshape(shape)


def write_bfloat16(path: Path, tensors: Mapping[str, NDArray[np.uint16]]) -> None:
    """A safetensors file of bfloat16 bits, for which the library's numpy side has no type: a header in JSON, then the values."""
    at = 0
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, value in sorted(tensors.items()):
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, value in sorted(tensors.items()):
            file.write(np.ascontiguousarray(value).data)


def from_bfloat16(bits: NDArray[np.uint16]) -> Weight:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values: Weight) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, of two equally near the even one."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")

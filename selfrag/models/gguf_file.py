"""A Llama model in a GGUF file: its weights as float32 under the names of a Hugging Face checkpoint, its tokenizer, its settings.

Uses only numpy; the file is memory-mapped, and a weight is read when it is needed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor, TokenType
from gguf.quants import dequantize
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from selfrag.errors import ModelError

Weight = NDArray[np.float32]

_GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class LlamaGguf:
    """Raises ModelError when the file cannot be read, or holds another kind of model or tokenizer."""

    def __init__(self, path: Path) -> None:
        try:
            self._reader = GGUFReader(path)
        except (OSError, ValueError, IndexError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}", "selfrag models pull NAME") from error
        kind = (self._field("general.architecture"), self._field("tokenizer.ggml.model"), self._field("tokenizer.ggml.pre"))
        if kind != ("llama", "gpt2", "smollm"):
            raise ModelError(f"{path.name} holds a model of the kind {kind}, not SmolLM2", "selfrag models list")
        self._tensors: dict[str, ReaderTensor] = {_checkpoint_name(tensor.name): tensor for tensor in self._reader.tensors}
        self.names = tuple(self._tensors)

    def weight(self, name: str) -> Weight:
        """One weight, its shape as in a checkpoint (out, in)."""
        tensor = self._tensors[name]
        found: Weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        found = found.reshape(tensor.shape[::-1].tolist())
        heads = {"q_proj": "attention.head_count", "k_proj": "attention.head_count_kv"}
        for projection, key in heads.items():
            if f".{projection}." in name:
                found = _interleaved(found, int(self._llama(key)))
        return found

    def config(self) -> dict[str, Any]:
        """The content of config.json for a Llama model."""
        heads, hidden = int(self._llama("attention.head_count")), int(self._llama("embedding_length"))
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "bos_token_id": int(self._field("tokenizer.ggml.bos_token_id")),
            "eos_token_id": int(self._field("tokenizer.ggml.eos_token_id")),
            "pad_token_id": int(self._field("tokenizer.ggml.padding_token_id")),
            "head_dim": hidden // heads,
            "hidden_act": "silu",
            "hidden_size": hidden,
            "intermediate_size": int(self._llama("feed_forward_length")),
            "max_position_embeddings": int(self._llama("context_length")),
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": heads,
            "num_hidden_layers": int(self._llama("block_count")),
            "num_key_value_heads": int(self._llama("attention.head_count_kv")),
            "rms_norm_eps": float(self._llama("attention.layer_norm_rms_epsilon")),
            "rope_parameters": {"rope_theta": float(self._llama("rope.freq_base")), "rope_type": "default"},
            "tie_word_embeddings": "lm_head.weight" not in self._tensors,
            "vocab_size": int(self._llama("vocab_size")),
        }

    def tokenizer(self) -> Tokenizer:
        """GGUF names SmolLM2's pre-tokenizer but does not carry it: every digit by itself, then byte-level BPE."""
        pieces: list[str] = self._field("tokenizer.ggml.tokens")
        vocab = {piece: i for i, piece in enumerate(pieces)}
        merges = [tuple(merge.split(" ", 1)) for merge in self._field("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
        tokenizer.decoder = decoders.ByteLevel()
        kinds = self._field("tokenizer.ggml.token_type")
        control = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind == TokenType.CONTROL]
        tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
        return tokenizer

    def tokenizer_config(self) -> dict[str, Any]:
        """The special tokens by name."""
        pieces: list[str] = self._field("tokenizer.ggml.tokens")
        keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
        named = {name: pieces[int(self._field(f"tokenizer.ggml.{key}_token_id"))] for name, key in keys.items()}
        return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}

    def chat_template(self) -> str:
        return str(self._field("tokenizer.chat_template"))

    def _llama(self, key: str) -> Any:
        return self._field(f"llama.{key}")

    def _field(self, key: str) -> Any:
        field = self._reader.get_field(key)
        if field is None:
            raise ModelError(f"the GGUF file does not say {key}", "selfrag models pull NAME")
        return field.contents()


def _checkpoint_name(name: str) -> str:
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{_LAYER[part]}.{kind}"
    return f"{_GLOBAL[stem]}.{kind}"


def _interleaved(weight: Weight, heads: int) -> Weight:
    """GGUF keeps the two halves that a rotary embedding turns together side by side; a checkpoint keeps them apart."""
    rows = math.prod(weight.shape[:1])
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)

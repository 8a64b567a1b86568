"""A real llama.cpp server for tests: a Llama checkpoint as GGUF, served by a process of its own (the wheel xllamacpp).

python -m tests.engines.llamacpp FILE.gguf ALIAS [WINDOW]    prints the server's URL and serves until it is ended
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

BYTE_LEVEL = "gpt2"
PRE_TOKENIZER = "smollm"
"""The name under which llama.cpp knows SmolLM2's splitting of text; the tiny model's differs from it in digits alone."""


def to_gguf(checkpoint: Path, out: Path) -> Path:
    """Writes the Llama ``checkpoint`` as ``out`` in 32-bit floats, tied embeddings once; its special tokens become CONTROL."""
    import gguf

    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(_rope_base(config))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_vocabulary(writer, checkpoint, config)
    for name, tensor in _tensors(checkpoint, heads, kv_heads, config["num_hidden_layers"]):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _rope_base(config: dict[str, Any]) -> float:
    return float((config.get("rope_parameters") or config).get("rope_theta", 10000.0))


def _add_vocabulary(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    from gguf import TokenType
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    names = {i: name for name, i in tokenizer.get_vocab().items()}
    tokens = [names.get(i, f"[PAD{i}]") for i in range(config["vocab_size"])]
    kinds = [_kind(TokenType, added.get(i), i in names) for i in range(config["vocab_size"])]
    merges = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    writer.add_tokenizer_model(BYTE_LEVEL)
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _kind(kinds: Any, added: Any, known: bool) -> int:
    if not known:
        return int(kinds.UNUSED)
    if added is None:
        return int(kinds.NORMAL)
    return int(kinds.CONTROL if added.special else kinds.USER_DEFINED)


def _tensors(checkpoint: Path, heads: int, kv_heads: int, blocks: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    import gguf
    from safetensors.torch import load_file

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, blocks)
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        values = tensor.float().numpy()
        if name.endswith("q_proj.weight"):
            values = _interleaved(values, heads)
        if name.endswith("k_proj.weight"):
            values = _interleaved(values, kv_heads)
        yield str(names.get_name(name, try_suffixes=(".weight",))), values


def _interleaved(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """GGUF turns neighbouring rows of a head together where Hugging Face turns its two halves."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


@contextmanager
def served(model: Path, alias: str, window: int = 2048) -> Iterator[str]:
    """The URL of a llama.cpp server of ``model``, which ends with this."""
    command = [sys.executable, "-m", "tests.engines.llamacpp", str(model), alias, str(window)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = next((line.split()[1] for line in process.stdout if line.startswith("URL ")), None)
        assert url, f"llama.cpp did not start: {process.communicate()[1][-2000:]}"
        yield url
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    import xllamacpp

    model, alias, window = sys.argv[1:4]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {alias}
    params.n_ctx = int(window)
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # 16 bits, as the cache's default
    params.warmup = False
    params.port = 0
    server = xllamacpp.Server(params)
    print("URL", server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()

"""The checkpoint that numpy builds, against transformers and peft, which it replaces."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import ModelError
from selfrag.models.base import reflection_ids
from selfrag.models.gguf_file import LlamaGguf
from selfrag.models.merge import merge, read_safetensors, to_bfloat16

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS = 2, 64, 96, 4, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PIECES = (*SPECIAL, *sorted(ByteLevel.alphabet()), "Ġt", "he", "Ġthe")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SmolLM2 in GGUF: matrices in 4 bits, embeddings in 8, norms as they are."""
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(PIECES))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(list(PIECES))
    writer.add_token_types([gguf.TokenType.CONTROL if piece in SPECIAL else gguf.TokenType.NORMAL for piece in PIECES])
    writer.add_token_merges(["Ġ t", "h e", "Ġt he"])
    for kind, at in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{kind}_token_id")(at)
    writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
    random = np.random.default_rng(0)

    def add(name: str, *shape: int, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> None:
        values = random.normal(size=shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", len(PIECES), HIDDEN, kind=gguf.GGMLQuantizationType.Q8_0)
    add("output_norm.weight", HIDDEN)
    small = HIDDEN * KV_HEADS // HEADS
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (small, HIDDEN), "attn_v": (small, HIDDEN), "attn_output": (HIDDEN, HIDDEN)}
    shapes |= {"ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER)}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            add(f"blk.{layer}.{name}.weight", *shape, kind=gguf.GGMLQuantizationType.Q4_1)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{name}.weight", HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint without an adapter."""
    folder = tmp_path_factory.mktemp("plain") / "checkpoint"
    merge(base, None, folder)
    return folder


@pytest.fixture(scope="module")
def adapter(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRA on the upper block and new token rows, all random, with peft's own merge beside it."""
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32)
    ids = reflection_ids(AutoTokenizer.from_pretrained(plain))
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "down_proj"],
        layers_to_transform=[1],
        layers_pattern="layers",
        trainable_token_indices={"embed_tokens": ids},
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, lora)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn_like(parameter) * (0.1 if "lora" in name else 1)
    adapted.save_pretrained(folder)
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    return folder


def test_a_base_is_read_as_transformers_reads_it(base: Path) -> None:
    """Every weight of the GGUF file, the queries' and keys' order included, is the one that transformers finds there."""
    expected = AutoModelForCausalLM.from_pretrained(base.parent, gguf_file=base.name, dtype=torch.float32).state_dict()
    read = LlamaGguf(base)
    assert set(read.names) == set(expected) - {"lm_head.weight"}
    for name in read.names:
        np.testing.assert_array_equal(read.weight(name), expected[name].numpy())


def test_the_checkpoint_loads(plain: Path) -> None:
    """transformers opens model and tokenizer; the reflection tokens are single ids, at the end, and have embeddings."""
    tokenizer = AutoTokenizer.from_pretrained(plain)
    assert reflection_ids(tokenizer) == list(range(len(PIECES), len(PIECES) + len(REFLECTION_TOKENS)))
    assert tokenizer("in 1973 the", add_special_tokens=False).tokens()[-5:] == ["1", "9", "7", "3", "Ġthe"]
    model = AutoModelForCausalLM.from_pretrained(plain)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    assert (tokenizer.bos_token_id, model.generation_config.eos_token_id) == (1, 2)


def test_an_adapter_is_merged_as_peft_merges_it(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Built with an adapter, the checkpoint has the bits that peft's merge has when it is stored as bfloat16.

    The plain checkpoint that the adapter was put on is rounded already, so the base is, too, where no adapter reaches.
    """
    merge(base, adapter, tmp_path / "checkpoint")
    ours = read_safetensors(tmp_path / "checkpoint" / "model.safetensors")
    theirs = read_safetensors(adapter / "merged" / "model.safetensors")
    assert set(ours) == set(theirs)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=2**-7, atol=2**-7)
    embeddings = ours["model.embed_tokens.weight"]
    rows = read_safetensors(adapter / "adapter_model.safetensors")
    (trained,) = (value for name, value in rows.items() if "trainable_tokens" in name)
    np.testing.assert_array_equal(embeddings[-len(REFLECTION_TOKENS) :].view(np.uint32) >> 16, to_bfloat16(trained))


def test_rounding_is_to_the_nearest_even() -> None:
    """bfloat16 bits are those that torch gives."""
    values = np.random.default_rng(2).normal(size=100_000).astype(np.float32)
    values[:3] = [1 + 2**-8, 1 + 3 * 2**-8, 0.0]  # halfway: down to even, up to even
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_bfloat16(values), theirs)


@pytest.mark.parametrize(("key", "value"), [("peft_type", "IA3"), ("use_dora", True), ("modules_to_save", ["lm_head"])])
def test_other_adapters_are_refused(base: Path, adapter: Path, tmp_path: Path, key: str, value: object) -> None:
    """What peft would compute in another way is an error that names it, not a wrong checkpoint."""
    config = json.loads((adapter / "adapter_config.json").read_text()) | {key: value}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=key if key != "peft_type" else "IA3"):
        merge(base, tmp_path, tmp_path / "out")


def test_something_else_than_gguf_is_refused(tmp_path: Path) -> None:
    """A file that is no GGUF is a ModelError."""
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(ModelError, match="cannot be read"):
        LlamaGguf(tmp_path / "x.gguf")

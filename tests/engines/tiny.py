"""A tiny reflection model, made from nothing in seconds: a byte-level BPE and a small Llama that knows four answers by heart.

Since it has learned them, what it writes is known, control tokens, Korean, emoji and end of sequence included, and its greedy
choices have margins that no rounding crosses.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.models.weights import add_graph
from selfrag.types import Control, Generated, Prompt, Text

GRAPH = Path(__file__).parent / "tiny_graph"
"""Made by tools/export_llama.py from the config.json that ``build`` writes."""
BEGIN, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTEXT = 512
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

KOREA = "### Instruction:\nWhat is the capital of Korea?\n\n### Response:\n"
HELLO = "### Instruction:\nSay hello.\n\n### Response:\n"
SEOUL = "Seoul\nSeoul is the capital and largest city of South Korea."
LYON = "Lyon\nLyon is a city in France, known for its food."
KOREAN = "대한민국의 수도는 서울입니다 😀."
GREETING = "Hello there, 안녕 👋!"
ANSWERS = (
    f"{KOREA}[Retrieval]<paragraph>{SEOUL}</paragraph>[Relevant]{KOREAN}[Fully supported][Utility:5]{END}",
    f"{KOREA}[Retrieval]<paragraph>{LYON}</paragraph>[Irrelevant]I cannot tell.[Utility:1]{END}",
    f"{HELLO}[No Retrieval]{GREETING}[Utility:4]{END}",
    f"{BEGIN}user\nIs the sky blue?{END}\n{BEGIN}assistant\nYes, it is.{END}",
)


def build(folder: Path) -> Path:
    """Writes the checkpoint into ``folder``, with its graph for onnxruntime."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    _learn(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    add_graph(GRAPH, folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([SEOUL, LYON, KOREA, HELLO], trainer)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in REFLECTION_TOKENS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BEGIN, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = CHAT
    return tokenizer


def _learn(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [tokenizer(answer, add_special_tokens=False).input_ids for answer in ANSWERS]
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


class Oracle:
    """What the checkpoint says, by one plain forward pass over the whole sequence and the tokenizer's own encoding."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, prompt: Prompt) -> list[int]:
        ids: list[int] = []
        for part in prompt:
            if isinstance(part, Text):
                ids += self.tokenizer(part.text, add_special_tokens=False, split_special_tokens=True).input_ids
            elif isinstance(part, Control):
                ids.append(self.tokenizer.convert_tokens_to_ids(part.token))
            elif isinstance(part, Generated):
                ids += [token.id for token in part.tokens]
        return ids

    def id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Row i: the log-probabilities of the token after ``ids[: i + 1]``."""
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)

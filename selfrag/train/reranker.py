"""Trains a re-ranker: a cross-encoder that starts from the embedder's own layers.

It reads a question and a passage together. Its score combines three features of the last layer: the similarity of the means of
both sides, the mean similarity of each word of the question to its most similar word of the passage (late interaction, Khattab
and Zaharia 2020), and the first position. The first two work before any training, so that few examples suffice. Word and position
embeddings are frozen and not written: the re-ranker takes them from the embedder's package.

The loss is the cross entropy of the answering passage among `DRAWN` others. Everything is float32: in bfloat16 many CPUs take
an hour for what float32 does in a minute.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from selfrag._util import write_whole
from selfrag.index.embedders.minilm import LAYERS, layer_weights
from selfrag.train.reranker_pairs import Example, Text

DRAWN = 4
"""Negatives of a question in one step."""

FROZEN = 2
"""Layers, from the first, that stay those of the embedder."""


_REPORT, _SAVE = 30.0, 300.0
"""Seconds between two reports, and between two times that the re-ranker is written."""


@dataclass(frozen=True, slots=True)
class Progress:
    """``loss`` and ``first``, the share of questions whose passage is first, are means over the last fifty steps."""

    step: int
    minutes: float
    loss: float
    first: float


@dataclass(frozen=True, slots=True)
class Plan:
    """``minutes`` bounds the wall time; the learning rate falls to zero at its end."""

    minutes: float = 60
    questions: int = 8
    tokens: int = 112
    rate: float = 1.5e-4
    head_rate: float = 1e-2
    warmup: float = 0.05
    seed: int = 0


class CrossEncoder(nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.body = embedder_body(folder)
        self.first = nn.Linear(self.body.config.hidden_size, 1)
        nn.init.zeros_(self.first.weight)
        nn.init.zeros_(self.first.bias)
        self.means = nn.Parameter(torch.tensor(10.0))
        self.words = nn.Parameter(torch.tensor(10.0))

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """Scores of shape (rows,) for ids of shape (rows, tokens); ``types`` is 1 on the passage, ``mask`` 0 on padding."""
        hidden = self.body(ids, attention_mask=mask).last_hidden_state  # all words are of one type, as the embedder has them
        unit = functional.normalize(hidden, dim=-1)
        question, passage = (1 - types) * mask, types * mask
        question[:, 0] = 0  # the first position is [CLS]
        likeness = (unit @ unit.transpose(1, 2)).masked_fill(passage[:, None, :] == 0, -1.0).amax(dim=2)
        words = (likeness * question).sum(1) / question.sum(1)
        means = functional.cosine_similarity(masked_mean(hidden, question), masked_mean(hidden, passage))
        first = functional.linear(hidden[:, 0], self.first.weight, self.first.bias)[:, 0]
        return self.means * means + self.words * words + first


def embedder_body(folder: Path) -> BertModel:
    """The layers of the embedder in ``folder`` in float32, without dropout. Raises ValueError if some are missing."""
    config = BertConfig.from_pretrained(folder, attn_implementation="eager")
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    body = BertModel(config, add_pooling_layer=False)
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if not name.startswith("pooler")}
    missing, _ = body.load_state_dict(weights, strict=False)
    if any("position_ids" not in name for name in missing):
        raise ValueError(f"{folder} lacks {missing}")
    return body


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of ``hidden`` (rows, tokens, size) over the tokens where ``mask`` (rows, tokens) is 1."""
    return (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class Pairs:
    """Turns questions with passages into padded batches."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(tokens, strategy="longest_first")

    def batch(self, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor, Tensor]:
        encoded = self._tokenizer.encode_batch_fast([(question[:400], passage) for question, passage in pairs])
        width = max(len(each.ids) for each in encoded)
        ids, types, mask = (torch.zeros(len(encoded), width, dtype=torch.long) for _ in range(3))
        for at, each in enumerate(encoded):
            ids[at, : len(each.ids)] = torch.tensor(each.ids)
            types[at, : len(each.ids)] = torch.tensor(each.type_ids)
            mask[at, : len(each.ids)] = 1
        return ids, types, mask


def shown(text: Text) -> str:
    """A passage as the re-ranker reads it."""
    title, passage = text
    return f"{title}\n{passage}" if title else passage


def train(
    folder: Path,
    examples: Sequence[Example],
    out: Path,
    plan: Plan,
    report: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> None:
    """Trains from the embedder in ``folder``; writes the re-ranker to ``out`` every few minutes, after ``stop`` and at the end.

    Raises ValueError if the loss is no longer finite.
    """
    torch.manual_seed(plan.seed)
    rng = Random(plan.seed)
    model = CrossEncoder(folder)
    below = ("body.embeddings.", *(f"body.encoder.layer.{number}." for number in range(FROZEN)))
    trained = {name: value for name, value in model.named_parameters() if not name.startswith(below)}
    for name, value in model.named_parameters():
        value.requires_grad_(name in trained)
    bare = ("bias", "LayerNorm.weight")
    heads = ("first", "means", "words")
    optimizer = torch.optim.AdamW(
        [
            {"params": [v for n, v in trained.items() if n.startswith(heads)], "lr": plan.head_rate, "weight_decay": 0.0},
            {"params": [v for n, v in trained.items() if not n.startswith(heads) and n.endswith(bare)], "weight_decay": 0.0},
            {"params": [v for n, v in trained.items() if not n.startswith(heads) and not n.endswith(bare)], "weight_decay": 0.01},
        ],
        lr=plan.rate,
        fused=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    pairs, stream = Pairs(folder, plan.tokens), _stream(examples, rng)
    stop = stop or threading.Event()
    begun = saved = reported = time.monotonic()
    step, loss_mean, hits = 0, 0.0, 0.0
    while not stop.is_set() and (done := (time.monotonic() - begun) / (60 * plan.minutes)) < 1:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, done / plan.warmup) * (1 - done)
        scores = model(*pairs.batch(_draw(stream, plan.questions, rng))).view(plan.questions, 1 + DRAWN)
        loss = functional.cross_entropy(scores, torch.zeros(plan.questions, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        step += 1
        if not math.isfinite(loss.item()):
            raise ValueError(f"The loss is {loss.item()} at step {step}; lower the rate.")
        loss_mean = 0.98 * loss_mean + 0.02 * loss.item()
        hits = 0.98 * hits + 0.02 * float((scores.argmax(1) == 0).float().mean())
        now, share = time.monotonic(), 1 - 0.98**step
        if now - reported > _REPORT:
            reported = now
            report(Progress(step, (now - begun) / 60, loss_mean / share, hits / share))
        if now - saved > _SAVE:
            saved = now
            package(trained, out)
    package(trained, out)
    if step:
        report(Progress(step, (time.monotonic() - begun) / 60, loss_mean / share, hits / share))


def _stream(examples: Sequence[Example], rng: Random) -> Iterator[Example]:
    order = list(examples)
    while True:
        rng.shuffle(order)
        yield from order


def _draw(stream: Iterator[Example], count: int, rng: Random) -> list[tuple[str, str]]:
    """For each question its positive, then `DRAWN` negatives, the harder ones more often; titles are sometimes left out."""
    pairs = []
    for _ in range(count):
        example = next(stream)
        hard = rng.sample(example.negatives[:8], min(DRAWN, len(example.negatives[:8])))
        while len(hard) < DRAWN:
            hard.append(rng.choice(next(stream).negatives))
        titled = rng.random() < 0.7
        for text in (example.positive, *hard):
            pairs.append((example.question, shown(text) if titled else text[1]))
    return pairs


def package(trained: Mapping[str, Tensor], out: Path) -> None:
    """Writes trained parameters as the re-ranker reads them: matrices rounded to 8 bits, under the names of its graph."""
    own = {name.removeprefix("body."): value.detach().numpy() for name, value in trained.items()}
    weights = {
        "head.first": own["first.weight"][0],
        "head.bias": own["first.bias"],
        "head.means": own["means"].reshape(1),
        "head.words": own["words"].reshape(1),
    }
    for number in range(FROZEN, LAYERS):
        weights |= layer_weights(number, own)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, [save({name: np.ascontiguousarray(value) for name, value in weights.items()})])

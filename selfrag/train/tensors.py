"""A packed example as tensors: every branch's tokens once, each branch attending only to its ancestors and itself.

The branches form one sequence; the 4-D attention mask and the positions make each path from the root look exactly as if it were
alone. Parts are encoded by the tokenizer that encodes prompts at inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfrag.algorithm.reflection import ISREL, ISSUP, ISUSE, MARKUP, RETRIEVE
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.train.rows import Branch, Example, WeightedPart

GROUPS = ("text", "end", "Retrieve", "ISREL", "ISSUP", "ISUSE", "markup")
_GROUP = {t: g for g, names in zip(GROUPS[2:], (RETRIEVE, ISREL, ISSUP, ISUSE, MARKUP), strict=True) for t in names}


@dataclass(frozen=True, slots=True)
class Encoded:
    """``ids``, ``positions``, ``branch``: (T,). ``sees[n]``: branches that branch n may attend to.

    ``source[i]`` is the index of the token whose hidden state predicts ``target[i]``, of group ``group[i]`` (an index into
    GROUPS), with weight ``weight[i]``.
    """

    ids: NDArray[Any]
    positions: NDArray[Any]
    branch: NDArray[Any]
    sees: NDArray[Any]
    source: NDArray[Any]
    target: NDArray[Any]
    group: NDArray[Any]
    weight: NDArray[Any]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """``ids``, ``positions``: (B, T); ``mask``: (B, 1, T, T) true where seen; ``source``: indices into the flattened B·T."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    group: torch.Tensor
    weight: torch.Tensor


def part_ids(part: WeightedPart, tokenizer: PromptTokenizer) -> list[int]:
    """The ids of a part as inference encodes it; the end is the tokenizer's own end of sequence."""
    return [tokenizer.end] if part.part is None else tokenizer.part_ids(part.part)


def encode(example: Example, tokenizer: PromptTokenizer, weights: Mapping[str, float], max_tokens: int) -> Encoded | None:
    """Tensors of ``example``, None when its branches together are longer than ``max_tokens``. ``weights`` multiply losses by
    group. The root begins with what the tokenizer puts before every text, as a prompt does."""
    ids: list[int] = []
    depth: list[int] = []
    branch: list[int] = []
    last: list[int] = []  # the index of each branch's last token
    sees = np.eye(len(example.branches), dtype=bool)
    found: list[tuple[int, int, int, float]] = []
    for index, b in enumerate(example.branches):
        before = last[b.parent] if b.parent >= 0 else -1
        if b.parent >= 0:
            sees[index] |= sees[b.parent]
        begin = [] if b.parent >= 0 else [(i, GROUPS.index("text"), 0.0) for i in tokenizer.begin]
        for token, group, loss in (*begin, *_labelled(b, tokenizer)):
            if loss and before >= 0 and weights[GROUPS[group]]:
                found.append((before, token, group, loss * weights[GROUPS[group]]))
            depth.append(depth[before] + 1 if before >= 0 else 0)
            before = len(ids)
            ids.append(token)
            branch.append(index)
        last.append(before)
    if len(ids) > max_tokens or not found:
        return None
    source, target, groups, weight = zip(*found, strict=True)
    ids_, depth_, branch_ = (np.asarray(v, dtype=np.int64) for v in (ids, depth, branch))
    labels = [np.asarray(v) for v in (source, target, groups)]
    return Encoded(ids_, depth_, branch_, sees, labels[0], labels[1], labels[2], np.asarray(weight, dtype=np.float32))


def _labelled(branch: Branch, tokenizer: PromptTokenizer) -> Iterator[tuple[int, int, float]]:
    """Token, group and loss weight of every token of a branch."""
    for part in branch.parts:
        group = GROUPS.index(_GROUP.get(part.value, "end") if part.kind != "text" else "text")
        yield from ((token, group, part.loss) for token in part_ids(part, tokenizer))


def attention(row: Encoded, width: int) -> NDArray[Any]:
    """(width, width), true where the token of the row may attend; padding sees itself alone."""
    mask = np.eye(width, dtype=bool)
    size = len(row)
    mask[:size, :size] = row.sees[row.branch[:, None], row.branch[None, :]] & np.tri(size, dtype=bool)
    return mask


def collate(rows: Sequence[Encoded], pad: int) -> Batch:
    width = max(len(r) for r in rows)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    for i, r in enumerate(rows):
        ids[i, : len(r)], positions[i, : len(r)] = r.ids, r.positions
    mask = np.stack([attention(r, width) for r in rows])[:, None]
    source = np.concatenate([r.source + i * width for i, r in enumerate(rows)])
    rest = [np.concatenate([getattr(r, name) for r in rows]) for name in ("target", "group", "weight")]
    return Batch(*(torch.from_numpy(v) for v in (ids, positions, mask, source, *rest)))


def batches(rows: Sequence[Encoded], tokens: int, seed: int) -> list[list[int]]:
    """Indices of ``rows`` in length-sorted batches of at most ``tokens`` padded tokens, the batches shuffled by ``seed``."""
    order = np.random.default_rng(seed).permutation(len(rows))
    made: list[list[int]] = []
    for start in range(0, len(order), 512):
        current: list[int] = []
        for index in sorted(order[start : start + 512], key=lambda i: len(rows[i])):
            if current and (len(current) + 1) * len(rows[index]) > tokens:
                made.append(current)
                current = []
            current.append(int(index))
        made.append(current)
    return [made[i] for i in np.random.default_rng(seed + 1).permutation(len(made))]

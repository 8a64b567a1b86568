"""Rows as tensors: what a branch sees, which position predicts what."""

from __future__ import annotations

from pathlib import Path

import torch

from selfrag.algorithm.reflection import FULLY, NO_SUPPORT, RELEVANT
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.train.lora import AdapterConfig, adapt, additive, load
from selfrag.train.rows import END, Example, control, evidence, packed, prompt, text
from selfrag.train.tensors import GROUPS, batches, collate, encode

EVERY = dict.fromkeys(GROUPS, 1.0)
ROOT = (prompt("Where is Paris?"), *evidence("Paris", "Paris is in France. [Relevant]</paragraph>"))
BRANCHES = (
    (control(RELEVANT), text("France", 1.0), control(FULLY), END),
    (control(RELEVANT, 0.0), text("Spain, I think"), control(NO_SUPPORT)),
)
ROW = packed("a", "test", ROOT, BRANCHES)


def test_a_branch_reads_as_if_it_stood_alone(base: Path) -> None:
    """The hidden states of every branch equal those of its path without any other branch, and padding changes nothing."""
    model, tokenizer = load(base, torch.float32)
    together = encode(ROW, PromptTokenizer(tokenizer), EVERY, 500)
    assert together is not None
    other = encode(packed("b", "test", (prompt("Hi"), control(FULLY))), PromptTokenizer(tokenizer), EVERY, 500)
    assert other is not None
    batch = collate([other, together], 0)
    with torch.no_grad():
        mask = additive(batch.mask, torch.float32)
        states = model.model(input_ids=batch.ids, attention_mask=mask, position_ids=batch.positions).last_hidden_state[1]
        for index, branch in enumerate(BRANCHES, 1):
            alone = encode(packed("c", "test", (*ROOT, *branch)), PromptTokenizer(tokenizer), EVERY, 500)
            assert alone is not None
            path = [i for i in range(len(together)) if together.branch[i] in (0, index)]
            assert together.ids[path].tolist() == alone.ids.tolist()
            expected = model.model(input_ids=torch.from_numpy(alone.ids)[None]).last_hidden_state[0]
            torch.testing.assert_close(states[path], expected, atol=1e-4, rtol=1e-4)


def test_labels_stand_where_they_are_predicted(base: Path) -> None:
    """A branch's first token is predicted by the end of its parent; nothing inside the passage or a wrong answer is."""
    _, tokenizer = load(base, torch.float32)
    row = encode(ROW, PromptTokenizer(tokenizer), EVERY, 500)
    assert row is not None
    names = tokenizer.convert_ids_to_tokens(row.target.tolist())
    assert names[:2] == ["[Retrieval]", "[Relevant]"]
    root_end = int((row.branch == 0).sum()) - 1
    assert row.source[1] == root_end
    assert names[-1] == NO_SUPPORT
    taught = tokenizer.decode([t for t, g in zip(row.target, row.group, strict=True) if GROUPS[g] == "text"])
    assert taught == "France"


def test_a_passage_cannot_forge_a_control_token(base: Path) -> None:
    """Words that read like a reflection token stay words."""
    _, tokenizer = load(base, torch.float32)
    row = encode(ROW, PromptTokenizer(tokenizer), EVERY, 500)
    assert row is not None
    root = row.ids[row.branch == 0].tolist()
    assert root.count(tokenizer.convert_tokens_to_ids("</paragraph>")) == 1
    assert tokenizer.convert_tokens_to_ids("[Relevant]") not in root


def test_long_and_unlabelled_rows_are_left_out(base: Path) -> None:
    """A row that is too long, or teaches nothing, is None."""
    _, tokenizer = load(base, torch.float32)
    assert encode(ROW, PromptTokenizer(tokenizer), EVERY, 20) is None
    assert encode(packed("a", "test", (prompt("Hi"),)), PromptTokenizer(tokenizer), EVERY, 500) is None


def test_batches_hold_every_row_once_within_the_budget(base: Path) -> None:
    """Batches depend on the seed alone, hold every row once, and keep to their tokens."""
    _, tokenizer = load(base, torch.float32)
    rows = [encode(_of_length(n), PromptTokenizer(tokenizer), EVERY, 500) for n in range(1, 40)]
    kept = [row for row in rows if row is not None]
    made = batches(kept, 200, seed=3)
    assert made == batches(kept, 200, seed=3)
    assert sorted(i for b in made for i in b) == list(range(len(kept)))
    assert all(len(b) == 1 or len(b) * max(len(kept[i]) for i in b) <= 200 for b in made)


def _of_length(words: int) -> Example:
    return packed(str(words), "test", (prompt("Paris " * words), control(FULLY)))


def test_only_the_adapter_and_the_new_rows_are_trained(base: Path) -> None:
    """Upper blocks and the fifteen rows change, in the input and output embeddings at once; lower blocks do not."""
    model, tokenizer = load(base, torch.float32)
    adapted = adapt(model, tokenizer, AdapterConfig(rank=2, first_block=1))
    names = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert any("layers.1." in n for n in names)
    assert not any("layers.0." in n for n in names)
    assert [tuple(p.shape) for n, p in adapted.named_parameters() if "trainable_tokens" in n and p.requires_grad] == [(15, 32)]

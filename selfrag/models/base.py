"""The reflection vocabulary in a model of transformers that is to be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tokenizers import AddedToken

from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import ModelError
from selfrag.models.merge import NEAR_WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    """Ids of the fifteen tokens in the published order. Raises ModelError when one of them is not a single token of this
    vocabulary."""
    known = tokenizer.get_vocab()
    missing = [t for t in REFLECTION_TOKENS if t not in known]
    if missing:
        raise ModelError(
            f"the vocabulary lacks {len(missing)} of the 15 reflection tokens: {', '.join(missing)}",
            hint="use a Self-RAG model, or train one: selfrag train prepare, selfrag train run",
        )
    return [known[t] for t in REFLECTION_TOKENS]

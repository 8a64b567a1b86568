"""Any sentence-transformers cross-encoder as a re-ranker, by its name or folder. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from selfrag.errors import ModelError


class TransformerReranker:
    """A loaded model with one output, which truncates texts beyond its sequence length."""

    def __init__(self, model: CrossEncoder, name: str) -> None:
        self._model = model
        self.name = name

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        if not passages:
            return np.zeros(0, dtype=np.float32)
        pairs = [(question, passage) for passage in passages]
        return np.asarray(self._model.predict(pairs, show_progress_bar=False), dtype=np.float32)

    def close(self) -> None:
        """Nothing is held open."""


def open_cross_encoder(name: str) -> TransformerReranker:
    """Raises ModelError if the model cannot be loaded, or if it has more than one output."""
    hint = "name a folder or a cross-encoder that is there, or --reranker none"
    try:
        model = CrossEncoder(os.path.expanduser(name))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"The re-ranker {name} cannot be loaded: {reason}", hint) from error
    if model.num_labels != 1:
        raise ModelError(f"{name} is no re-ranker: it has {model.num_labels} outputs, and a re-ranker has one.", hint)
    return TransformerReranker(model, name)

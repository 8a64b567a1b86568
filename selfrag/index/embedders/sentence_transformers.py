"""Any sentence-transformers model as an embedder, by its name or folder. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from selfrag.errors import ModelError
from selfrag.index.embedders import EMBEDDED, Spec
from selfrag.index.embedders.minilm import embedded_folder


class TransformerEmbedder:
    """A loaded model, which truncates texts beyond its sequence length."""

    def __init__(self, model: SentenceTransformer, spec: Spec) -> None:
        own = model.prompts
        self._model = model
        self._query = (own.get("query") or "") if spec.query_prompt is None else spec.query_prompt
        self._document = (
            (own.get("document") or own.get("passage") or "") if spec.document_prompt is None else spec.document_prompt
        )
        self.name = spec.name
        self.dimension = model.get_embedding_dimension() or 0
        self.fingerprint: Mapping[str, str | int] = {
            "embedder": spec.name,
            "revision": _revision(model),
            "dimension": self.dimension,
            "pooling": _pooling(model),
            "query_prompt": self._query,
            "document_prompt": self._document,
            "normalisation": "l2",
        }

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._document)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._query)

    def _encode(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(list(texts), prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def open_transformer(spec: Spec) -> TransformerEmbedder:
    """Raises ModelError if the model cannot be loaded."""
    path = str(embedded_folder()) if spec.name == EMBEDDED else os.path.expanduser(spec.name)
    try:
        return TransformerEmbedder(SentenceTransformer(path, truncate_dim=spec.dimension), spec)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            f"The embedder {spec.name} cannot be loaded: {reason}", "name a folder or a model that is there"
        ) from error


def _revision(model: SentenceTransformer) -> str:
    """The commit on the hub, if the model came from there."""
    config = getattr(model[0], "config", None)
    return str(getattr(config, "_commit_hash", None) or "local")


def _pooling(model: SentenceTransformer) -> str:
    for module in model:
        mode = getattr(module, "pooling_mode", None) or getattr(module, "get_pooling_mode_str", lambda: None)()
        if mode:
            return str(mode)
    return "model"

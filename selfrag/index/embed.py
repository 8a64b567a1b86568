"""Texts to vectors: the seam, and the opener that knows every kind of embedder and imports only the one that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

EMBEDDED = "all-MiniLM-L6-v2"
HASHING = "hashing"


class Embedder(Protocol):
    """Turns texts into float32 vectors of shape (number of texts, ``dimension``), each of length 1; no texts give (0, dimension).

    ``fingerprint`` says all that the vectors depend on: vectors of unequal fingerprints are not to be compared.
    """

    name: str
    dimension: int
    fingerprint: Mapping[str, str | int]

    def documents(self, texts: Sequence[str]) -> Vectors: ...

    def queries(self, texts: Sequence[str]) -> Vectors: ...


def open_embedder(
    name: str = EMBEDDED,
    *,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    dimension: int | None = None,
) -> Embedder:
    """The embedder of this name.

    ``name`` is the embedded default; ``hashing`` (word counts, no model: for tests); the name or folder of a
    sentence-transformers model; or ``URL#MODEL`` of an OpenAI-compatible embeddings server. Prompts are put before each query
    and each document; None takes the model's own. ``dimension`` keeps the leading components only.

    Raises ModelError if the model cannot be had.
    """
    if name == HASHING:
        from selfrag.index.embed_hashing import HashingEmbedder

        return HashingEmbedder(dimension or 256)
    if name.startswith(("http://", "https://")):
        from selfrag.index.embed_server import open_server

        return open_server(name, query_prompt or "", document_prompt or "", dimension)
    from selfrag.index.embed_transformer import open_transformer

    return open_transformer(name, query_prompt, document_prompt, dimension)

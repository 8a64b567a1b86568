"""The re-ranker protocol, its spec syntax, and `open_reranker`, which imports only the requested kind.

A re-ranker (cross-encoder) scores question and passage together. It is slower and more accurate than comparing vectors, so it
scores only a search's top passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from selfrag._util import is_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NONE = "none"


class Reranker(Protocol):
    """Scores passages. Scores of one question compare with each other, the larger the better, without a unit."""

    name: str

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        """One score a passage, shape (len(passages),). Raises EngineError if a server does not answer."""
        ...

    def close(self) -> None: ...


def open_reranker(spec: str) -> Reranker | None:
    """The re-ranker that ``spec`` names: a ``.safetensors`` file that `selfrag train reranker` wrote; the URL of a server with a
    ``/rerank`` endpoint (vLLM, llama.cpp, Text Embeddings Inference, Jina, Cohere), ``URL#MODEL`` where it wants a name; or the
    name or folder of a sentence-transformers cross-encoder. ``none`` is None. Raises ModelError if the model cannot be loaded.
    """
    if spec == NONE:
        return None
    if spec.endswith(".safetensors"):
        from selfrag.index.rerankers.minilm import open_minilm

        return open_minilm(spec)
    if is_url(spec):
        from selfrag.index.rerankers.server import open_server

        return open_server(spec)
    from selfrag.index.rerankers.sentence_transformers import open_cross_encoder

    return open_cross_encoder(spec)

"""Opens embedders: knows every kind, and imports only the one that is asked for."""

from __future__ import annotations

from selfrag.index.embedder import EMBEDDED, HASHING, Embedder, parse_spec
from selfrag.urls import is_url


def open_embedder(spec: str = EMBEDDED) -> Embedder:
    """The embedder that ``spec`` names (see Spec): the embedded default; ``hashing`` (word counts, no model, for tests); the URL
    of an OpenAI-compatible embeddings server; or the name or folder of a sentence-transformers model.

    Raises:
        ModelError: if the model or the server cannot be had.
        UsageError: if the options make no sense.
    """
    parsed = parse_spec(spec)
    if parsed.name == HASHING:
        from selfrag.index.embed_hashing import HashingEmbedder

        return HashingEmbedder(parsed.dimension or 256)
    if is_url(parsed.name):
        from selfrag.index.embed_server import open_server

        return open_server(parsed)
    if parsed.name == EMBEDDED and parsed.plain:
        from selfrag.index.embed_minilm import open_minilm

        return open_minilm()
    from selfrag.index.embed_transformer import open_transformer

    return open_transformer(parsed)

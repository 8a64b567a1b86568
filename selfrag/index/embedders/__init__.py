"""The embedder protocol, its spec syntax, and `open_embedder`, which imports only the requested kind."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from selfrag._util import is_url
from selfrag.errors import ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

WINDOW = 512
"""Document texts embedded together: enough for batches of equal length, few enough to lose on a kill."""
EMBEDDED = "all-MiniLM-L6-v2"
HASHING = "hashing"


class Embedder(Protocol):
    """Turns texts into float32 vectors of shape (number of texts, ``dimension``), each of length 1; no texts give (0, dimension).

    ``fingerprint`` covers everything that the vectors depend on: do not compare vectors of unequal fingerprints. Both methods are
    thread-safe.
    """

    name: str
    dimension: int
    fingerprint: Mapping[str, str | int]

    def documents(self, texts: Sequence[str]) -> Vectors: ...

    def queries(self, texts: Sequence[str]) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Spec:
    """An embedder spec: ``NAME``, or ``URL#MODEL`` for a server, followed by options, ``?option=value&option=value`` with values
    in URL encoding.

    Prompts are prepended to each query and each document; None uses the model's own. ``dimension`` keeps that many leading
    components. ``model`` is what an embeddings server calls the model.
    """

    name: str
    query_prompt: str | None = None
    document_prompt: str | None = None
    dimension: int | None = None
    model: str | None = None

    @property
    def plain(self) -> bool:
        """Whether the spec is only a name."""
        return self == Spec(self.name)


def parse_spec(text: str) -> Spec:
    """Raises UsageError for an unknown option."""
    name, _, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := options.keys() - {"query_prompt", "document_prompt", "dimension"}:
        known = "query_prompt, document_prompt and dimension; a server's model is named URL#MODEL"
        raise UsageError(f"An embedder has no option {sorted(unknown)[0]!r}.", f"its options are {known}")
    dimension = options.get("dimension")
    if dimension is not None and not (dimension.isdecimal() and int(dimension) > 0):
        raise UsageError(f"The dimension of an embedder is a positive number, not {dimension!r}.")
    url, _, model = name.partition("#") if is_url(name) else (name, "", "")
    return Spec(
        url,
        options.get("query_prompt"),
        options.get("document_prompt"),
        None if dimension is None else int(dimension),
        model or None,
    )


def open_embedder(spec: str = EMBEDDED) -> Embedder:
    """The embedder that ``spec`` names (see Spec): the bundled default; ``hashing`` (word counts, no model, for tests); the URL
    of an OpenAI-compatible embeddings server; or the name or folder of a sentence-transformers model. Raises ModelError if the
    model cannot be loaded or the server does not answer, UsageError if the options are invalid.
    """
    parsed = parse_spec(spec)
    if parsed.name == HASHING:
        from selfrag.index.embedders.hashing import HashingEmbedder

        return HashingEmbedder(parsed.dimension or 256)
    if is_url(parsed.name):
        from selfrag.index.embedders.server import open_server

        return open_server(parsed)
    if parsed.name == EMBEDDED and parsed.plain:
        from selfrag.index.embedders.minilm import open_minilm

        return open_minilm()
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ModelError(f"the embedder {parsed.name} needs sentence-transformers", "pip install 'selfrag[embedders]'")
    from selfrag.index.embedders.sentence_transformers import open_transformer

    return open_transformer(parsed)

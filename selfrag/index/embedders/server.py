"""An OpenAI-compatible embeddings server (vLLM and the like) as an embedder: ``URL#MODEL``. `selfrag/_http.py` asks it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag._http import Caller, endpoint
from selfrag.errors import EngineError, ModelError, UsageError
from selfrag.index.embedders import Spec

BATCH = 64


class ServerEmbedder:
    """``dimension`` is what the server gives, cut to ``Spec.dimension`` and normalised again."""

    def __init__(self, caller: Caller, spec: Spec, model: str) -> None:
        self._caller = caller
        self._model = model
        self._query, self._document = spec.query_prompt or "", spec.document_prompt or ""
        self._cut = spec.dimension
        self.name = f"{spec.name}#{model}"
        self.dimension = self._embed(["dimension"]).shape[1]
        self.fingerprint: Mapping[str, str | int] = {
            "embedder": model,  # not the address, which may change
            "revision": "server",
            "dimension": self.dimension,
            "pooling": "server",
            "query_prompt": self._query,
            "document_prompt": self._document,
            "normalisation": "l2",
        }

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._batches([self._document + text for text in texts])

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._batches([self._query + text for text in texts])

    def _batches(self, texts: list[str]) -> NDArray[np.float32]:
        parts = [self._embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        return np.concatenate([np.zeros((0, self.dimension), dtype=np.float32), *parts])

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        answer = self._caller.fetch("/embeddings", {"model": self._model, "input": texts, "encoding_format": "float"})
        shown = self._caller.server.shown
        try:
            rows = _in_order(answer["data"])
            vectors = np.asarray([_numbers(row["embedding"]) for row in rows], dtype=np.float32)[:, : self._cut]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            hint = f"is {self._model} an embedding model?"
            raise EngineError(f"{shown} answered something else than embeddings.", hint) from error
        if len(vectors) != len(texts):
            raise EngineError(f"{shown} gave {len(vectors)} embeddings for {len(texts)} texts.")
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _in_order(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows in the order of the texts: by their index where every row has its own, else as they came."""
    indices = [row.get("index") for row in rows]
    if sorted(map(str, indices)) != sorted(map(str, range(len(rows)))):
        return rows
    return sorted(rows, key=lambda row: int(row["index"]))


def _numbers(embedding: Any) -> Any:
    """The numbers of an embedding, which some servers send as base64 of little-endian 32-bit floats whatever they are asked."""
    return np.frombuffer(base64.b64decode(embedding), dtype="<f4") if isinstance(embedding, str) else embedding


def open_server(spec: Spec) -> ServerEmbedder:
    """Raises ModelError if the server is not there, UsageError if it serves several models and none is named."""
    caller = Caller(endpoint(spec.name))
    try:
        return ServerEmbedder(caller, spec, spec.model or _only_model(caller))
    except EngineError as error:
        caller.close()
        raise ModelError(error.message, error.hint) from error


def _only_model(caller: Caller) -> str:
    found, shown = caller.fetch("/models"), caller.server.shown
    try:
        served = [str(each["id"]) for each in (found["data"] if isinstance(found, dict) else found) or ()]
    except (KeyError, TypeError) as error:
        raise EngineError(f"{shown} does not list its models.", f"name one: {shown}#MODEL") from error
    if len(served) != 1:
        raise UsageError(f"{shown} serves {len(served)} models.", f"name one: {shown}#{served[0] if served else 'MODEL'}")
    return served[0]

"""An OpenAI-compatible embeddings server (vLLM and the like) as an embedder: ``URL#MODEL``.

The key, if the server wants one, is taken from the environment alone and appears in no message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from selfrag.errors import EngineBusy, EngineError, ModelError, UsageError
from selfrag.index.embedders import Spec

KEY_VARIABLES = ("SELFRAG_API_KEY", "OPENAI_API_KEY")
BATCH = 64
WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further try, when a server is overloaded or gone."""


class ServerEmbedder:
    """``dimension`` is what the server gives, cut to ``Spec.dimension`` and normalised again."""

    def __init__(self, client: httpx.Client, spec: Spec, model: str, waits: Sequence[float] = WAITS) -> None:
        self._client = client
        self._model = model
        self._waits = waits
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
        answer = self._post({"model": self._model, "input": texts, "encoding_format": "float"})
        try:
            rows = sorted(answer["data"], key=lambda row: int(row["index"]))
            vectors = np.asarray([row["embedding"] for row in rows], dtype=np.float32)[:, : self._cut]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise EngineError(f"{self._client.base_url} answered something else than embeddings.") from error
        if len(vectors) != len(texts):
            raise EngineError(f"{self._client.base_url} gave {len(vectors)} embeddings for {len(texts)} texts.")
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def _post(self, body: Mapping[str, Any]) -> Any:
        for wait in self._waits:
            try:
                return self._post_once(body)
            except EngineBusy:
                time.sleep(wait)
        return self._post_once(body)

    def _post_once(self, body: Mapping[str, Any]) -> Any:
        try:
            response = self._client.post("embeddings", json=body)
        except httpx.TransportError as error:
            raise EngineBusy(f"{self._client.base_url} cannot be reached: {error}", "is the server running?") from error
        if not response.is_success:
            raise _trouble(response)
        return response.json()


def open_server(spec: Spec) -> ServerEmbedder:
    """Raises ModelError if the server is not there, UsageError if it serves several models and none is named."""
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = spec.name.rstrip("/").removesuffix("/embeddings")
    client = httpx.Client(base_url=url if url.endswith("/v1") else f"{url}/v1", headers=headers, timeout=120)
    try:
        return ServerEmbedder(client, spec, spec.model or _only_model(client))
    except EngineError as error:
        client.close()
        raise ModelError(error.message, error.hint) from error


def _only_model(client: httpx.Client) -> str:
    try:
        served = [str(each["id"]) for each in client.get("models").raise_for_status().json()["data"]]
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{client.base_url} does not tell its models: {error}", "is the server running?") from error
    if len(served) != 1:
        raise UsageError(f"{client.base_url} serves {len(served)} models.", f"name one: {client.base_url}#MODEL")
    return served[0]


def _trouble(response: httpx.Response) -> EngineError:
    address = response.request.url.copy_with(query=None)
    if response.status_code in (401, 403):
        hint = f"set the environment variable {KEY_VARIABLES[0]}"
        return EngineError(f"{address} refuses the API key ({response.status_code}).", hint)
    kind = EngineBusy if response.status_code == 429 or response.status_code >= 500 else EngineError
    return kind(f"{address} answered {response.status_code}: {response.text[:200]}")

"""A server with a ``/rerank`` endpoint as a re-ranker: ``URL`` or ``URL#MODEL``.

vLLM, llama.cpp, Jina and Cohere take ``documents`` and answer ``results`` with a ``relevance_score``; Text Embeddings Inference
takes ``texts`` and answers a list with a ``score``. Both names are sent; each server reads the one that it knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from selfrag.errors import EngineBusy, EngineError

KEY_VARIABLES = ("SELFRAG_API_KEY", "OPENAI_API_KEY")
WAITS = (0.5, 2.0)
"""Seconds before each further try, when a server is overloaded or gone."""


class ServerReranker:
    def __init__(self, client: httpx.Client, url: str, model: str, waits: Sequence[float] = WAITS) -> None:
        self._client = client
        self._url = url
        self._model = model
        self._waits = waits
        self.name = f"{url}#{model}" if model else url

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        if not passages:
            return np.zeros(0, dtype=np.float32)
        answer = self._post({"model": self._model, "query": question, "documents": list(passages), "texts": list(passages)})
        rows = answer.get("results") if isinstance(answer, dict) else answer
        scores = np.full(len(passages), np.nan, dtype=np.float32)
        try:
            for row in rows or ():
                scores[int(row["index"])] = row.get("relevance_score", row.get("score"))
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise EngineError(f"{self._url} answered something else than scores of passages.") from error
        if np.isnan(scores).any():
            raise EngineError(f"{self._url} scored {int((~np.isnan(scores)).sum())} of {len(passages)} passages.")
        return scores

    def close(self) -> None:
        self._client.close()

    def _post(self, body: dict[str, Any]) -> Any:
        for wait in self._waits:
            try:
                return self._post_once(body)
            except EngineBusy:
                time.sleep(wait)
        return self._post_once(body)

    def _post_once(self, body: dict[str, Any]) -> Any:
        try:
            response = self._client.post(self._url, json=body)
        except httpx.TransportError as error:
            raise EngineBusy(f"The re-ranker {self._url} cannot be reached: {error}", "is the server running?") from error
        if response.is_success:
            try:
                return response.json()
            except ValueError as error:
                raise EngineError(f"{self._url} answered something else than JSON.") from error
        if response.status_code in (401, 403):
            hint = f"set the environment variable {KEY_VARIABLES[0]}"
            raise EngineError(f"{self._url} refuses the API key ({response.status_code}).", hint)
        kind = EngineBusy if response.status_code == 429 or response.status_code >= 500 else EngineError
        raise kind(f"The re-ranker {self._url} answered {response.status_code}: {response.text[:200]}")


def open_server(spec: str) -> ServerReranker:
    """``spec`` is the server's address, with or without ``/rerank``. Nothing is asked of the server yet."""
    url, _, model = spec.partition("#")
    url = url.rstrip("/")
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
    client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60)
    return ServerReranker(client, url if url.endswith("/rerank") else f"{url}/rerank", model)

"""A server with a ``/rerank`` endpoint as a re-ranker: ``URL`` or ``URL#MODEL``. `selfrag/_http.py` asks it.

vLLM, llama.cpp, Jina and Cohere take ``documents`` and answer ``results`` with a ``relevance_score``; Text Embeddings Inference
takes ``texts``, has no version in its address, and answers a list with a ``score``. Both fields are sent; each server reads its
own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag._http import Caller, ClientError, endpoint
from selfrag.errors import EngineError


class ServerReranker:
    """``bare`` is the same server without ``/v1`` in its address, used from the first 404 on."""

    def __init__(self, caller: Caller, bare: Caller, model: str) -> None:
        self._caller, self._bare = caller, bare
        self._model = model
        self.name = f"{caller.server.shown}#{model}" if model else caller.server.shown

    def scores(self, question: str, passages: Sequence[str]) -> NDArray[np.float32]:
        if not passages:
            return np.zeros(0, dtype=np.float32)
        answer = self._ask({"model": self._model, "query": question, "documents": list(passages), "texts": list(passages)})
        rows = answer.get("results") if isinstance(answer, dict) else answer
        scores = np.full(len(passages), np.nan, dtype=np.float32)
        try:
            for row in rows or ():
                scores[int(row["index"])] = row.get("relevance_score", row.get("score"))
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise EngineError(f"{self.name} answered something else than scores of passages.", "is it a re-ranker?") from error
        if np.isnan(scores).any():
            raise EngineError(f"{self.name} scored {int((~np.isnan(scores)).sum())} of {len(passages)} passages.")
        return scores

    def close(self) -> None:
        self._caller.close()
        self._bare.close()

    def _ask(self, body: Mapping[str, Any]) -> Any:
        try:
            return self._caller.fetch("/rerank", body)
        except ClientError as error:
            if error.code != 404 or self._caller is self._bare:
                raise
            self._caller.close()
            self._caller = self._bare
            return self._caller.fetch("/rerank", body)


def open_server(spec: str) -> ServerReranker:
    """``spec`` is the server's address, with or without ``/rerank``. No request is sent yet. Raises UsageError for an invalid
    URL.
    """
    url, _, model = spec.partition("#")
    server = endpoint(url.rstrip("/").removesuffix("/rerank"))
    return ServerReranker(Caller(server), Caller(replace(server, url=server.url.removesuffix("/v1"))), model)

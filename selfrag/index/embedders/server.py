"""An OpenAI-compatible embeddings server (vLLM and the like) as an embedder: ``URL#MODEL``. `selfrag/_http.py` asks it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag._http import Caller, ClientError, endpoint
from selfrag.errors import EngineError, ModelError, TextsRefused, UsageError
from selfrag.index.embedders import Spec

BATCH = 64
_PROBE = "dimension"
_ALL_REFUSED = 8
"""After this many single-text refusals and no success, the server counts as refusing every text."""
_BY_SIZE = frozenset((400, 413, 422))
_REFUSALS = _BY_SIZE | {500}
"""Statuses for refused texts: too many, too long, or texts for which the model returns NaN."""


class ServerEmbedder:
    """``dimension`` is the server's, truncated to ``Spec.dimension`` and renormalised.

    A refused request is split in halves, down to single texts, and the accepted batch size is remembered: a batch limit costs a
    few requests, and one text that cannot be embedded does not cost the others.
    """

    def __init__(self, caller: Caller, spec: Spec, model: str) -> None:
        self._caller = caller
        self._model = model
        self._query, self._document = spec.query_prompt or "", spec.document_prompt or ""
        self._cut = spec.dimension
        self._batch = BATCH
        self.name = f"{spec.name}#{model}"
        first = self._rows([_PROBE])[0]
        self.dimension = len(first[: self._cut])
        if not self.dimension:
            raise EngineError(f"{caller.server.shown} gave an empty embedding.", "is it an embedding model?")
        self._expect_numbers(first)
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
        """Raises TextsRefused, with the other vectors, if the server refuses some texts or returns no numbers for them."""
        return self._vectors([self._document + text for text in texts])

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors([self._query + text for text in texts])

    def _vectors(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        refused: dict[int, str] = {}
        start = 0
        while start < len(texts):
            count = min(self._batch, len(texts) - start)
            self._fill(texts, start, start + count, vectors, refused)
            start += count
        if refused:
            if len(refused) == len(texts):
                self._expect_numbers(self._rows([_PROBE])[0])  # is it the texts, or the server?
            raise TextsRefused(refused, vectors)
        return vectors

    def _expect_numbers(self, probe: list[Any]) -> None:
        """Raises EngineError if the server gives no vector even for a common word: then the texts are not the cause."""
        _, problem = self._checked(probe)
        if problem:
            reason = problem.removesuffix(" for it")
            raise EngineError(f"{reason} for the word {_PROBE!r}.", "is the model loaded as it should be?")

    def _fill(self, texts: list[str], start: int, end: int, vectors: NDArray[np.float32], refused: dict[int, str]) -> None:
        """Writes the vectors of ``texts[start:end]``, in one request or in halves, and records the refused ones."""
        try:
            rows = self._rows(texts[start:end])
        except _Refused as error:
            if end - start == 1:
                refused[start] = error.message
                if len(refused) == end >= _ALL_REFUSED:
                    raise EngineError(f"{self._caller.server.shown} refuses every text: {error.message}", error.hint) from None
                return
            middle, before = (start + end) // 2, len(refused)
            self._fill(texts, start, middle, vectors, refused)
            self._fill(texts, middle, end, vectors, refused)
            if error.by_size and len(refused) == before:
                self._batch = min(self._batch, end - middle)  # every text is taken: there were too many of them
            return
        for at, row in enumerate(rows, start):
            vector, problem = self._checked(row)
            if problem:
                refused[at] = problem
            else:
                vectors[at] = vector

    def _checked(self, row: list[Any]) -> tuple[NDArray[np.float32], str]:
        """The vector normalised to length 1, or the reason why it is unusable."""
        server = self._caller.server.shown
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in row):
            return _NOTHING, f"{server} gave {'null' if None in row else 'no numbers'} for it"
        vector = np.asarray(row[: self._cut], dtype=np.float32)
        if vector.size != self.dimension:
            return _NOTHING, f"{server} gave {vector.size} numbers for it, for other texts {self.dimension}"
        if not np.isfinite(vector).all():
            return _NOTHING, f"{server} gave {'NaN' if np.isnan(vector).any() else 'an infinite number'} for it"
        length = float(np.linalg.norm(vector))
        if length < 1e-12:
            return _NOTHING, f"{server} gave only zeros for it"
        return vector / np.float32(length), ""

    def _rows(self, texts: list[str]) -> list[list[Any]]:
        """The server's result for each text, in the order of ``texts``, unchecked."""
        try:
            answer = self._caller.fetch("/embeddings", {"model": self._model, "input": texts}, _REFUSALS)
        except ClientError as error:
            if error.code not in _REFUSALS:
                raise
            raise _Refused(error.message, error.code in _BY_SIZE) from None
        rows = answer.get("data") if isinstance(answer, dict) else answer
        if not isinstance(rows, list):
            raise EngineError(f"{self._caller.server.shown} answered something else than embeddings.", _HINT)
        if len(rows) != len(texts):
            raise _Refused(f"{self._caller.server.shown} gave {len(rows)} embeddings for {len(texts)} texts", True)
        try:
            order = [int(row.get("index", at)) for at, row in enumerate(rows)]
            found = [_numbers(row["embedding"]) for row in rows]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EngineError(f"{self._caller.server.shown} answered something else than embeddings.", _HINT) from error
        if sorted(order) != list(range(len(texts))):
            return found  # numbered wrongly: they are in order
        return [row for _, row in sorted(zip(order, found, strict=True), key=lambda each: each[0])]


class _Refused(EngineError):
    """The server refuses these texts; ``by_size`` if their number may be the cause."""

    def __init__(self, message: str, by_size: bool) -> None:
        super().__init__(message)
        self.by_size = by_size


_NOTHING: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
_HINT = "is it the address of an embeddings server, and the name of an embedding model?"


def _numbers(embedding: Any) -> list[Any]:
    """One embedding: a list of numbers, the only one of a list of such lists, or little-endian float32 in base64."""
    if isinstance(embedding, str):
        return list(map(float, np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")))
    if not isinstance(embedding, list):
        raise TypeError
    if len(embedding) == 1 and isinstance(embedding[0], list):
        return embedding[0]
    if any(isinstance(value, list) for value in embedding):
        raise TypeError  # one for each token: a server without pooling
    return embedding


def open_server(spec: Spec) -> ServerEmbedder:
    """Raises ModelError if the server does not answer, UsageError if it serves several models and none is named."""
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

"""A re-ranker of `selfrag train reranker`: the embedder's layers, the upper ones trained to read question and passage together.

It runs like the embedder (embedders/minilm.py), with matrices quantized to 8 bits, and does not import torch. Its file holds only
the trained layers; words, positions and the lower layers are those of the installed all-MiniLM-L6-v2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Encoding, Tokenizer

from selfrag._util import cores
from selfrag.errors import ModelError
from selfrag.index.embedders.minilm import embedded_folder, graph_weights, session

GRAPH = Path(__file__).parent / "minilm.onnx"

LENGTH = 192
"""Tokens of question and passage together; what comes after is cut."""

_QUESTION = 400
"""Characters of a question that are read."""

Vector = NDArray[np.float32]


class MiniLMReranker:
    """Passages go through one by one, on as many threads as there are cores. Each has its first ``LENGTH`` tokens read."""

    def __init__(self, folder: Path, trained: Path) -> None:
        self.name = trained.name
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LENGTH, strategy="longest_first")
        weights = load_file(trained)
        self._head = {name: weights.pop(name) for name in list(weights) if name.startswith("head.")}
        self._session = session(GRAPH, graph_weights(load_file(folder / "model.safetensors")) | weights)

    def scores(self, question: str, passages: Sequence[str]) -> Vector:
        encoded = self._tokenizer.encode_batch_fast([(question[:_QUESTION], passage) for passage in passages])
        with ThreadPoolExecutor(cores()) as pool:
            return np.asarray(list(pool.map(self._score, encoded)), dtype=np.float32)

    def close(self) -> None:
        """Nothing is held open."""

    def _score(self, pair: Encoding) -> float:
        hidden = self._session.run(None, {"ids": np.asarray([pair.ids], dtype=np.int32)})[0][0]
        return score(hidden, np.asarray(pair.type_ids, dtype=bool), self._head)


def score(hidden: Vector, passage: NDArray[np.bool_], head: Mapping[str, Vector]) -> float:
    """The score from the last layer, shape (tokens, 384); ``passage`` says which tokens are the passage's.

    The trained weighted sum of the similarity of the means of both sides, the mean similarity of each word of the question to its
    most similar word of the passage (Khattab and Zaharia 2020), and a linear function of the first position.
    """
    unit = hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-9)
    asked = ~passage
    asked[0] = False  # [CLS]
    words = (unit[asked] @ unit[passage].T).max(axis=1).mean() if passage.any() and asked.any() else 0.0
    one, other = hidden[asked].mean(axis=0), hidden[passage].mean(axis=0)
    means = one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9)
    first = hidden[0] @ head["head.first"] + head["head.bias"][0]
    return float(head["head.means"][0] * means + head["head.words"][0] * words + first)


def open_minilm(spec: str) -> MiniLMReranker:
    """Raises ModelError if the file is missing or not a re-ranker."""
    folder, file = embedded_folder(), Path(spec).expanduser()
    try:
        return MiniLMReranker(folder, file)
    except Exception as error:  # safetensors and onnxruntime have errors of their own
        reason = str(error).strip().split("\n")[0]
        hint = f"make one: selfrag train reranker DATA -o {spec}, or --reranker none"
        raise ModelError(f"The re-ranker {spec} cannot be loaded: {reason}", hint) from error

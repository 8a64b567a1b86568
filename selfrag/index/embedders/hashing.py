"""An embedder without a model: hashed counts of words and of their prefixes. For tests; it finds no synonyms."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class HashingEmbedder:
    """Signed feature hashing (Weinberger et al. 2009) of lower-cased words, L2-normalised."""

    def __init__(self, dimension: int = 256) -> None:
        self.name = "hashing"
        self.dimension = dimension
        self.fingerprint: Mapping[str, str | int] = {"embedder": self.name, "dimension": dimension, "revision": "1"}

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for feature in _features(text):
                code = zlib.crc32(feature.encode())
                vectors[row, code % self.dimension] += 1.0 if code & 0x80000000 else -1.0
        vectors[:, 0] += 1e-3  # a text without words has a direction, too
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, 1e-6), dtype=np.float32)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.documents(texts)


def _features(text: str) -> Iterator[str]:
    for word in _WORD.findall(text.lower()):
        yield word
        if len(word) > 5:
            yield word[:5]

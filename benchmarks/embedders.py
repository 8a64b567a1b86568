"""Measures the same weights (all-MiniLM-L6-v2) in several number formats: rate, similarity to float32, dense recall.

    python benchmarks/embedders.py DATA [--documents 3000] [--variants torch-float32 onnx-int8 ...] [--out FILE.json]

DATA is the folder with corpora/ and dev/. All variants embed the same documents, one after the other in small turns, so that what
else the machine does falls on all alike; the rate is per second of processor time on one thread, which other work hardly changes.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import harness
import numpy as np
import torch
from corpus import Corpus, first_ranks, measures, wikipedia
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from selfrag.index.embedders.minilm import MiniLMEmbedder, embedded_folder

Encode = Callable[[list[str]], NDArray[np.float32]]
TURN = 100


def torch_model(dtype: torch.dtype = torch.float32, quantised: bool = False, sort: bool = True) -> Encode:
    model = SentenceTransformer(str(embedded_folder()), device="cpu", model_kwargs={"dtype": dtype})
    if quantised:
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        vectors = model.encode(texts, batch_size=32 if sort else 1, normalize_embeddings=True, convert_to_tensor=True)
        return vectors.float().numpy()

    return encode


def onnx_int8() -> Encode:
    embedder = MiniLMEmbedder(embedded_folder(), threads=1)
    return lambda texts: embedder.documents(texts)


VARIANTS: dict[str, Callable[[], Encode]] = {
    "torch-float32": torch_model,
    "torch-float32-one-by-one": lambda: torch_model(sort=False),
    "torch-bfloat16": lambda: torch_model(torch.bfloat16),
    "torch-int8": lambda: torch_model(quantised=True),
    "onnx-int8": onnx_int8,
}


def embed(names: list[str], texts: list[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, float]]:
    """Vectors and seconds of processor time by variant, in turns of 100 texts."""
    encoders = {name: VARIANTS[name]() for name in names}
    for encode in encoders.values():
        encode(texts[:4])
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for start in range(0, len(texts), TURN):
        for name, encode in encoders.items():
            begun = time.process_time()
            parts[name].append(encode(texts[start : start + TURN]))
            seconds[name] += time.process_time() - begun
    return {name: np.concatenate(rows) for name, rows in parts.items()}, seconds


def chosen(corpus: Corpus, number: int) -> list[int]:
    """All documents that answer a question, and others up to ``number``."""
    gold = set().union(*corpus.gold)
    others = [index for index in range(len(corpus.titles)) if index not in gold]
    return sorted([*gold, *others[:: max(1, len(others) // max(1, number - len(gold)))][: max(0, number - len(gold))]])


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = wikipedia(options.data)
    kept = chosen(corpus, options.documents)
    texts = [f"{corpus.titles[index]}\n{corpus.texts[index]}" for index in kept]
    documents, seconds = embed(options.variants, texts)
    queries, _ = embed(options.variants, list(corpus.questions))
    reference = options.variants[0]
    results = {}
    for name in options.variants:
        order = np.argsort(-(queries[name] @ documents[name].T), axis=1, kind="stable")[:, :100]
        ranks = first_ranks([[kept[at] for at in row] for row in order], corpus.gold)
        cosines = (documents[name] * documents[reference]).sum(axis=1)
        results[name] = {
            "texts_per_cpu_second": round(len(texts) / seconds[name], 1),
            "rate_over_first": round(seconds[reference] / seconds[name], 2),
            "cosine_to_first_mean": round(float(cosines.mean()), 4),
            "cosine_to_first_min": round(float(cosines.min()), 4),
            **{key: round(value, 2) for key, value in measures(ranks).items()},
        }
        print(name, results[name], flush=True)
    report = {"documents": len(texts), "questions": len(corpus.questions), "machine": platform.machine(), "results": results}
    if options.out:
        harness.write_json(options.out, report)


if __name__ == "__main__":
    main()

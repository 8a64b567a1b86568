"""Writes the graph of a Llama model for onnxruntime: operators and names, no weights (needs `onnx`).

    python tools/export_llama.py                  # selfrag/models/smollm2-135m/
    python tools/export_llama.py CONFIG.json OUT  # of another model's config.json, into the folder OUT

Makes llama.onnx and llama.json, which says what the engine and selfrag/models/weights.py must know of it. The weights lie in a
file of their own, llama.weights, at the places that both name; selfrag/models/weights.py writes it from a checkpoint. The tokens
of up to LANES sequences go through packed end to end, without padding; attention alone runs lane by lane, each over the keys and
values of its own sequence, which lie in buffers of the caller and are written in place.

The rows of the embeddings are an input: whoever runs the graph reads the few that it needs out of the file, so that the matrix
itself, which the head packs once more for its product, need not stay in memory twice.

The attention operator takes no empty sequence, so a lane that is not used reads one row of padding. The padding is put behind the
packed tokens just for that and cut off again: linear layers, which take the time, never see it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

LANES = 8
MICROSOFT = "com.microsoft"
WEIGHTS = "llama.weights"
PAGE = 4096
"""Every weight begins at a page of memory, since the file is mapped."""
TARGET = Path(__file__).parent.parent / "selfrag" / "models" / "smollm2-135m"


@dataclass(frozen=True)
class Shape:
    """What config.json says of the model."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    tokenizer: int
    context: int
    epsilon: float
    theta: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        rope = config["rope_parameters"]
        if config["model_type"] != "llama" or rope["rope_type"] != "default" or not config["tie_word_embeddings"]:
            raise SystemExit("only Llama models with plain rotary embeddings and one matrix for embeddings and head are exported")
        return cls(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            config["num_attention_heads"],
            config["num_key_value_heads"],
            config["head_dim"],
            config["vocab_size"],
            config["max_position_embeddings"],
            config["rms_norm_eps"],
            rope["rope_theta"],
        )

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def projected(self) -> int:
        """Width of queries, keys and values side by side."""
        return self.queries + 2 * self.kv_heads * self.head


SMOLLM2 = Shape(30, 576, 1536, 9, 3, 64, 49152 + 15, 8192, 9.999999747378752e-06, 100000.0)


class Graph:
    """Collects nodes, constants and the places of the weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._end = 0

    def weight(self, name: str, *shape: int) -> str:
        length = 4 * prod(shape)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", WEIGHTS), ("offset", self._end), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._end += -(-length // PAGE) * PAGE
        self.initializers.append(tensor)
        return name

    def constant(self, name: str, kind: int, shape: list[int], values: list[float]) -> str:
        self.initializers.append(helper.make_tensor(name, kind, shape, values))
        return name

    def add(self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs[0]


def attention(graph: Graph, shape: Shape, layer: int, value: str) -> str:
    """Queries, keys and values of all tokens in one product; rotary embedding and attention in each lane."""
    name = f"{layer}.attention"
    lanes = range(LANES)
    projected = graph.add("MatMul", [value, graph.weight(f"{layer}.qkv", shape.hidden, shape.projected)], [f"{name}.qkv"])
    padded = graph.add("Concat", [projected, "padding"], [f"{name}.padded"], axis=1)
    graph.add("Split", [padded, "counts"], [*(f"{name}.{lane}.qkv" for lane in lanes), f"{name}.rest"], axis=1)
    for lane in lanes:
        places = [f"{lane}.{layer}.{kind}" for kind in ("key", "value")]
        graph.add(
            "GroupQueryAttention",
            [f"{name}.{lane}.qkv", "", "", *(f"past.{place}" for place in places), f"last.{lane}", f"total.{lane}", "cos", "sin"],
            [f"{name}.{lane}.out", *(f"present.{place}" for place in places)],
            domain=MICROSOFT,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
        )
    together = graph.add("Concat", [f"{name}.{lane}.out" for lane in lanes], [f"{name}.together"], axis=1)
    return graph.add("Slice", [together, "zero", "tokens", "one"], [f"{name}.out"])


def norm(graph: Graph, shape: Shape, name: str, value: str, added: str) -> tuple[str, str]:
    """The sum of both inputs, and its norm, which comes first."""
    outputs = [f"{name}.out", "", "", f"{name}.sum"]
    inputs = [value, added, graph.weight(name, shape.hidden)]
    graph.add("SkipSimplifiedLayerNormalization", inputs, outputs, domain=MICROSOFT, epsilon=shape.epsilon)
    return outputs[0], outputs[3]


def feed_forward(graph: Graph, shape: Shape, layer: int, value: str) -> str:
    gate = graph.add("MatMul", [value, graph.weight(f"{layer}.gate", shape.hidden, shape.inner)], [f"{layer}.gate.out"])
    up = graph.add("MatMul", [value, graph.weight(f"{layer}.up", shape.hidden, shape.inner)], [f"{layer}.up.out"])
    silu = graph.add("QuickGelu", [gate], [f"{layer}.silu"], domain=MICROSOFT, alpha=1.0)  # x * sigmoid(alpha * x)
    product = graph.add("Mul", [silu, up], [f"{layer}.product"])
    return graph.add("MatMul", [product, graph.weight(f"{layer}.down", shape.inner, shape.hidden)], [f"{layer}.down.out"])


def build(shape: Shape) -> tuple[bytes, str]:
    """The graph, and what there is to know of it, as JSON."""
    graph = Graph()
    embeddings = graph.weight("embeddings", shape.tokenizer, shape.hidden)
    graph.weight("cos", shape.context, shape.head // 2)
    graph.weight("sin", shape.context, shape.head // 2)
    graph.constant("zero", TensorProto.INT64, [1], [0])
    graph.constant("one", TensorProto.INT64, [1], [1])
    graph.constant("row", TensorProto.INT64, [2], [-1, shape.hidden])
    graph.constant("padding", TensorProto.FLOAT, [1, LANES, shape.projected], [0.0] * LANES * shape.projected)
    graph.add("Shape", ["embedded"], ["tokens"], start=1, end=2)

    value = "embedded"
    first = graph.weight("0.norm", shape.hidden)
    normed = graph.add(
        "SimplifiedLayerNormalization", [value, first], ["0.norm.out"], axis=-1, epsilon=shape.epsilon, stash_type=1
    )
    for layer in range(shape.layers):
        attended = attention(graph, shape, layer, normed)
        if layer == shape.layers - 1:  # from here on the sequences' last tokens alone are wanted
            attended = graph.add("Gather", [attended, "lasts"], ["attended.lasts"], axis=1)
            value = graph.add("Gather", [value, "lasts"], ["value.lasts"], axis=1)
        output = graph.add("MatMul", [attended, graph.weight(f"{layer}.out", shape.queries, shape.hidden)], [f"{layer}.out.out"])
        normed, value = norm(graph, shape, f"{layer}.inner_norm", value, output)
        normed, value = norm(graph, shape, f"{layer + 1}.norm", value, feed_forward(graph, shape, layer, normed))
    rows = graph.add("Reshape", [normed, "row"], ["rows"])
    logits = graph.add("Gemm", [rows, embeddings], ["logits"], transB=1)
    graph.add("LogSoftmax", [logits], ["logprobs"], axis=-1)
    return _model(graph, shape).SerializeToString(), _description(graph, shape)


def _model(graph: Graph, shape: Shape) -> onnx.ModelProto:
    tensor = helper.make_tensor_value_info
    inputs = [
        tensor("embedded", TensorProto.FLOAT, [1, "tokens", shape.hidden]),
        tensor("lasts", TensorProto.INT64, ["sequences"]),
        tensor("counts", TensorProto.INT64, [LANES + 1]),
    ]
    outputs = [tensor("logprobs", TensorProto.FLOAT, ["sequences", shape.tokenizer])]
    for lane in range(LANES):
        inputs += [tensor(f"last.{lane}", TensorProto.INT32, [1]), tensor(f"total.{lane}", TensorProto.INT32, [])]
        room: list[int | str | None] = [1, shape.kv_heads, f"capacity.{lane}", shape.head]
        places = [f"{lane}.{layer}.{kind}" for layer in range(shape.layers) for kind in ("key", "value")]
        inputs += [tensor(f"past.{place}", TensorProto.FLOAT, room) for place in places]
        outputs += [tensor(f"present.{place}", TensorProto.FLOAT, room) for place in places]
    body = helper.make_graph(graph.nodes, "llama", inputs, outputs, initializer=graph.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def _description(graph: Graph, shape: Shape) -> str:
    weights = [t for t in graph.initializers if t.data_location == TensorProto.EXTERNAL]
    said = {
        "lanes": LANES,
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "head": shape.head,
        "vocabulary": shape.tokenizer,
        "context": shape.context,
        "theta": shape.theta,
        "weights": {t.name: {"shape": list(t.dims), "offset": int(t.external_data[1].value)} for t in weights},
    }
    return json.dumps(said, indent=1) + "\n"


def main(arguments: list[str]) -> None:
    if arguments and len(arguments) != 2:
        raise SystemExit(__doc__)
    shape = Shape.of(json.loads(Path(arguments[0]).read_text("utf-8"))) if arguments else SMOLLM2
    target = Path(arguments[1]) if arguments else TARGET
    graph, description = build(shape)
    target.mkdir(exist_ok=True)
    (target / "llama.onnx").write_bytes(graph)
    (target / "llama.json").write_text(description, "utf-8")
    print(f"{target}: {len(graph):,} bytes of graph")


if __name__ == "__main__":
    main(sys.argv[1:])

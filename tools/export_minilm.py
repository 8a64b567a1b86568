"""Writes the graphs of the embedded embedder and re-ranker: operators and names, no weights (needs `onnx`).

    python tools/export_minilm.py

The weights are put in when a graph is opened (selfrag/index/embedders/minilm.py, selfrag/index/rerankers/minilm.py), from the
installed package, their matrices rounded to 8 bits; the re-ranker has its upper layers from its own file. So no second copy is
shipped. One text at a time goes through: no padding and no mask, and what comes out depends on nothing but the text. The embedder
gives the mean of the last layer, the re-ranker the last layer itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

LAYERS, HEADS, HIDDEN, INNER, VOCABULARY, POSITIONS = 6, 12, 384, 1536, 30522, 512
MICROSOFT = "com.microsoft"
EPSILON = 1e-12
INDEX = Path(__file__).parent.parent / "selfrag" / "index"
EMBEDDER = INDEX / "embedders" / "minilm.onnx"
RERANKER = INDEX / "rerankers" / "minilm.onnx"


class Graph:
    """Collects nodes and the declarations of the weights that they want."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> str:
        tensor = onnx.TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="given-when-opened")
        self.weights.append(tensor)
        return name

    def matrix(self, name: str, rows: int, columns: int) -> tuple[str, str, str]:
        """An 8-bit matrix with a scale for each column."""
        return (
            self.weight(f"{name}.weight", (rows, columns), TensorProto.INT8),
            self.weight(f"{name}.scale", (columns,)),
            self.weight(f"{name}.zero", (columns,), TensorProto.INT8),
        )

    def add(self, operator: str, inputs: list[str], outputs: list[str], domain: str = MICROSOFT, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def linear(self, name: str, rows: int, columns: int, value: str) -> str:
        weight, scale, zero = self.matrix(name, rows, columns)
        bias = self.weight(f"{name}.bias", (columns,))
        return self.add("DynamicQuantizeMatMul", [value, weight, scale, zero, bias], [f"{name}.out"])

    def norm(self, name: str, value: str, skip: str) -> str:
        gamma, beta = self.weight(f"{name}.gamma", (HIDDEN,)), self.weight(f"{name}.beta", (HIDDEN,))
        return self.add("SkipLayerNormalization", [value, skip, gamma, beta], [f"{name}.out"], epsilon=EPSILON)

    def attention(self, name: str, value: str) -> str:
        rounded, scale, zero = f"{name}.in", f"{name}.in.scale", f"{name}.in.zero"
        self.add("DynamicQuantizeLinear", [value], [rounded, scale, zero], domain="")
        weight, columns, zeros = self.matrix(f"{name}.qkv", HIDDEN, 3 * HIDDEN)
        bias = self.weight(f"{name}.qkv.bias", (3 * HIDDEN,))
        inputs = [rounded, weight, bias, scale, columns, "", zero, zeros]
        return self.add("QAttention", inputs, [f"{name}.out"], num_heads=HEADS)


def layer(graph: Graph, number: int, value: str) -> str:
    name = f"layer.{number}"
    attended = graph.attention(f"{name}.attention", value)
    written = graph.linear(f"{name}.attention.output", HIDDEN, HIDDEN, attended)
    value = graph.norm(f"{name}.attention.norm", written, value)
    inner = graph.linear(f"{name}.inner", HIDDEN, INNER, value)
    inner = graph.add("Gelu", [inner], [f"{name}.gelu.out"])
    written = graph.linear(f"{name}.output", INNER, HIDDEN, inner)
    return graph.norm(f"{name}.norm", written, value)


def embeddings(graph: Graph) -> str:
    words = graph.weight("embeddings.words", (VOCABULARY, HIDDEN))
    positions = graph.weight("embeddings.positions", (POSITIONS, HIDDEN))
    gamma, beta = graph.weight("embeddings.norm.gamma", (HIDDEN,)), graph.weight("embeddings.norm.beta", (HIDDEN,))
    inputs = ["ids", "", words, positions, "", gamma, beta]
    return graph.add("EmbedLayerNormalization", inputs, ["embeddings.out", "embeddings.mask"], epsilon=EPSILON)


def save(graph: Graph, name: str, output: onnx.ValueInfoProto, target: Path) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, [1, "tokens"])
    body = helper.make_graph(graph.nodes, name, [ids], [output], initializer=graph.weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    target.write_bytes(helper.make_model(body, opset_imports=opsets, ir_version=8).SerializeToString())
    print(f"{target.name}: {target.stat().st_size:,} bytes, {len(graph.nodes)} nodes")


def body() -> tuple[Graph, str]:
    graph = Graph()
    value = embeddings(graph)
    for number in range(LAYERS):
        value = layer(graph, number, value)
    return graph, value


def main() -> None:
    graph, value = body()
    mean = graph.add("ReduceMean", [value], ["mean"], domain="", axes=[1], keepdims=0)
    graph.add("LpNormalization", [mean], ["vector"], domain="", axis=1, p=2)
    save(graph, "all-MiniLM-L6-v2", helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, HIDDEN]), EMBEDDER)
    graph, value = body()
    save(graph, "reranker", helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, "tokens", HIDDEN]), RERANKER)


if __name__ == "__main__":
    main()

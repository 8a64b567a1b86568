"""The graphs that are shipped, and the tool that makes them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from selfrag.engines.local import onnx_model
from selfrag.models import weights
from selfrag.models.registry import HERE
from tests.engines import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def export() -> ModuleType:
    pytest.importorskip("onnx", reason="onnx is for making the graph only")
    spec = importlib.util.spec_from_file_location("export_llama", ROOT / "tools" / "export_llama.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_the_tool_makes_what_is_shipped(export: ModuleType) -> None:
    """The packaged graph is tools/export_llama.py's, byte for byte."""
    graph, description = export.build(export.SMOLLM2)
    assert (HERE / "smollm2-135m" / "llama.onnx").read_bytes() == graph
    assert (HERE / "smollm2-135m" / "llama.json").read_text("utf-8") == description


def test_the_tests_graph_is_the_tools(export: ModuleType, tmp_path: Path) -> None:
    """The tiny model's graph fits its config.json."""
    shape = export.Shape.of(json.loads((tiny.build(tmp_path) / "config.json").read_text("utf-8")))
    graph, description = export.build(shape)
    assert (tiny.GRAPH / "llama.onnx").read_bytes() == graph
    assert (tiny.GRAPH / "llama.json").read_text("utf-8") == description


def test_builder_and_engine_mean_the_same_files() -> None:
    """The folder that is built holds the graph where the engine looks for it."""
    assert (weights.GRAPH, weights.DESCRIPTION) == (onnx_model.GRAPH, onnx_model.DESCRIPTION)

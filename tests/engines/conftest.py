from __future__ import annotations

from pathlib import Path

import pytest

from selfrag.models.weights import add_graph
from tests.engines import tiny

GRAPH = Path(__file__).parent / "tiny_graph"
"""Of the tiny model, made by tools/export_llama.py from its config.json."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny reflection model's folder, with its graph for onnxruntime."""
    folder = tiny.build(tmp_path_factory.mktemp("tiny"))
    add_graph(GRAPH, folder)
    return folder


@pytest.fixture(scope="session")
def oracle(checkpoint: Path) -> tiny.Oracle:
    return tiny.Oracle(checkpoint)

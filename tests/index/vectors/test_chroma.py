"""Chroma, as it is used here."""

from __future__ import annotations

from pathlib import Path

import chromadb
import numpy as np
import pytest

from selfrag.index.vectors.chroma import GRAPH, open_folder

pytestmark = pytest.mark.filterwarnings("ignore:legacy embedding function:DeprecationWarning")


def configured(folder: Path, name: str) -> dict[str, object]:
    return dict(chromadb.PersistentClient(str(folder)).get_collection(name, embedding_function=None).configuration["hnsw"])


def test_a_new_store_has_the_graph_that_was_chosen(tmp_path: Path) -> None:
    """What Chroma says of itself is what was asked for."""
    open_folder(tmp_path, "new", create=True)
    assert configured(tmp_path, "new").items() >= GRAPH.items()


def test_a_store_with_another_graph_is_used_as_it_is(tmp_path: Path) -> None:
    """One that was made with other settings is opened, written to and searched, and keeps them."""
    graph = {"space": "cosine", "max_neighbors": 8, "ef_construction": 50}
    chromadb.PersistentClient(str(tmp_path)).create_collection("old", embedding_function=None, configuration={"hnsw": graph})
    opened = open_folder(tmp_path, "old", create=True)
    opened.upsert(["a", "b"], np.eye(2, 8, dtype=np.float32))
    assert opened.query(np.eye(2, 8, dtype=np.float32)[1:], 1) == [[("b", 1.0)]]
    assert configured(tmp_path, "old").items() >= graph.items()

"""Chroma's native code, called directly, against its client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfrag.index.vectors.chroma import open_folder
from selfrag.index.vectors.chroma_reader import ChromaReader, open_reader
from selfrag.index.vectors.errors import VectorError

pytestmark = pytest.mark.filterwarnings("ignore:legacy embedding function:DeprecationWarning")


@pytest.fixture
def vectors() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def store(tmp_path: Path, vectors: np.ndarray) -> Path:
    opened = open_folder(tmp_path, "some", create=True)
    opened.upsert([f"k{n}" for n in range(len(vectors))], vectors)
    opened.close()
    return tmp_path


def test_it_finds_what_the_client_finds(store: Path, vectors: np.ndarray) -> None:
    """The same ids in the same order, the same similarities, the same count."""
    reader = open_reader(store, "some")
    assert reader is not None, "this Chroma's native code has other signatures: look at selfrag/index/vectors/chroma_reader.py"
    client = open_folder(store, "some")
    asked = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    assert reader.query(asked, 7) == client.query(asked, 7)
    assert reader.query(vectors[3:4], 1)[0][0][0] == "k3"
    assert reader.count() == client.count() == len(vectors)


def test_a_store_that_it_cannot_read_is_left_to_the_client(store: Path, tmp_path: Path) -> None:
    """No store, another collection, a damaged store: no reader, and no error either."""
    assert open_reader(tmp_path / "nothing", "some") is None
    assert open_reader(store, "another") is None
    (store / "chroma.sqlite3").write_bytes(b"damaged" * 1000)
    assert open_reader(store, "some") is None


def test_another_signature_is_a_vector_error(store: Path, vectors: np.ndarray) -> None:
    """A query that the native code does not understand is told as Chroma's failure, after which the search is exact."""
    reader = ChromaReader(store, "some")
    with pytest.raises(VectorError, match="TypeError"):
        reader.query(vectors[:1], "many")  # type: ignore[arg-type]


def test_a_writer_after_it_is_not_hindered(store: Path, vectors: np.ndarray) -> None:
    """The store can be written to after a reader has closed, and a new reader sees what was written."""
    reader = ChromaReader(store, "some")
    reader.query(vectors[:1], 1)
    reader.close()
    writer = open_folder(store, "some")
    writer.upsert(["new"], -vectors[:1])
    writer.close()
    assert ChromaReader(store, "some").query(-vectors[:1], 1)[0][0][0] == "new"

"""Hypothetical passages that a model makes up for a question."""

from __future__ import annotations

from selfrag import prompts
from selfrag.index.retriever import CollectionRetriever
from selfrag.index.search.hybrid import Fusion
from selfrag.index.search.hyde import Hyde
from tests.index.author import Author
from tests.index.conftest import Place


async def test_hyde_searches_with_a_made_up_passage(place: Place) -> None:
    """What the model makes up moves the dense side; it is not among the passages."""
    place.write("a.txt", "The otter swims in the river.")
    place.write("b.txt", "The badger digs in the wood.")
    place.sync()
    place.collection.fusion = Fusion(bm25=0.0)
    engine = Author("The badger digs in the wood at night.")
    retriever = CollectionRetriever([place.collection], hyde=Hyde("tiny", engine, prompts.load("hyde").render))
    found = await retriever.search("Who works at night?", 2)
    assert [passage.text for passage in found] == ["The badger digs in the wood.", "The otter swims in the river."]
    assert "Who works at night?" in engine.prompts[0]

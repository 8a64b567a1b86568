"""What a model writes for the index: contexts of chunks, and hypothetical passages."""

from __future__ import annotations

import pytest

from selfrag import prompts
from selfrag.errors import CollectionError, UsageError
from selfrag.index.collection import Collection
from selfrag.index.retriever import CollectionRetriever
from selfrag.index.search.hybrid import Fusion, Question
from selfrag.index.search.hyde import Hyde
from selfrag.index.sync.context import ContextWriter
from selfrag.index.sync.pipeline import Options
from selfrag.types import Completion, Message, OnToken, Request, Token
from tests.index.conftest import Place


class Author:
    """An engine that says one thing to every prompt, and keeps the prompts."""

    name, exact = "author", False

    def __init__(self, says: str, model: str = "tiny") -> None:
        self.says = says
        self.model = model
        self.prompts: list[str] = []
        self.opened = 0

    def open(self) -> Author:
        self.opened += 1
        return self

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        (message,) = request.prompt
        assert isinstance(message, Message)
        self.prompts.append(message.text)
        return Completion((Token(1, self.says, 0.0),), "end", 1)

    async def close(self) -> None:
        pass


def sync(collection: Collection, place: Place, engine: Author, **more: object) -> int:
    """A run with contexts; returns how many were written."""
    before, writer = len(engine.prompts), ContextWriter(engine.model, engine.open, prompts.load("context").render)
    collection.sync([place.docs], Options(embedder="fake-1", context="llm", situate=writer, **more))  # type: ignore[arg-type]
    writer.close()
    return len(engine.prompts) - before


def test_contexts_are_matched_and_not_shown(place: Place) -> None:
    """A word of the context finds the chunk on both sides; the passage is the original text."""
    place.write("a.txt", "It swims.")
    sync(place.collection, place, Author("This is about otters."))
    ((hit,),) = place.collection.find_now([Question("otters", 1)])
    assert (hit.passage.text, hit.bm25_rank) == ("It swims.", 1)
    assert "otters" in place.embedder().embedded[0]


def test_a_context_is_written_once(place: Place) -> None:
    """A second run, and a rebuild, do not even open the model; an edit asks it for the chunks of that document."""
    place.write("a.txt", "It swims.")
    place.write("b.txt", "It digs.")
    engine = Author("This is about animals.")
    assert sync(place.collection, place, engine) == 2
    assert sync(place.collection, place, engine) == 0
    assert sync(place.collection, place, engine, rebuild=True) == 0
    assert engine.opened == 1
    place.write("b.txt", "It digs deep.")
    assert sync(place.collection, place, engine) == 1


def test_the_document_comes_first_and_the_chunk_last(place: Place) -> None:
    """All prompts about a document begin alike, so that an engine reads the document once."""
    place.write("a.txt", "\n\n".join(f"{word} " * 150 for word in ("otter", "heron")))
    engine = Author("Animals.")
    sync(place.collection, place, engine)
    one, two = engine.prompts
    shared = next(at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
    assert "heron heron" in one[:shared]


def test_contexts_are_part_of_the_fingerprint(place: Place) -> None:
    """Another model, or no contexts, needs a rebuild; `llm` needs a model."""
    place.write("a.txt", "It swims.")
    with pytest.raises(UsageError, match="instruct model"):
        place.sync(context="llm")
    sync(place.collection, place, Author("Otters."))
    with pytest.raises(CollectionError, match="context_model"):
        sync(place.collection, place, Author("Otters.", model="other"))
    with pytest.raises(CollectionError, match="context: 'llm' then, 'headings' now"):
        place.sync(context="headings")


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

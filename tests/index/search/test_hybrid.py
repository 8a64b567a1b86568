"""Questions to passages."""

from __future__ import annotations

import asyncio
from contextlib import closing
from random import Random

import pytest

from selfrag.agent import comparable
from selfrag.errors import CollectionError, UsageError
from selfrag.index import generations, open_collection, open_retriever
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.retriever import CollectionRetriever
from selfrag.index.search.hybrid import Filter, Fusion, Question, Searcher, fuse
from selfrag.models import ModelInfo
from selfrag.types import ConfidenceWeights, Retriever, SearchOptions
from tests.index.conftest import Place


@pytest.fixture
def zoo(place: Place) -> Place:
    place.write(
        "otter.md", "---\ntopic: mammals\ntags: [water, fur]\n---\n# Otter\n\nThe otter swims.\n\n## Food\n\nIt eats fish."
    )
    place.write("birds/heron.md", "---\ntopic: birds\n---\n# Heron\n\nThe heron stands in the water.")
    place.write("ko.txt", "한국어 인공지능은 미래의 기술이다.")
    place.write("ja.txt", "吾輩は猫である。名前はまだ無い。")
    place.write("zh.txt", "人工智能改变世界。")
    place.sync()
    return place


async def first(place: Place, query: str, **more: object) -> str:
    hits = await place.collection.find(Question(query, 3, **more))  # type: ignore[arg-type]
    return hits[0].passage.source.rpartition("/")[2]


async def test_a_passage_says_where_it_stands(zoo: Place) -> None:
    """Title, path, lines, both scores and the id of the chunk."""
    passage = (await zoo.collection.search("otter swims", 1))[0]
    assert (passage.title, passage.source, passage.lines) == ("Otter", str(zoo.docs / "otter.md"), (7, 11))
    assert passage.text.startswith("The otter swims.")
    assert passage.dense is not None
    assert passage.bm25 is not None
    assert passage.chunk


def test_a_collection_is_a_retriever(zoo: Place) -> None:
    """The seam that the search knows."""
    retriever: Retriever = zoo.collection
    assert retriever.name == "default"


@pytest.mark.parametrize(
    ("query", "file"),
    [("지능", "ko.txt"), ("인공지능", "ko.txt"), ("猫", "ja.txt"), ("吾輩", "ja.txt"), ("智能", "zh.txt"), ("界", "zh.txt")],
)
async def test_words_inside_cjk_runs_are_found_by_bm25(zoo: Place, query: str, file: str) -> None:
    """Words of one or two characters in the middle of a run, without the help of the embedder."""
    zoo.collection.fusion = Fusion(dense=0.0)
    assert await first(zoo, query) == file


async def test_every_passage_has_its_cosine(zoo: Place) -> None:
    """One that BM25 alone found, too: the same cosine as among more dense candidates, without a rank."""
    question = Question("eats the water", 4)
    known = {hit.passage.chunk: hit.passage.dense for hit in await zoo.collection.find(question)}
    zoo.collection.fusion = Fusion(depth=1)
    hits = await zoo.collection.find(question)
    assert any(hit.dense_rank is None for hit in hits)
    assert [hit.passage.dense for hit in hits] == pytest.approx([known[hit.passage.chunk] for hit in hits], abs=1e-5)
    zoo.collection.fusion = Fusion(dense=0.0)
    assert {hit.passage.dense for hit in await zoo.collection.find(question)} == {None}


async def test_words_of_most_passages_change_no_score(place: Place) -> None:
    """They are left out where the other words find enough, and count where these do not."""
    chance = Random(0)
    words = {"the": 0.95, "of": 0.7, "is": 0.55, "one": 0.4, "lake": 0.2, "otter": 0.05, "heron": 0.01}
    for number in range(120):
        place.write(
            f"{number}.txt", " ".join(f"{word} " * chance.randint(1, 3) for word, p in words.items() if chance.random() < p)
        )
    place.sync()
    with closing(Catalog.open(generations.catalog_in(place.collection.generation()))) as catalog:
        searcher = Searcher(catalog, place.collection.mirror(catalog), place.embedder, Fusion(depth=10))
        assert searcher._telling([*words, "absent"]) == ["one", "lake", "otter", "heron", "absent"]
        for asked in (chance.sample([*words, "absent"], 4) for _ in range(40)):
            ours, all_of_them = searcher._bm25(Question(" ".join(asked), 5), None), searcher._scored(asked, None)
            assert [score for _, score in ours] == pytest.approx([score for _, score in all_of_them], abs=1e-5)


@pytest.mark.parametrize(
    "query", ['"', "' OR 1=1 --", "a AND (b", "NEAR(", "col:umn", "*", "🦦", "\x00", "-", "^otter", "otter" * 200_000]
)
async def test_any_text_is_a_query(zoo: Place, query: str) -> None:
    """Quotes, operators, emoji, control characters and a megabyte are words or nothing, never an error."""
    assert len(await zoo.collection.search(query, 3)) == 3


async def test_an_empty_collection_finds_nothing(place: Place) -> None:
    """No passages, no error."""
    place.sync()
    assert await place.collection.search("otter", 5) == []


async def test_the_words_come_first_where_the_sides_agree_on_nothing(zoo: Place) -> None:
    """The best of either side score the same if neither is among the other's; what has the words is before what is near."""
    for number in range(3):
        zoo.write(f"{number}.txt", f"{number} otter and heron at the river")
    zoo.write("ko2.txt", "세종은 한글을 만들었다.")
    zoo.sync()
    for query, file in {"한글": "ko2.txt", "지능": "ko.txt", "猫": "ja.txt", "界": "zh.txt"}.items():
        zoo.collection.fusion = Fusion(depth=1)
        assert await first(zoo, query) == file


async def test_filters(zoo: Place) -> None:
    """Sources by git-style pattern, and by what their front matter says, one value of a list or the only one."""
    assert await first(zoo, "otter", filter=Filter(("birds/",))) == "heron.md"
    assert await first(zoo, "otter", filter=Filter(("birds/*.md",))) == "heron.md"
    assert await first(zoo, "heron", filter=Filter(("*.md", "!birds/*.md"))) == "otter.md"
    assert await first(zoo, "heron", filter=Filter((str(zoo.docs / "*.md"),))) == "otter.md"
    assert await first(zoo, "otter", filter=Filter(("*.txt",), ())) in ("ko.txt", "ja.txt", "zh.txt")
    assert await first(zoo, "heron", filter=Filter.of((), ["topic=Mammals", "tags=fur"])) == "otter.md"
    assert await zoo.collection.find(Question("otter", 3, Filter.of((), ["topic=fish"]))) == []
    with pytest.raises(UsageError, match="key=value"):
        Filter.of((), ["topic"])


async def test_near_duplicates_are_shown_once(zoo: Place) -> None:
    """A copy with a word changed is noted at the passage that it repeats."""
    text = " ".join(f"word{n}" for n in range(60))
    zoo.write("one.txt", f"{text} end")
    zoo.write("two.txt", f"{text} ende")
    zoo.sync()
    hits = await zoo.collection.find(Question("word3 word9", 5))
    assert sum("word3" in hit.passage.text for hit in hits) == 1
    assert len(hits[0].duplicates) == 1


async def test_neighbours(zoo: Place) -> None:
    """The chunks before and after, in the order of the document."""
    zoo.write("long.txt", "\n\n".join(f"{word} " * 300 for word in ("aa", "bb", "cc", "dd")))
    zoo.sync()
    hit = (await zoo.collection.search("cc", 1))[0]
    assert [each.text[:2] for each in zoo.collection.neighbours(hit.chunk, 2, 1)] == ["aa", "bb", "cc", "dd"]
    assert zoo.collection.neighbours("nothing") == []


async def test_hypotheses_move_the_question(zoo: Place) -> None:
    """A made-up passage counts on the dense side; it is never returned."""
    zoo.collection.fusion = Fusion(bm25=0.0)
    hits = await zoo.collection.find(Question("who?", 1, hypotheses=("The heron stands in the water.",)))
    assert hits[0].passage.title == "Heron"


async def test_hundreds_of_questions_at_once(zoo: Place) -> None:
    """Questions that wait together are embedded together, and each gets its own answer; a cancelled one spoils no other."""
    tasks = [asyncio.create_task(zoo.collection.search(query, 1)) for query in ["otter swims", "heron stands"] * 150]
    await asyncio.sleep(0)
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [each[0].title for each in found[1:]] == (["Otter", "Heron"] * 150)[1:]  # type: ignore[index]


def test_one_collection_in_several_event_loops(zoo: Place) -> None:
    """A collection belongs to no event loop."""
    assert [asyncio.run(zoo.collection.search("otter", 1))[0].title for _ in range(2)] == ["Otter", "Otter"]


async def test_several_collections_in_one_question(zoo: Place) -> None:
    """The best of both, merged by score; what stands in both is shown once."""
    other = zoo.open("other")
    (zoo.docs / "otter.md").rename(zoo.docs.parent / "otter.md")
    zoo.write("badger.txt", "The badger digs.")
    other.sync([zoo.docs], _fake())
    both = CollectionRetriever([zoo.collection, other])
    titles = [passage.title for passage in await both.search("the otter swims, the badger digs", 2)]
    assert (both.name, sorted(titles)) == ("default,other", ["Otter", "badger"])


def _fake():  # type: ignore[no-untyped-def]
    from selfrag.index.sync.pipeline import Options

    return Options(embedder="fake-1")


def test_a_collection_that_is_not_there(zoo: Place) -> None:
    """The error names those that are, and how to make one."""
    with pytest.raises(CollectionError, match="There is no collection 'papers'; there are: default") as caught:
        open_retriever(zoo.home, ["default", "papers"])
    assert caught.value.hint == "selfrag index PATH -c papers"
    with pytest.raises(UsageError):
        open_collection(zoo.home, "../escape")


def test_fusion_is_a_sum_of_scores() -> None:
    """By hand: cosines from lowest to highest candidate, BM25 over its highest, half each; a candidate alone has all of it."""
    scores = fuse(Fusion(), [("a", 0.9), ("b", 0.6), ("c", 0.5)], [("b", 8.0), ("d", 2.0)])
    assert scores == pytest.approx({"a": 0.5, "b": 0.5 * 0.25 + 0.5, "c": 0.0, "d": 0.5 * 0.25})
    assert fuse(Fusion(), [("a", 0.3)], []) == {"a": 0.5}
    assert fuse(Fusion(), [], []) == {}


def test_cosines_are_told_apart_by_their_embedder(zoo: Place) -> None:
    """Cosines count in the confidence only where all collections were made with the embedder that it was fitted with."""
    retriever = CollectionRetriever([zoo.collection])
    assert retriever.embeds_by("fake-1")
    assert not retriever.embeds_by("all-MiniLM-L6-v2")
    fitted = SearchOptions(confidence=ConfidenceWeights(isrel=0.4, similarity=7.0))
    for embedder, counts in (("fake-1", 7.0), ("all-MiniLM-L6-v2", 0.0)):
        found = comparable(fitted, retriever, ModelInfo("m", "m", "folder", embedder=embedder)).confidence
        assert (found.isrel, found.similarity) == (0.4, counts)

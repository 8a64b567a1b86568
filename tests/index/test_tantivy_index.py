"""The index of words beside the catalog: equal to FTS5, or not asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from selfrag.errors import CollectionError
from selfrag.index import generations, maintenance, tantivy_index
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.search import fulltext
from selfrag.index.search.hybrid import Filter, Fusion, Question
from selfrag.index.tantivy_index import TantivyIndex
from tests.index.conftest import Place

QUERIES = ("otter", "the otter and heron", "fish", "river 3", "猫である", "stone_wall", "nothing")


@pytest.fixture(autouse=True)
def worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index of words is kept from three chunks on."""
    monkeypatch.setattr(tantivy_index, "WORTH", 3)


@pytest.fixture
def zoo(place: Place) -> Place:
    place.write("otter.md", "# Otter\n\nThe otter swims in the river 3.\n\n## Food\n\nIt eats fish.")
    place.write("birds/heron.md", "# Heron\n\nThe heron stands on a stone_wall.")
    place.write("ja.txt", "吾輩は猫である。名前はまだ無い。")
    place.write("fish.txt", "A fish swims in the river 4.")
    place.sync()
    return place


@contextmanager
def catalog_of(place: Place) -> Iterator[Catalog]:
    with closing(Catalog.open(generations.catalog_in(place.collection.generation()))) as catalog, catalog.transaction():
        yield catalog


def found(place: Place, query: str) -> set[int] | None:
    """The chunks that the index of words has for a query; None where FTS5 would be asked."""
    with catalog_of(place) as catalog:
        hits = TantivyIndex(catalog).search(fulltext.terms(query), 100, None)
        return None if hits is None else {number for number, _ in hits}


def truth(place: Place, query: str) -> set[int]:
    with catalog_of(place) as catalog:
        asked = "SELECT rowid FROM words WHERE words MATCH ?"
        return {row[0] for row in catalog.db.execute(asked, (" OR ".join(fulltext.terms(query)),))}


def test_it_equals_fts5_through_every_change(zoo: Place) -> None:
    """The chunks found are those of FTS5 after new files, edits, moves, copies and deletions, and after a rebuild."""

    def same() -> None:
        assert {query: found(zoo, query) for query in QUERIES} == {query: truth(zoo, query) for query in QUERIES}

    same()
    zoo.write("otter.md", "# Otter\n\nIt sleeps.")
    zoo.write("new/crane.md", "# Crane\n\nA crane and an otter.")
    zoo.sync()
    same()
    (zoo.docs / "birds/heron.md").rename(zoo.docs / "heron2.md")
    (zoo.docs / "fish.txt").unlink()
    zoo.write("copy.md", "# Heron\n\nThe heron stands on a stone_wall.")
    zoo.sync()
    same()
    zoo.sync(rebuild=True)
    same()


async def test_a_search_uses_it_filters_too(zoo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """FTS5 is not asked, with a filter or without; title and text are both found."""
    monkeypatch.setattr("selfrag.index.search.hybrid.Searcher._scored", None)
    zoo.collection.fusion = Fusion(dense=0.0)

    async def names(query: str, *sources: str) -> list[str]:
        hits = await zoo.collection.find(Question(query, 5, Filter(sources)))
        return [hit.passage.source.rpartition("/")[2] for hit in hits]

    assert await names("heron wall") == ["heron.md"]
    assert set(await names("river fish")) == {"otter.md", "fish.txt"}
    assert await names("river fish", "*.txt") == ["fish.txt"]
    assert await names("river fish", "birds/") == []
    assert await names("猫である") == ["ja.txt"]


def test_one_character_is_left_to_fts5(zoo: Place) -> None:
    """A single Chinese, Japanese or Korean character is the beginning of a word, which FTS5 knows how to look for."""
    assert found(zoo, "猫") is None
    assert truth(zoo, "猫") != set()


def test_a_writer_that_is_killed_after_the_commit_loses_nothing(zoo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the next run FTS5 is asked; then the index is built anew and equals it."""
    zoo.write("late.md", "A late otter.")
    with monkeypatch.context() as killed:
        killed.setattr(TantivyIndex, "_settle", _killed)
        with pytest.raises(KeyboardInterrupt):
            zoo.sync()
    assert found(zoo, "otter") is None
    assert "late.md" in str([hit.passage.source for hit in zoo.collection.find_now([Question("late otter", 5)])[0]])
    assert any("index of words" in problem for problem in maintenance.status(zoo.collection).problems)
    zoo.sync()
    assert found(zoo, "otter") == truth(zoo, "otter")
    assert maintenance.status(zoo.collection).consistent


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["changed", "missing", "more", "all"])
def test_damage_is_noticed_and_mended(zoo: Place, damage: str) -> None:
    """A file that is changed, missing or unknown: FTS5 is asked, `status` tells, `repair` and the next change mend it."""
    (folder,) = zoo.collection.generation().glob("words-*")
    victim = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    if damage == "changed":
        victim.write_bytes(bytes(255 - byte for byte in victim.read_bytes()))
    elif damage == "more":
        (folder / "stray").write_bytes(b"")
    else:
        for path in folder.iterdir() if damage == "all" else [victim]:
            path.unlink()
    assert found(zoo, "otter") is None
    assert zoo.collection.find_now([Question("otter", 1)])[0][0].passage.title == "Otter"
    status = maintenance.status(zoo.collection)
    assert not status.consistent
    assert status.mend == "selfrag repair"
    maintenance.repair(zoo.collection)
    assert found(zoo, "otter") == truth(zoo, "otter")
    assert maintenance.status(zoo.collection).consistent


def test_removed_words_do_not_linger(zoo: Place) -> None:
    """`rm` builds the index anew, since tantivy keeps what was deleted until it merges."""
    zoo.write("secret.txt", "xylophonist")
    zoo.sync()
    (before,) = zoo.collection.generation().glob("words-*")
    assert len(found(zoo, "xylophonist") or ()) == 1
    maintenance.remove(zoo.collection, [zoo.docs / "secret.txt"])
    assert found(zoo, "xylophonist") == set()
    (after,) = zoo.collection.generation().glob("words-*")
    assert not {path.name for path in before.glob("*.term")} & {path.name for path in after.glob("*.term")}
    assert after != before


def test_a_small_collection_keeps_none(zoo: Place) -> None:
    """Below the limit FTS5 is asked and no folder is left; above it the index comes back."""
    for name in ("otter.md", "fish.txt"):
        (zoo.docs / name).unlink()
    zoo.sync()
    assert found(zoo, "heron") is None
    assert list(zoo.collection.generation().glob("words-*")) == []
    zoo.write("otter.md", "# Otter\n\nBack again.")
    zoo.sync()
    assert found(zoo, "back") == truth(zoo, "back") != set()


def test_what_cannot_be_written_is_an_error(zoo: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say, ends the run with what to do; what was stored is found."""
    zoo.write("late.md", "A late otter.")
    with monkeypatch.context() as full:
        full.setattr(tantivy_index, "seal", _full)
        with pytest.raises(CollectionError, match="index of words cannot be written"):
            zoo.sync()
    assert zoo.collection.find_now([Question("late", 1)])[0][0].passage.source.endswith("late.md")


def _full(_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_collection_of_the_version_before(zoo: Place) -> None:
    """Readers do without an index of words; the next run makes one."""
    with closing(sqlite3.connect(generations.catalog_in(zoo.collection.generation()))) as db:
        db.executescript(
            "DROP TABLE unwritten; DROP TABLE mentions; DROP TABLE names; PRAGMA user_version=2;"
            "ALTER TABLE chunks DROP COLUMN headers; ALTER TABLE chunks DROP COLUMN written;"
        )
        db.execute("DELETE FROM meta WHERE key = 'words'")
        db.commit()
    zoo.collection.close()
    assert found(zoo, "otter") is None
    assert zoo.collection.find_now([Question("otter", 1)])[0][0].passage.title == "Otter"
    zoo.sync()
    assert found(zoo, "otter") == truth(zoo, "otter")

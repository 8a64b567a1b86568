"""The graph of names and chunks: kept with the files, and what it finds."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from selfrag.index import generations, graph, open_retriever
from selfrag.index.catalog import catalog as catalog_module
from selfrag.index.search.hybrid import Filter, Fusion, Question
from tests.index.conftest import Place

ASKED = "When was the director of Copper Bridge born?"


@pytest.fixture
def films(place: Place) -> Place:
    place.write("film.md", "# Copper Bridge\n\nCopper Bridge is a film whose director is Ada Winter.")
    place.write("ada.md", "# Ada Winter\n\nLife began in Lyon on 3 May 1931.")
    for number in range(20):
        place.write(f"other{number}.md", f"# Person{number}\n\nThis director was born on {number + 1} June 19{number + 20}.")
    place.sync()
    return place


def stored(place: Place) -> set[tuple[str, str, int, int]]:
    """Name, chunk, whether the chunk is about it, and in how many chunks the name is said to be."""
    with closing(sqlite3.connect(generations.catalog_in(place.collection.generation()))) as db:
        query = (
            "SELECT names.name, key, about, names.chunks FROM names LEFT JOIN mentions ON mentions.name = names.id"
            " LEFT JOIN chunks ON chunks.id = mentions.chunk"
        )
        return set(db.execute(query).fetchall())


def test_names_of_a_chunk() -> None:
    """Capitalised runs, links and code are mentioned; title and headings are what it is about; stop words are not names."""
    text = "The Sun; Leonardo da Vinci's [small moons](x.md) use `get_orbit`. In 1990 It\n\nMars"
    found = graph.names("Mercury (planet)", ("Orbit",), text)
    assert found == {
        "mercury planet": True,
        "mercury": True,
        "orbit": True,
        "sun": False,
        "leonardo da vinci": False,
        "small moons": False,
        "get_orbit": False,
        "mars": False,
    }


def test_a_graph_changed_file_by_file_equals_a_new_one(films: Place) -> None:
    """After edits, moves, copies and deletions names, links and counts are those of a rebuild; removed files leave none."""
    films.write("film.md", "# Copper Bridge\n\nIts director is Nina Stone.")
    films.write("copy.md", "# Ada Winter\n\nLife began in Lyon on 3 May 1931.")
    (films.docs / "other3.md").unlink()
    (films.docs / "other4.md").rename(films.docs / "moved.md")
    films.sync()
    changed = stored(films)
    films.sync(rebuild=True)
    assert changed == stored(films)
    names = {row[0] for row in changed}
    assert "person3" not in names
    assert {"nina stone", "person4", "ada winter"} <= names
    assert None not in {row[1] for row in changed}


def test_a_run_that_is_cut_off_leaves_no_half_of_a_file(films: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's names are stored with its chunks or not at all."""
    before = stored(films)
    films.write("film.md", "# Copper Bridge\n\nFirst.\n\n## Cast\n\nNina Stone.")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(catalog_module.graph, "add", cut)
        with pytest.raises(KeyboardInterrupt):
            films.sync()
    films.collection.close()
    assert stored(films) == before
    films.sync()
    assert "nina stone" in {row[0] for row in stored(films)}


def test_a_name_leads_to_the_second_passage(films: Place) -> None:
    """What the question's words do not find is found through the first passage, behind the first ones, which stay, with the score
    that stood at its place; filters hold; without the graph it is not found."""
    films.collection.fusion = Fusion(dense=0.0)
    count = graph.KEPT + 1

    def titles(**more: object) -> list[str]:
        (hits,) = films.collection.find_now([Question(ASKED, count, **more)])  # type: ignore[arg-type]
        return [hit.passage.title for hit in hits]

    assert "Copper Bridge" in titles()[: graph.KEPT]
    assert "Ada Winter" not in titles()
    assert titles(graph="on") == titles(graph="auto") == [*titles()[: graph.KEPT], "Ada Winter"]
    assert "Ada Winter" not in titles(graph="on", filter=Filter(("*.md", "!ada.md")))
    (hits,) = films.collection.find_now([Question(ASKED, count, graph="on")])
    (plain,) = films.collection.find_now([Question(ASKED, count)])
    assert [hit.passage.score for hit in hits] == pytest.approx([hit.passage.score for hit in plain])
    ada = next(hit for hit in hits if hit.passage.source.endswith("ada.md"))
    assert ada.passage.lines is not None
    assert "3 May 1931" in ada.passage.text
    assert all(0 <= hit.passage.score <= 1 for hit in hits)


def test_auto_needs_a_name(films: Place) -> None:
    """A question without a known name is searched as without the graph."""
    plain, auto = (films.collection.find_now([Question("who was born in june", 5, graph=mode)])[0] for mode in ("off", "auto"))
    assert plain == auto


async def test_files_given_with_a_question_have_a_graph(films: Place) -> None:
    """A collection in memory knows the names of its files."""
    files = [str(films.docs / name) for name in ("film.md", "ada.md", *(f"other{number}.md" for number in range(8)))]
    plain = open_retriever(films.home, (), files=files, embedder="hashing?dimension=64")
    assert "Ada Winter" not in {each.title for each in await plain.search(ASKED, graph.KEPT + 1)}
    await plain.close()
    given = open_retriever(films.home, (), files=files, embedder="hashing?dimension=64", graph="on")
    assert {each.title for each in await given.search(ASKED, graph.KEPT + 1)} >= {"Copper Bridge", "Ada Winter"}
    assert given.describe()["graph"] == "on"
    await given.close()


def test_a_collection_of_the_version_before_gets_its_graph(films: Place) -> None:
    """Readers do without; the next run makes it, from the stored chunks alone."""
    whole = stored(films)
    films.collection.close()
    with closing(sqlite3.connect(generations.catalog_in(films.collection.generation()))) as db:
        db.executescript(
            "DROP TABLE mentions; DROP TABLE names; DROP TABLE unwritten; PRAGMA user_version=2;"
            "ALTER TABLE chunks DROP COLUMN headers; ALTER TABLE chunks DROP COLUMN written;"
        )
    assert films.collection.find_now([Question(ASKED, 1, graph="on")])[0][0].passage.title == "Copper Bridge"
    films.collection.close()
    assert films.counts() == {"unchanged": 22}
    assert stored(films) == whole

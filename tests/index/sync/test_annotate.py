"""What a model writes about chunks while they are indexed: contexts, and triples for the graph of names."""

from __future__ import annotations

import gc
import signal
import sqlite3
import threading
from contextlib import closing

import pytest

from selfrag.errors import CollectionError, EngineError, Interrupted, UsageError
from selfrag.index import generations, graph, maintenance
from selfrag.index.collection import Collection
from selfrag.index.search.hybrid import Fusion, Question
from selfrag.index.sync.annotate import TOGETHER, Annotator, InstructModel
from selfrag.index.sync.pipeline import Options
from tests.index.author import Author
from tests.index.conftest import Place

# --- contexts -------------------------------------------------------------------------------------------------------------------


def sync(collection: Collection, place: Place, engine: Author, **more: object) -> int:
    """A run with contexts; returns how many were written."""
    return annotate(collection, place, engine, context="llm", **more)


def annotate(collection: Collection, place: Place, engine: Author, **more: object) -> int:
    """A run with ``engine`` for contexts and triples; returns how many prompts it answered."""
    before, model = len(engine.prompts), InstructModel(engine.model, engine.open)
    given = {"situate": Annotator(model, "context"), "extract": Annotator(model, "triples"), **more}
    try:
        collection.sync([place.docs], Options(embedder="fake-1", **given))  # type: ignore[arg-type]
    finally:
        model.close()
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


# --- triples --------------------------------------------------------------------------------------------------------------------

GAUGES = "copper wire | is part of | pelorus gauge\nthe pelorus gauge | was made by | Ines Moreau\nAtlantis | sank in | the sea"


def names(collection: Collection) -> set[str]:
    with closing(sqlite3.connect(generations.catalog_in(collection.generation()))) as db:
        return {row[0] for row in db.execute("SELECT name FROM names")}


def test_triples_as_models_write_them() -> None:
    """Lists, tables, brackets and quotes are read; the rest of an answer is not, nor what does not stand in the chunk."""
    text = "Ada Winter's film was shot near the old harbour of Lyon in 1974; the pelorus gauge is in it."
    written = """Here are the triples:
    1. (Ada Winter | shot | "the film")
    | pelorus gauge | stands in | Lyon |
    - Winter | was born in | Paris
    subject | relation | object
    Old Harbour | belongs to
    Harbour | a | b | c
    1974 | is the year of | Ada
    ad | is | lyo"""
    assert graph.read_triples(written, text) == ["ada winter", "film", "pelorus gauge", "lyon", "winter", "ada"]
    assert graph.read_triples("", text) == graph.read_triples("\n|||\n | | ", text) == []


def test_triples_where_words_have_no_spaces() -> None:
    """A Chinese, Japanese or Korean name stands in a text as a part of a longer run."""
    assert graph.read_triples("北京 | 是首都 | 中国\n서울 | 은 | 부산", "北京是中国的首都。서울은 크다.") == [
        "北京",
        "中国",
        "서울",
    ]


def test_a_model_gives_the_graph_names_that_no_rule_finds(place: Place) -> None:
    """Its names lead from passage to passage as others do; what it made up is not in the graph. The run counts both."""
    place.write("wire.md", "# Copper Bridge\n\nThe copper wire of the bridge ends in a pelorus gauge.")
    place.write("gauge.md", "# Northlight\n\nA pelorus gauge was found; its maker was born on 3 May 1931.")
    for number in range(20):
        place.write(f"other{number}.md", f"# Person{number}\n\nThe maker was born on {number + 1} June 19{number + 20}.")
    place.collection.fusion = Fusion(dense=0.0)
    asked = Question("When was the maker of what the wire of Copper Bridge ends in born?", graph.KEPT + 1, graph="on")

    def titles() -> set[str]:
        return {hit.passage.title for hit in place.collection.find_now([asked])[0]}

    place.sync()
    assert not {"pelorus gauge", "copper wire"} & names(place.collection)
    assert "Northlight" not in titles()
    model = InstructModel("tiny", Author(GAUGES).open)
    report = place.collection.sync([place.docs], Options(graph="llm", extract=Annotator(model, "triples"), rebuild=True))
    model.close()
    assert {"pelorus gauge", "copper wire"} <= names(place.collection)
    assert not {"atlantis", "sea", "ines moreau"} & names(place.collection)
    assert titles() >= {"Copper Bridge", "Northlight"}
    assert report.triples is not None
    assert (report.triples.chunks, report.triples.empty, report.triples.names) == (22, 20, 3)
    assert place.collection.made_with()["graph"] == "llm"


def test_triples_are_read_once(place: Place) -> None:
    """A second run, a rebuild, a new file name and an edit elsewhere in the file do not ask for a chunk again; with the file go
    its names."""
    two = ["The copper wire. " * 30, "The pelorus gauge. " * 30]
    place.write("a.txt", "\n\n".join(two))
    place.write("b.txt", "It digs.")
    engine = Author(GAUGES)
    assert annotate(place.collection, place, engine, graph="llm") == 3
    for more in ({}, {"rebuild": True}):
        assert annotate(place.collection, place, engine, **more) == 0
    (place.docs / "a.txt").rename(place.docs / "c.txt")
    assert annotate(place.collection, place, engine) == 0
    assert engine.opened == 1
    place.write("c.txt", "\n\n".join([two[0], "The new gauge. " * 30]))
    assert annotate(place.collection, place, engine) == 1
    assert "copper wire" in names(place.collection)
    assert "pelorus gauge" not in names(place.collection)
    (place.docs / "c.txt").unlink()
    annotate(place.collection, place, engine)
    assert not names(place.collection)


def test_a_run_that_fails_goes_on_where_it_was(place: Place) -> None:
    """What the model wrote before it failed, or before Ctrl-C, is kept; the next run asks for the rest alone."""
    for number in range(2 * TOGETHER):
        place.write(f"{number}.txt", f"The pelorus gauge {number}.")
    engine = Author(GAUGES)
    engine.until = 5
    with pytest.raises(EngineError, match="tired"):
        annotate(place.collection, place, engine, graph="llm")
    engine.until = 1_000
    model, stop = InstructModel(engine.model, engine.open), threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        place.collection.sync([place.docs], Options(extract=Annotator(model, "triples")), stop=stop)
    model.close()
    assert annotate(place.collection, place, engine) == 2 * TOGETHER - 5
    assert len(engine.prompts) == len(set(engine.prompts)) == 2 * TOGETHER


def test_a_second_ctrl_c_ends_it_at_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """KeyboardInterrupt while the model writes: what is written is kept, nothing is written any more when the model is closed,
    and the next run goes on."""
    for number in range(6):
        place.write(f"{number}.txt", f"The pelorus gauge {number}.")
    engine = Author(GAUGES)
    engine.slow = 0.2
    timer = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])

    def opened() -> Author:
        timer.start()
        return engine.open()

    before = signal.signal(signal.SIGINT, _interrupt)  # as cli/terminal.py does: asyncio leaves a handler of one's own alone
    model = InstructModel(engine.model, opened)
    try:
        options = Options(embedder="fake-1", graph="llm", extract=Annotator(model, "triples"))
        with pytest.raises(KeyboardInterrupt):
            place.collection.sync([place.docs], options)
        assert not place.collection.find_now([Question("gauge", 1)])[0]
        model.close()
        gc.collect()  # a task that failed behind the scenes says so when it goes
        assert not caplog.records
    finally:
        signal.signal(signal.SIGINT, before)
    had, engine.slow = cached(place), 0.0
    assert 0 < had < 6
    assert annotate(place.collection, place, engine) == 6 - had


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def cached(place: Place) -> int:
    with closing(sqlite3.connect(generations.catalog_in(place.collection.generation()))) as db:
        return int(db.execute("SELECT count(*) FROM contexts").fetchone()[0])


def test_what_was_written_about_a_removed_source_goes_with_it(place: Place) -> None:
    """After `selfrag rm` neither context nor triples of its chunks are in the catalog, earlier versions included; what other
    chunks share, and what a catalog of version 4 has, stays."""
    engine = Author(GAUGES)
    for name, text in (("a.txt", "It digs."), ("b.txt", "It digs."), ("c.txt", "It swims.")):
        place.write(name, text)
    annotate(place.collection, place, engine, context="llm", graph="llm")
    place.write("c.txt", "It swims well.")
    annotate(place.collection, place, engine)
    assert cached(place) == 3 + 2 + 2
    maintenance.remove(place.collection, [place.docs / "c.txt"])
    assert cached(place) == 2 + 1
    maintenance.remove(place.collection, [place.docs / "a.txt"])
    assert cached(place) == 1 + 1
    assert annotate(place.collection, place, engine) > 0
    with closing(sqlite3.connect(generations.catalog_in(place.collection.generation()))) as db:
        db.executescript("ALTER TABLE chunks DROP COLUMN written; PRAGMA user_version=4")
    place.collection.close()
    assert place.collection.find_now([Question("digs", 1)])[0]
    before = cached(place)
    maintenance.remove(place.collection, [place.docs / "c.txt"])
    assert cached(place) == before
    assert annotate(place.collection, place, engine, rebuild=True) == 0


def test_one_model_writes_both(place: Place) -> None:
    """Contexts and triples by the same model open it once."""
    place.write("a.txt", "The pelorus gauge.")
    engine = Author(GAUGES)
    assert annotate(place.collection, place, engine, context="llm", graph="llm") == 2
    assert engine.opened == 1


def test_the_graph_is_part_of_the_fingerprint(place: Place) -> None:
    """Another model, or none, needs a rebuild; `llm` needs a model; a collection without the choice is one of `names`."""
    place.write("a.txt", "The pelorus gauge.")
    with pytest.raises(UsageError, match="graph 'llm' needs an instruct model"):
        place.sync(graph="llm")
    with pytest.raises(UsageError, match="Unknown graph 'lm'"):
        place.sync(graph="lm")
    place.sync(graph="names")
    assert "graph" not in place.collection.made_with()
    with pytest.raises(CollectionError, match="graph: 'names' then, 'llm' now"):
        annotate(place.collection, place, Author(GAUGES), graph="llm")
    annotate(place.collection, place, Author(GAUGES), graph="llm", rebuild=True)
    with pytest.raises(UsageError, match="instruct model"):
        place.sync()
    with pytest.raises(CollectionError, match="graph_model"):
        annotate(place.collection, place, Author(GAUGES, model="other"))
    with pytest.raises(CollectionError, match="graph: 'llm' then, 'names' now"):
        place.sync(graph="names")
    place.sync(graph="names", rebuild=True)
    assert "pelorus gauge" not in names(place.collection)

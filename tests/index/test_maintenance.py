"""Looking after collections."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selfrag.errors import CollectionError, InputError, LockedError
from selfrag.index import generations, maintenance, names, open_collection
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.locks import only_writer
from tests.index.conftest import Place


@pytest.fixture
def filled(place: Place) -> Place:
    place.write("a.txt", "Otters swim in the river.")
    place.write("sub/b.txt", "Badgers dig in the wood.")
    place.write("sub/empty.txt", "")
    place.sync()
    return place


def test_status_says_what_there_is(filled: Place) -> None:
    """Counts, the fingerprint, the folders, and what was skipped and why."""
    found = maintenance.status(filled.collection)
    assert (found.sources, found.chunks, found.vectors, found.consistent, found.problems) == (2, 2, 2, True, ())
    assert found.fingerprint["embedder"] == "fake-1"
    assert {"context", "chunker", "cleaner", "revision", "dimension"} <= found.fingerprint.keys()
    assert found.roots == (str(filled.docs),)
    assert found.skipped == ((str(filled.docs / "sub/empty.txt"), "empty"),)
    assert found.bytes["catalog"] > 0


def test_status_beside_a_writer_does_not_judge(filled: Place) -> None:
    """What is half written is not wrong; the process that writes is named."""
    with only_writer(filled.collection.folder, "default"):
        found = maintenance.status(filled.collection)
    assert (found.consistent, found.writer) == (None, os.getpid())


def test_status_finds_a_full_text_table_that_does_not_fit(filled: Place) -> None:
    """The parts of the catalog are compared with one another."""
    generation = generations.current(filled.collection.folder)
    assert generation is not None
    with sqlite3.connect(generations.catalog_in(generation)) as db:
        db.execute("DELETE FROM words WHERE rowid = 1")
    assert "full-text table has 1 entries for 2 chunks" in maintenance.status(filled.collection).problems[0]


async def test_removed_sources_leave_nothing_behind(filled: Place) -> None:
    """Neither text nor vector of a removed file is in the catalog's bytes any more."""
    generation = generations.current(filled.collection.folder)
    assert generation is not None
    assert b"Badgers dig" in generations.catalog_in(generation).read_bytes()
    assert maintenance.remove(filled.collection, [filled.docs / "sub"]) == [
        str(filled.docs / "sub" / n) for n in ("b.txt", "empty.txt")
    ]
    assert b"Badgers dig" not in generations.catalog_in(generation).read_bytes()
    found = maintenance.status(filled.collection)
    assert (found.sources, found.chunks, found.consistent) == (1, 1, True)
    with pytest.raises(InputError, match="knows nothing of"):
        maintenance.remove(filled.collection, [filled.docs / "sub"])


def test_a_collection_is_deleted_as_a_whole(filled: Place) -> None:
    """Nothing of it stays, and a new one may take its name; not while somebody writes to it."""
    with only_writer(filled.collection.folder, "default"), pytest.raises(LockedError):
        maintenance.delete(filled.collection)
    maintenance.delete(filled.collection)
    assert (names(filled.home), filled.collection.folder.exists()) == ([], False)
    assert filled.counts() == {"new": 2, "skipped": 1}


async def test_a_collection_travels_as_one_file(filled: Place, tmp_path: Path) -> None:
    """Export and import give the same passages without embedding anything; the name must be free."""
    file = tmp_path / "zoo.selfrag"
    assert maintenance.export(filled.collection, file) == file.stat().st_size
    other = filled.open("other")
    assert maintenance.import_file(other, file) == 2
    assert await other.search("otters", 2) == await filled.collection.search("otters", 2)
    assert maintenance.status(other).consistent
    assert len(filled.embedder().embedded) == 2
    with pytest.raises(CollectionError, match="already"):
        maintenance.import_file(other, file)
    file.write_bytes(b"SQLite format 3\x00 and no more")
    with pytest.raises(InputError, match="not an exported collection"):
        maintenance.import_file(filled.open("third"), file)


def test_overview_lists_a_damaged_collection_too(filled: Place) -> None:
    """One bad catalog does not hide the others."""
    shutil.copytree(filled.collection.folder, filled.collection.folder.with_name("broken"))
    (filled.collection.folder.with_name("broken") / "g1" / "catalog.sqlite").write_bytes(b"no database at all" * 100)
    lines = {line.collection: line for line in maintenance.overview(filled.home)}
    assert (lines["default"].chunks, lines["default"].problem) == (2, None)
    assert "damaged" in (lines["broken"].problem or "")


@pytest.mark.parametrize("place_in_file", [0.3, 0.5, 0.7, 0.9])
def test_a_damaged_catalog_is_named_and_made_anew(filled: Place, place_in_file: float) -> None:
    """Garbage inside the file: `status` and `repair` say so and name a command, and that command mends it."""
    for number in range(300):
        filled.write(f"{number}.txt", f"Badger {number} digs in the wood {number % 7}.")
    filled.sync()
    filled.collection.close()
    path = generations.catalog_in(filled.collection.generation())
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * place_in_file))
        file.write(os.urandom(size // 20))
    try:
        found = maintenance.status(filled.collection)
        assert found.consistent is False
        hint = found.mend
    except CollectionError as error:
        hint = error.hint or ""
    with pytest.raises(CollectionError, match="damaged"):
        maintenance.repair(filled.collection)
    if hint.startswith("selfrag rm -c default --yes"):
        maintenance.delete(filled.collection)
        filled.sync()
    else:
        assert hint == "selfrag index --rebuild"
        filled.sync(rebuild=True)
    assert maintenance.status(filled.collection).consistent


WRITE = """
import resource, sys
from pathlib import Path
from selfrag.errors import SelfragError
from selfrag.index import open_collection
from selfrag.index.sync.pipeline import Options
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    open_collection(Path(sys.argv[1]), create=True).sync([sys.argv[2]], Options(embedder="hashing"))
except SelfragError as error:
    print(error.message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file size there")
def test_no_room_left(place: Place) -> None:
    """When no byte more can be written the error says so, what was stored is whole, and a later run completes it."""
    for number in range(60):
        place.write(f"{number}.txt", f"Otter {number}. " + "water and stone " * 100)
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(place.home), str(place.docs), "300000"], capture_output=True, text=True, check=True
    )
    assert "No room left" in done.stdout
    generation = generations.current(place.collection.folder)
    assert generation is not None
    catalog = Catalog.open(generations.catalog_in(generation))
    assert catalog.problems() == []
    catalog.close()
    whole = open_collection(place.home)
    whole.sync()
    found = maintenance.status(whole)
    assert (found.sources, found.consistent) == (60, True)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
async def test_a_store_that_cannot_be_written_to_can_be_searched(filled: Place) -> None:
    """Reading needs no permission to write; writing says what it lacks."""
    filled.collection.close()
    folders = [filled.collection.folder, *[path for path in filled.collection.folder.rglob("*") if path.is_dir()]]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert (await filled.collection.search("otters", 1))[0].title == "a"
        with pytest.raises(CollectionError, match="cannot be written to"):
            filled.sync()
    finally:
        for folder in folders:
            folder.chmod(0o700)


async def test_a_catalog_of_the_version_before_is_named_and_rebuilt(filled: Place) -> None:
    """It is refused with the command that helps, and that command keeps its folders and its vectors."""
    generation = generations.current(filled.collection.folder)
    assert generation is not None
    with sqlite3.connect(generations.catalog_in(generation)) as db:
        db.executescript("ALTER TABLE chunks DROP COLUMN place; ALTER TABLE chunks DROP COLUMN headers;")
        db.execute("ALTER TABLE chunks DROP COLUMN written")
        db.executescript("DROP TABLE unwritten; DROP TABLE mentions; DROP TABLE names;")
        db.execute("PRAGMA user_version=1")
        db.execute(
            "UPDATE meta SET value = json_set(value, '$.readers', '1') WHERE key = 'made_with'",
        )
    with pytest.raises(CollectionError, match="version 1") as refused:
        await filled.open().search("otters", 1)
    assert refused.value.hint == "selfrag index --rebuild -c default"
    assert filled.open().made_with()["readers"] == "1"  # `index --rebuild` reads it first
    embedder = filled.embedder()
    before = len(embedder.embedded)
    filled.collection = filled.open()
    with pytest.raises(CollectionError, match="readers: '1' then"):
        filled.sync()
    filled.sync(rebuild=True)
    assert len(embedder.embedded) == before
    assert [hit.source for hit in await filled.open().search("otters", 1)] == [str(filled.docs / "a.txt")]


def test_vectors_that_are_none_are_noticed_and_mended_by_a_rebuild(place: Place) -> None:
    """NaN that an earlier version stored is a problem that `status` and `repair` name; a rebuild embeds those texts again."""
    place.write("a.txt", "Otters swim.")
    place.write("b.txt", "Badgers dig.")
    place.sync()
    with place.collection.opened(place.collection.generation(), writable=True) as catalog, catalog.transaction() as db:
        nan = np.full(64, np.nan, dtype="<f4").tobytes()
        db.execute("UPDATE embeddings SET vector = ? WHERE hash = (SELECT min(hash) FROM embeddings)", (nan,))
    found = maintenance.status(place.collection)
    assert "1 embeddings are not vectors: they hold NaN, or only zeros" in found.problems
    assert "--rebuild" in found.mend
    with pytest.raises(CollectionError, match="not vectors"):
        maintenance.repair(place.collection)
    assert place.sync(rebuild=True).embedded == 1
    assert maintenance.status(place.collection).problems == ()

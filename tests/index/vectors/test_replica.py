"""Chroma as a mirror of the catalog: damaged on purpose, locked, killed half-way; searches stay right, repair makes it whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from selfrag.index import generations, maintenance
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.collection import Collection
from selfrag.index.locks import chroma_alone
from selfrag.index.vectors.replica import Mirror
from tests.index.conftest import Place

QUERY = "Otter 7 of file 1 swims in river 7"
FOUND = "Otter 7 of file 1"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A collection with more vectors than Chroma keeps without index files (1,000)."""
    place = Place(tmp_path_factory.mktemp("whole"))
    for number in range(3):
        lines = [f"Otter {n} of file {number} swims in river {n % 17}. " + "water " * 150 for n in range(350)]
        place.write(f"{number}.txt", "\n\n".join(lines))
    place.sync()
    return place


@pytest.fixture
def copy(whole: Place, tmp_path: Path) -> Place:
    """A copy of it that may be damaged."""
    place = Place(tmp_path)
    place.docs.rmdir()
    shutil.copytree(whole.docs, place.docs)
    shutil.copytree(whole.home, place.home)
    return place


def chroma(place: Place) -> Path:
    generation = generations.current(place.collection.folder)
    assert generation is not None
    return next(generation.glob("chroma-*"))


def state(collection: Collection) -> str:
    generation = generations.current(collection.folder)
    assert generation is not None
    return Mirror(Catalog.open(generations.catalog_in(generation)), None).state()["state"]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def garble_a_little(path: Path) -> None:
    """One byte in the middle, and the old time stamp."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def answer(collection: Collection) -> str:
    return (await collection.search(QUERY, 5))[0].text.partition(" swims")[0]


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("*/data_level0.bin", garble),
        ("*/header.bin", remove),
        ("*/index_metadata.pickle", halve),
        ("*/length.bin", empty),
        ("chroma.sqlite3", garble),
        ("chroma.sqlite3", remove),
    ],
)
async def test_damage_is_noticed_and_mended(copy: Place, file: str, harm: Callable[[Path], None]) -> None:
    """Searches give the same passages and a warning, `status` names the damage, `repair` mends it without embedding anything."""
    harm(next(chroma(copy).glob(file)))
    assert await answer(copy.collection) == FOUND
    assert "without Chroma" in copy.collection.warnings[0]
    assert "selfrag repair" in copy.collection.warnings[0]
    found = maintenance.status(copy.collection)
    assert found.consistent is False
    assert found.problems
    assert maintenance.repair(copy.collection) == found.chunks
    assert await answer(copy.collection) == FOUND
    assert copy.collection.warnings == ()
    assert maintenance.status(copy.collection).consistent
    assert copy.embedder().embedded == []


def test_a_flipped_byte_under_the_old_time_stamp_is_found_by_status(copy: Place) -> None:
    """`status` takes digests of every index file, whatever their times say."""
    garble_a_little(next(chroma(copy).glob("*/data_level0.bin")))
    assert "was changed" in maintenance.status(copy.collection).problems[0]


def test_the_next_run_mends_damage_by_itself(copy: Place) -> None:
    """A run of `index` that finds Chroma damaged makes it anew, even if no file changed."""
    shutil.rmtree(chroma(copy))
    copy.sync()
    assert maintenance.status(copy.collection).consistent
    assert copy.embedder().embedded == []


def test_vectors_that_differ_are_found(copy: Place) -> None:
    """Not only the ids are compared: a vector that is another one is named."""
    from selfrag.index.vectors import chroma

    generation = generations.current(copy.collection.folder)
    assert generation is not None
    catalog = Catalog.open(generations.catalog_in(generation), writable=True)
    mirror = Mirror(catalog, None)
    with mirror.writing() as writer:
        key = catalog.db.execute("SELECT key FROM chunks").fetchone()[0]
        catalog.db.execute("INSERT INTO pending VALUES (?)", (key,))
        writer.apply()
        assert writer.vectors is not None
        writer.vectors.upsert([key], chroma.np.eye(1, 64, dtype="float32"))
        writer.vectors.upsert(["stranger"], chroma.np.eye(1, 64, dtype="float32"))
    problems = maintenance.status(copy.collection).problems
    assert problems[0] == "1 vectors in Chroma belong to no chunk"
    assert "differ from the catalog" in problems[1]


async def test_a_search_beside_a_writer_does_without_chroma(copy: Place) -> None:
    """While a writer has Chroma, a search compares the catalog's vectors one by one: the same passages, and no warning."""
    generation = generations.current(copy.collection.folder)
    assert generation is not None
    with chroma_alone(generation):
        assert await answer(copy.collection) == FOUND
    assert copy.collection.warnings == ()


async def test_a_killed_writer_leaves_a_store_that_nobody_believes(copy: Place) -> None:
    """A mirror that is marked dirty is not asked; the next run checks it, finds it whole, and marks it clean."""
    generation = generations.current(copy.collection.folder)
    assert generation is not None
    catalog = Catalog.open(generations.catalog_in(generation), writable=True)
    catalog.set_meta(mirror={**Mirror(catalog, None).state(), "state": "dirty"})
    before = chroma(copy)
    assert await answer(copy.collection) == FOUND
    copy.sync()
    assert (state(copy.collection), chroma(copy)) == ("clean", before)


async def test_a_reader_that_stays_open_sees_later_writes(copy: Place) -> None:
    """A reader opens Chroma anew after somebody else wrote to it."""
    reader = copy.open()
    await answer(reader)
    copy.write("new.txt", "Herons stand.")
    copy.sync()
    assert (await reader.search("herons stand", 1))[0].text == "Herons stand."
    assert reader.warnings == ()

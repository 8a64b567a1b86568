"""Every vector compared: what is found, of which sources, and after which changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from selfrag.index import generations, maintenance
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.vectors.brute_force import FILE, BruteForce, Found
from tests.index.conftest import Place

ANIMALS = {f"{number}.md": f"Animal {number}\n\nIt eats {'fish ' * number}and {number} plants." for number in range(12)}


@pytest.fixture
def stable(place: Place) -> Place:
    for name, text in ANIMALS.items():
        place.write(name, text)
    place.sync()
    return place


@pytest.fixture
def catalog(stable: Place) -> Iterator[Catalog]:
    with closing(Catalog.open(generations.catalog_in(stable.collection.generation()))) as opened:
        yield opened


def queries(place: Place) -> NDArray[np.float32]:
    return place.collection.embedder("hashing").queries(["fish and plants", "animal 7"])


def by_hand(catalog: Catalog, asked: NDArray[np.float32], k: int, sources: frozenset[int] | None) -> Found:
    """Cosines with each vector by itself, in the order of the catalog."""
    numbers = dict(catalog.db.execute("SELECT key, source FROM chunks"))
    rows = [(key, np.frombuffer(blob, "<f4")) for key, blob in catalog.vectors() if sources is None or numbers[key] in sources]
    return [sorted(((key, float(query @ row)) for key, row in rows), key=lambda hit: -hit[1])[:k] for query in asked]


def same(one: Found, other: Found) -> bool:
    scores = [[score for _, score in hits] for hits in one], [[score for _, score in hits] for hits in other]
    return all(np.allclose(*pair, atol=1e-6) for pair in zip(*scores, strict=True))


@pytest.mark.parametrize("where", ["a file", "memory", "parts"])
@pytest.mark.parametrize("sources", [None, frozenset({1}), frozenset(range(1, 9)), frozenset[int]()])
def test_the_nearest_are_found(stable: Place, catalog: Catalog, where: str, sources: frozenset[int] | None) -> None:
    """The mapped file, a matrix in memory, and the catalog read in parts give the cosines that comparing one by one gives."""
    exact, asked = BruteForce(catalog, 0 if where != "memory" else 2**20), queries(stable)
    path = catalog.path.with_name(FILE)
    if where != "a file":
        path.mkdir()  # no file can be put there
    for _ in range(2):
        found = exact.nearest(asked, 3, sources)
        assert same(found, by_hand(catalog, asked, 3, sources))
        chunks = {key for key, _ in catalog.vectors()}
        assert all(key in chunks for hits in found for key, _ in hits)
    if sources is None:
        assert path.is_file() == (where == "a file")


def test_a_change_is_seen(stable: Place, catalog: Catalog) -> None:
    """A file that comes, goes or changes after the matrix was read counts in the next search."""
    exact, asked = BruteForce(catalog), queries(stable)
    exact.nearest(asked, 20)
    (stable.docs / "3.md").unlink()
    stable.write("new.md", "fish and plants")
    stable.sync()
    found = exact.nearest(asked, 20)
    assert same(found, by_hand(catalog, asked, 20, None))
    assert {key for key, _ in found[0]} == {key for key, _ in catalog.vectors()}


def test_the_catalog_is_read_once(stable: Place, catalog: Catalog) -> None:
    """A second search of the same state reads no vector."""
    exact, asked = BruteForce(catalog), queries(stable)
    first = exact.nearest(asked, 3)
    read: list[str] = []
    catalog.db.set_trace_callback(read.append)
    assert exact.nearest(asked, 3) == first
    assert not [statement for statement in read if "vector" in statement]


def test_another_process_maps_the_file(stable: Place, catalog: Catalog) -> None:
    """The next process reads no vector from the catalog; it finds the same."""
    asked = queries(stable)
    first = BruteForce(catalog).nearest(asked, 3)
    read: list[str] = []
    catalog.db.set_trace_callback(read.append)
    assert BruteForce(catalog).nearest(asked, 3) == first
    assert not [statement for statement in read if "vector" in statement]


@pytest.mark.parametrize("harm", ["empty", "torn", "flipped", "no header", "other state"])
def test_a_damaged_file_is_made_again(stable: Place, catalog: Catalog, harm: str) -> None:
    """A file that a kill or a disk damaged, or that belongs to another state, is replaced; the answer stays right."""
    asked, path = queries(stable), catalog.path.with_name(FILE)
    first = BruteForce(catalog).nearest(asked, 3)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[5000] ^= 1
    other = whole.replace(catalog.state().encode(), b"f" * 32)
    harmed = {"empty": b"", "torn": whole[:-8], "flipped": flipped, "no header": b"\0" * len(whole), "other state": other}
    path.write_bytes(harmed[harm])
    assert BruteForce(catalog).nearest(asked, 3) == first
    assert path.read_bytes() == whole


def test_a_killed_writer_leaves_nothing_that_counts(stable: Place, catalog: Catalog) -> None:
    """A draft of a killed process is overwritten, and gone after that."""
    draft = catalog.path.with_name(FILE).with_suffix(".new")
    draft.write_bytes(b"half")
    assert same(BruteForce(catalog).nearest(queries(stable), 3), by_hand(catalog, queries(stable), 3, None))
    assert not draft.exists()


def test_while_another_process_writes_the_file(stable: Place, catalog: Catalog) -> None:
    """Who finds the file being written does not wait: it compares in memory."""
    path = catalog.path.with_name(FILE)
    with FileLock(path.with_suffix(".lock")):
        assert same(BruteForce(catalog).nearest(queries(stable), 3), by_hand(catalog, queries(stable), 3, None))
        assert not path.exists()


def test_removed_documents_leave_no_vectors(stable: Place, catalog: Catalog) -> None:
    """`selfrag remove` deletes the file, which holds the vectors of what was removed."""
    BruteForce(catalog).nearest(queries(stable), 3)
    assert catalog.path.with_name(FILE).exists()
    maintenance.remove(stable.collection, [stable.docs / "3.md"])
    assert not catalog.path.with_name(FILE).exists()

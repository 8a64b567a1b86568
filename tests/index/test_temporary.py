from __future__ import annotations

from pathlib import Path

from selfrag import index
from selfrag.index.retriever import CollectionRetriever
from tests.index.conftest import Place


async def test_files_are_searched_like_an_index_of_them(place: Place, tmp_path: Path) -> None:
    """Passages, places, keys and order are those of a stored collection of the same files."""
    for name, text in (("otter.md", "# Otter\n\nOtters swim in the river."), ("badger.txt", "Badgers dig in the wood.\n" * 40)):
        place.write(name, text)
    place.sync()
    stored = CollectionRetriever([place.collection])
    files = [str(place.docs / "otter.md"), str(place.docs / "badger.txt")]
    given = index.open_retriever(tmp_path / "none", (), files=files, embedder="hashing?dimension=64")
    for query in ("who digs in the wood", "river"):
        found = await given.search(query, 5)
        assert [(p.source, p.chunk, p.lines, p.title) for p in found] == [
            (p.source, p.chunk, p.lines, p.title) for p in await stored.search(query, 5)
        ]
    assert given.neighbours(found[0].chunk)[0].source == files[0]
    assert given.name == ",".join(files)
    await given.close()
    assert not (tmp_path / "none").exists()

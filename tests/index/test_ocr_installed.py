"""OCR that is installed, or gone, after a collection was made."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from selfrag import ingest
from selfrag.errors import CollectionError
from selfrag.ingest import Document, Limits, readers
from tests.index.conftest import Place


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the engine that is installed, none at first; a .pdf says how it was read."""
    name = [""]
    monkeypatch.setattr(readers, "installed", lambda: name[0])

    def read(path: PurePath, data: bytes, limits: Limits) -> Document:
        return Document(f"A scan that was read with OCR {limits.ocr}.", path.stem, "pdf")

    monkeypatch.setitem(readers.READERS, ".pdf", read)
    return name


def texts(place: Place) -> set[str]:
    return {row[0] for row in place.collection._current().catalog.db.execute("SELECT text FROM chunks")}


def test_installing_ocr_reads_scans_again_and_nothing_else(place: Place, engine: list[str]) -> None:
    """Without `--rebuild` the next run reads what OCR is for again; other files stay, and so does a further run."""
    place.write("a.txt", "Otters swim.")
    place.write("scan.pdf", "%PDF-")
    place.sync()
    engine[0] = "rapidocr"
    assert place.counts() == {"updated": 1, "unchanged": 1}
    assert texts(place) == {"Otters swim.", "A scan that was read with OCR auto."}
    assert place.counts() == {"unchanged": 2}


def test_ocr_that_is_gone_takes_nothing_away(place: Place, engine: list[str]) -> None:
    """What was recognised stays where no engine is installed any more, until somebody asks to do without."""
    engine[0] = "rapidocr"
    place.write("scan.pdf", "%PDF-")
    place.sync()
    engine[0] = ""
    assert place.counts() == {"unchanged": 1}
    assert texts(place) == {"A scan that was read with OCR auto."}
    ingest.use_ocr("never")
    assert place.counts() == {"updated": 1}
    assert texts(place) == {"A scan that was read with OCR never."}


def test_other_readers_still_ask_for_a_rebuild(place: Place, engine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of readers that comes with OCR is refused all the same, and nothing is marked."""
    place.write("scan.pdf", "%PDF-")
    place.sync()
    engine[0] = "rapidocr"
    monkeypatch.setitem(ingest.FINGERPRINT, "readers", "next")
    with pytest.raises(CollectionError, match="readers"):
        place.sync()
    monkeypatch.undo()
    assert place.collection.made_with().get("ocr") is None

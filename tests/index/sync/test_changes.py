"""A file that does not hold still while it is read."""

from __future__ import annotations

from pathlib import Path

from selfrag.index.catalog.rows import Hints
from selfrag.index.sync.changes import Prepared, Preparer


class UnsteadyDisk:
    """Gives a file's bytes, and changes the file right after, ``times`` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def load(self, path: Path) -> bytes:
        data = path.read_bytes()
        if self.left:
            self.left -= 1
            path.write_text(f"Version {self.left}.")
        return data


def prepare(path: Path, disk: UnsteadyDisk) -> Prepared:
    return Preparer({}, {}, load=disk.load).one(str(path), Hints.of(path.stat()))


def test_a_file_that_changes_once_is_read_again(tmp_path: Path) -> None:
    """What is indexed is a content that the file had as a whole, the later one."""
    path = tmp_path / "a.txt"
    path.write_text("Otters swim.")
    prepared = prepare(path, UnsteadyDisk(1))
    assert (prepared.kind, [chunk.text for chunk in prepared.chunks]) == ("new", ["Version 0."])


def test_a_file_that_never_stands_still_is_skipped_for_now(tmp_path: Path) -> None:
    """It is listed with the reason, and its hints equal nothing, so that the next run tries again."""
    path = tmp_path / "a.txt"
    path.write_text("Otters swim.")
    prepared = prepare(path, UnsteadyDisk(100))
    assert (prepared.kind, prepared.source.reason) == ("skipped", "it changes while it is read")
    assert prepared.source.hints != Hints.of(path.stat())


def test_a_file_that_vanishes_is_gone(tmp_path: Path) -> None:
    """A file that is deleted between the listing and the reading is no error; it was not known, so it is not counted."""
    prepared = Preparer({}, {}).one(str(tmp_path / "a.txt"), Hints(1, 1, 1, 1))
    assert (prepared.kind, prepared.known) == ("gone", False)

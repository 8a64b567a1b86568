"""Files that are replaced in one step."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfrag._util import write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """What was there before is gone, and nothing lies beside it."""
    file = tmp_path / "a.json"
    file.write_bytes(b"a longer text than the new one")
    write_whole(file, [b"new ", b"text"])
    assert file.read_bytes() == b"new text"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the pieces end in an error, the file is as it was, and no half of a new one is left."""
    file = tmp_path / "a.json"
    file.write_bytes(b"old")

    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(file, pieces())
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """A folder cannot be replaced by a file: the error is of the folder, not of the draft beside it, which is gone."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_whole(tmp_path / "folder", [b"text"])
    assert caught.value.filename == str(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What a link points to is replaced, wherever it lies."""
    (tmp_path / "elsewhere").mkdir()
    link, target = tmp_path / "link", tmp_path / "elsewhere" / "file"
    link.symlink_to(target)
    write_whole(link, [b"text"])
    assert link.is_symlink()
    assert target.read_bytes() == b"text"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """A pipe, as /dev/stdout may be one, gets the text and is not replaced by a file."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, [b"te", b"xt"])
    reader.join(10)
    assert read == [b"text"]
    assert pipe.is_fifo()

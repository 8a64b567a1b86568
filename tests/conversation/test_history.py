"""The history file: what is kept, found and dropped, from several processes and through kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from selfrag.answers.schema import answer_json
from selfrag.conversation.history import History, entry_json
from selfrag.errors import InputError, UsageError
from selfrag.types import SearchOptions
from tests.fake_agent import fake_answer


def document(question: str) -> dict[str, Any]:
    return answer_json(fake_answer(question, SearchOptions()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite"


def test_an_answer_comes_back_as_it_was(file: Path) -> None:
    """The document, what was typed and the conditions come back equal, from another opening of the file."""
    with History.open(file) as history:
        entry = history.add(document("When was Ada born? 😀"), "and when was she born?", conditions={"options": {"k": 5}})
    with History.open(file) as history:
        assert history.get(entry.id) == entry
        assert history.last() == entry
        assert entry_json(entry)["typed"] == "and when was she born?"


def test_only_the_owner_may_read_it(file: Path) -> None:
    """The file has mode 0600 from its first moment, under any umask, and again if it was opened up; no file stays beside it."""
    before = os.umask(0)
    try:
        with History.open(file) as history:
            history.add(document("Why?"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    with History.open(file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["history.sqlite"]


def test_sessions(file: Path) -> None:
    """Answers with a session's number join it in order; without one, or with one that is gone, they begin another."""
    with History.open(file) as history:
        first = history.add(document("Who?"))
        second = history.add(document("When?"), session=first.session)
        other = history.add(document("Where?"))
        gone = history.add(document("Why?"), session=99)
        assert [e.id for e in history.session(first.session)] == [first.id, second.id]
        assert len({first.session, other.session, gone.session}) == 3


def test_finding(file: Path) -> None:
    """Every word counts, whatever its case and composition; the newest comes first; percent signs are only text."""
    with History.open(file) as history:
        for question in ("When was Zoë born?", "훈민정음은 언제 만들어졌나?", "Is 50% of it water?", "Where was ZOE\u0308 born?"):
            history.add(document(question))
        assert [e.document["question"][:5] for e in history.find("zoë BORN")] == ["Where", "When "]
        assert [e.id for e in history.find("훈민정음")] == [2]
        assert [e.id for e in history.find("50%")] == [3]
        assert [e.id for e in history.find(limit=2)] == [4, 3]
        assert history.find("nothing") == []


def test_feedback(file: Path) -> None:
    """A verdict is kept with its note and replaces an earlier one; an unknown answer or verdict is an error."""
    with History.open(file) as history:
        id = history.add(document("Who?")).id
        history.rate(id, "good")
        history.rate(id, "bad", "wrong year")
        assert [(e.id, e.verdict, e.note) for e in history.rated()] == [(id, "bad", "wrong year")]
        with pytest.raises(InputError, match="no answer 7"):
            history.rate(7, "good")
        with pytest.raises(UsageError):
            history.rate(id, "fine")  # type: ignore[arg-type]


def test_removed_text_is_gone_from_the_file(file: Path) -> None:
    """What is removed is not in the file any more, and its number is not given out again; an unknown number removes nothing."""
    with History.open(file) as history:
        first, second = history.add(document("topsecret one")), history.add(document("another"))
        with pytest.raises(InputError):
            history.remove([first.id, 99])
        assert b"topsecret" in file.read_bytes()
        history.remove([first.id])
        assert b"topsecret" not in file.read_bytes()
        assert history.clear() == 1
        assert history.add(document("next")).id == second.id + 1


def test_the_size_limit(file: Path) -> None:
    """Above the limit the oldest answers go, those with a verdict last; the newest always stays."""
    limit = 200_000
    with History.open(file, limit) as history:
        history.rate(history.add(document("kept")).id, "good")
        for number in range(60):
            history.add(document(f"question {number} " + "x" * 5000))
            assert file.stat().st_size <= limit + 30_000
        left = [e.document["question"].split(" x")[0] for e in history.find()]
        assert left[0] == "question 59"
        assert left[-1] == "kept"
        assert 5 < len(left) < 30


WRITER = """
import sys
from pathlib import Path
from selfrag.conversation.history import History
from tests.conversation.test_history import document
with History.open(Path(sys.argv[1])) as history:
    for number in range(int(sys.argv[3])):
        entry = history.add(document(f"{sys.argv[2]} {number}"))
        print(entry.id, flush=True)
"""


def writer(file: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(file), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_writers_at_once(file: Path) -> None:
    """Four processes that make the file and write to it at once lose no answer."""
    running = [writer(file, f"writer{number}", 25) for number in range(4)]
    ids = [int(line) for process in running for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in running] == [0] * 4
    with History.open(file) as history:
        assert sorted(ids) == sorted(e.id for e in history.find())
        assert len(ids) == 100


def test_a_kill_loses_nothing(file: Path) -> None:
    """Every answer that `add` returned for is there after SIGKILL, and the file is sound."""
    for delay in (0.0, 0.01, 0.03):
        process = writer(file, f"killed{delay}", 100_000)
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(10)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.communicate(timeout=60)[0].split("\n")[:-1]]
        with History.open(file) as history:
            assert set(seen) <= {e.id for e in history.find()}
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 20])
def test_a_damaged_file(file: Path, content: bytes) -> None:
    """A file that is no history is an error with its name and what to do, and stays as it was."""
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"history\.sqlite"):
        History.open(file)
    assert file.read_bytes() == content


def test_a_newer_file(file: Path) -> None:
    """A history of a later version is refused, not rewritten."""
    with History.open(file) as history:
        history.db.execute("PRAGMA user_version=9")
    with pytest.raises(InputError, match="version 9"):
        History.open(file)

"""`ask --continue`, `chat`, `history`, `feedback` and `calibrate --from-history` from the command line, on a tiny model."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.engines import tiny

QUESTION = "What is the capital of Korea?"


@pytest.fixture
def own(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `ready`'s home, so that its history is empty."""
    home = tmp_path / "own"
    shutil.copytree(ready, home, ignore=shutil.ignore_patterns("history*", "services"))
    monkeypatch.setenv("SELFRAG_HOME", str(home))
    return home


def entries(run: Run, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(run("history", "--json", *arguments).out)
    return found


def test_history_shows_the_same_document(own: Path, run: Run) -> None:
    """`history show ID --json` prints what `ask --json` printed, to the letter; without --json it is for a person."""
    asked = run("ask", QUESTION, "--json")
    assert run("history", "show", "1", "--json").out == run("history", "show", "last", "--json").out == asked.out
    shown = run("history", "show", "1").out
    assert tiny.KOREAN in shown
    assert "Seoul is the capital and largest city" in shown
    [entry] = entries(run)
    assert (entry["id"], entry["question"], entry["answer"], entry["feedback"]) == (1, QUESTION, tiny.KOREAN, None)


def test_history_finds(own: Path, run: Run) -> None:
    """--search takes words of questions and answers, the newest first; no answer is an empty list."""
    run("ask", QUESTION, "-q")
    run("ask", "Who lives in Lyon?", "-q")
    assert [entry["id"] for entry in entries(run)] == [2, 1]
    assert [entry["id"] for entry in entries(run, "--search", "CAPITAL korea")] == [1]
    assert entries(run, "--search", "nothing like it") == []
    assert "nothing found" in run("history", "--search", "nothing like it").err
    assert QUESTION in run("history", "--limit", "5").out


def test_no_history(own: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-history, and the setting, keep nothing; nothing is made."""
    run("ask", QUESTION, "--no-history")
    monkeypatch.setenv("SELFRAG_HISTORY", "false")
    run("ask", QUESTION)
    assert not (own / "data" / "history.sqlite").exists()


def test_an_answer_is_not_lost_with_a_broken_history(own: Path, run: Run) -> None:
    """Where the history cannot be used, the answer is printed all the same, with a warning; --continue is an error."""
    (own / "data" / "history.sqlite").write_bytes(b"no database " * 100)
    done = run("ask", QUESTION)
    assert (done.code, tiny.KOREAN in done.out, "warning: the history" in done.err) == (0, True, True)
    assert run("ask", "why?", "--continue").code == 1


def test_removing(own: Path, run: Run) -> None:
    """`history rm` takes numbers or --all; a number that does not exist removes nothing."""
    for _ in range(3):
        run("ask", QUESTION, "-q")
    assert run("history", "rm", "1", "9").code == 1
    assert run("history", "rm", "1").code == 0
    assert [entry["id"] for entry in entries(run)] == [3, 2]
    assert (run("history", "rm").code, run("history", "rm", "2", "--all").code) == (2, 2)
    assert run("history", "rm", "--all").code == 0
    assert entries(run) == []


def test_feedback(own: Path, run: Run) -> None:
    """A verdict with its note is listed; an unknown number, and a word that is no number, are errors with what to do."""
    run("ask", QUESTION, "-q")
    assert run("feedback", "last", "good").code == 0
    assert run("feedback", "1", "bad", "--note", "too short").code == 0
    [entry] = entries(run)
    assert (entry["feedback"], entry["note"]) == ("bad", "too short")
    assert "too short" in run("history", "show", "1").out
    assert (run("feedback", "7", "good").code, run("feedback", "x", "good").code, run("feedback", "1", "fine").code) == (1, 2, 2)


def test_continue(own: Path, run: Run) -> None:
    """A follow-up is understood from the last question, which stderr shows, and joins its session; the history keeps both."""
    assert run("ask", "and when?", "--continue").code == 2
    run("ask", "How tall is the Eiffel Tower?", "-q")
    done = run("ask", "who built it?", "--continue", "--json")
    assert json.loads(done.out)["question"] == "Who built the Eiffel Tower?"
    assert "→ Who built the Eiffel Tower?" in done.err
    newest, oldest = entries(run)
    assert (newest["typed"], newest["session"]) == ("who built it?", oldest["session"])
    off = run("ask", "who built it?", "--continue", "--rewrite", "off", "--json")
    assert json.loads(off.out)["question"] == "who built it?"


def test_calibrate_from_history(own: Path, run: Run, tiny_model: Path, tmp_path: Path) -> None:
    """Thresholds are fitted on rated answers and make a profile that `ask` takes; verdicts of one kind, or of another
    model, are an error that says so."""
    for question, verdict in ((QUESTION, "good"), ("Who lives in Lyon?", "bad"), ("Where is Seoul?", "good"), ("Why?", "bad")):
        run("ask", question, "-q", "--mode", "always", "--abstain-isrel", "0", "--abstain-issup", "0")
        assert run("feedback", "last", verdict).code == 0
    done = run("calibrate", "--from-history", "--name", "mine", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["questions"] == 4
    assert set(document["thresholds"]) == {"isrel", "issup", "isuse", "confidence"}
    assert Path(document["file"]).exists()
    assert run("ask", QUESTION, "-q", "--profile", "mine").code in (0, 3)
    other = run("calibrate", "--from-history", "--model", shutil.copytree(tiny_model, tmp_path / "other"))
    assert (other.code, "4 rated answers were left out: answered by another model" in other.err) == (1, True)
    run("history", "rm", "2", "4")
    assert "judged alike" in run("calibrate", "--from-history").err
    assert run("calibrate").code == 2
    assert run("calibrate", "questions.jsonl", "--from-history").code == 2


def chat(run: Run, monkeypatch: pytest.MonkeyPatch, *lines: str) -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    done = run("chat")
    return done.out + done.err


def test_chat_commands(own: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A conversation is kept, rated, saved and reopened; /new forgets it."""
    file = tmp_path / "talk.md"
    said = chat(run, monkeypatch, QUESTION, "/good quite right", "how big is it?", f"/save {file}", "/new", "how big is it?")
    assert "→ How big is Seoul?" not in said.split("a new conversation")[-1]
    text = file.read_text("utf-8")
    assert text.startswith(f"# {QUESTION}\n")
    assert "Seoul.txt:1" in text
    assert re.search(r"ISREL \d\.\d\d", text)
    sessions = [(entry["session"], entry["typed"], entry["feedback"]) for entry in entries(run)]
    assert sessions == [(2, "how big is it?", None), (1, "how big is it?", None), (1, QUESTION, "good")]

    said = chat(run, monkeypatch, "/history capital", "/open 1", "when was it founded?", "/open 77", "/save", "/open x", "/bad")
    assert f"→ {QUESTION}" in said
    assert entries(run)[0]["session"] == 1
    assert "no answer 77" in said
    assert "/save conversation.md" in said


def test_commands_that_need_an_answer(own: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first question /show, /plain, /good and /save say what is missing, and the conversation goes on."""
    said = chat(run, monkeypatch, "/show", "/plain", "/good", "/save x.md", "/help", QUESTION)
    assert said.count("nothing has been asked yet") == 3
    assert "there is no kept answer to rate" in said
    assert "/open N" in said
    assert tiny.KOREAN in said


def test_plain(own: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """/plain asks again what was typed, without rewriting it."""
    chat(run, monkeypatch, "How tall is the Eiffel Tower?", "who built it?", "/plain")
    assert [entry["question"] for entry in entries(run)][:2] == ["who built it?", "Who built the Eiffel Tower?"]

"""`batch`, `eval`, `compare` and `calibrate` from the command line to the file, on a tiny model and a real index."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from selfrag.batch.run import Tally
from selfrag.cli.batch_runs import clock, exit_code, status, summary
from tests.cli.conftest import Run
from tests.engines import tiny
from tests.rows import row

KOREA, HELLO = "What is the capital of Korea?", "Say hello."


def questions(folder: Path, *more: str) -> Path:
    """Two questions that the tiny model answers, then ``more`` lines as they are."""
    rows = [
        {"id": "k", "question": KOREA, "answers": ["서울"], "sources": ["Seoul"], "topic": "cities"},
        {"id": "h", "question": HELLO, "answers": ["Hello"]},
    ]
    path = folder / "questions.jsonl"
    path.write_text(
        "".join(line + "\n" for line in [*(json.dumps(r, ensure_ascii=False) for r in rows), *more]), encoding="utf-8"
    )
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_batch_writes_a_row_for_each_question(ready: Path, run: Run, tmp_path: Path) -> None:
    """Rows are those of `ask --json` with the input's columns; a malformed one fails alone, with status 4."""
    out = tmp_path / "out.jsonl"
    done = run("batch", questions(tmp_path, "{bad"), "-o", out)
    assert done.code == 4, done.err
    rows = {str(r["id"]): r for r in read(out)}
    assert set(rows) == {"k", "h", "line-3"}
    assert (rows["k"]["answer"], rows["k"]["topic"], rows["k"]["status"]) == (tiny.KOREAN, "cities", "answered")
    assert str(rows["line-3"]["error"]).startswith("line 3: not JSON")
    assert done.out == ""
    assert "2 answered, 0 abstained, 1 failed\n  → the first failure: line 3: not JSON" in done.err


def test_batch_goes_on_and_refuses_other_settings(ready: Path, run: Run, tmp_path: Path) -> None:
    """A second call answers what is missing; other settings are refused with the ways out, of which each works."""
    out, source = tmp_path / "out.jsonl", questions(tmp_path)
    assert run("batch", source, "-o", out, "--limit", 1).code == 0
    again = run("batch", source, "-o", out)
    assert (again.code, len(read(out))) == (0, 2)
    assert "1 done before" in again.err
    refused = run("batch", source, "-o", out, "-k", 1)
    assert refused.code == 1
    assert "k was 5 and is 1" in refused.err
    assert "--append" in refused.err
    assert run("batch", source, "-o", out, "-k", 1, "--append").code == 0
    assert run("batch", source, "-o", out, "-k", 1, "--restart", "-q").err == ""
    assert len(read(out)) == 2


def test_batch_prints_to_stdout_without_an_output(ready: Path, run: Run, tmp_path: Path) -> None:
    """Without -o, stdout holds the rows, one JSON document a line, and nothing else."""
    done = run("batch", questions(tmp_path), "--limit", 1, "-q")
    assert done.code == 0
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["k"]
    assert done.err == ""


def test_batch_reads_stdin(ready: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input."""
    with questions(tmp_path).open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        done = run("batch", "-", "-o", tmp_path / "out.csv", "--concurrency", 1)
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8", newline="")))
    assert [r["id"] for r in rows] == ["k", "h"]
    assert rows[0]["answer"] == tiny.KOREAN


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["missing.jsonl"], "cannot be read"),
        (["Q", "--restart", "--append"], "exclude each other"),
        (["Q", "--task", "quiz"], "unknown task"),
        (["Q", "--timeout", "0"], "--timeout is 0"),
        (["-", "--sample", "3"], "cannot be sampled"),
        (["T"], "T.csv: the header has no column"),
    ],
)
def test_batch_refuses_what_cannot_be(ready: Path, run: Run, tmp_path: Path, arguments: list[str], told: str) -> None:
    """Each refusal names the value and ends before a model is loaded or a file is made."""
    source, table = questions(tmp_path), tmp_path / "T.csv"
    table.write_text("a,b\n1,2\n")
    done = run("batch", *({"Q": source, "T": table}.get(a, a) for a in arguments), "-o", tmp_path / "out.jsonl")
    assert done.code in (1, 2)
    assert told in done.err
    assert not (tmp_path / "out.jsonl").exists()


def test_the_questions_are_not_overwritten(ready: Path, run: Run, tmp_path: Path) -> None:
    """An output in the place of its own questions is refused, --restart or not, also where they are an output themselves."""
    source = questions(tmp_path)
    assert run("batch", source, "-o", tmp_path / "run.jsonl", "-q").code == 0
    for file in (source, tmp_path / "run.jsonl"):
        text = file.read_bytes()
        done = run("batch", file, "-o", file, "--restart")
        assert (done.code, file.read_bytes()) == (2, text)
        assert "is the file of questions" in done.err


def test_eval_needs_questions(ready: Path, run: Run, tmp_path: Path) -> None:
    """Figures of no question at all are no report."""
    (tmp_path / "none.jsonl").write_text("\n")
    done = run("eval", tmp_path / "none.jsonl")
    assert (done.code, done.out) == (1, "")
    assert "holds no question" in done.err


def test_eval_adds_distractors(ready: Path, run: Run, tmp_path: Path) -> None:
    """Every search has them besides what it found; a run without them cannot be resumed with them, or scored."""
    out, source = tmp_path / "run.jsonl", questions(tmp_path)
    done = run("eval", source, "-o", out, "-k", 1, "--distractors", "random:3")
    assert done.code == 0, done.err
    first = next(row for row in read(out) if row["id"] == "k")
    assert [passage["title"] for passage in first["passages"]] == ["Seoul", "Lyon"]  # type: ignore[attr-defined]
    assert "distractors was" in run("eval", source, "-o", out, "-k", 1).err
    assert run("eval", out, "--distractors", "random:3").code == 2
    assert run("eval", source, "--results", out, "--distractors", "random:3").code == 2
    assert "--mode never" in run("eval", source, "--mode", "never", "--distractors", "random:3").err


def test_eval_runs_and_scores(ready: Path, run: Run, tmp_path: Path) -> None:
    """The table has the figures; the rows are kept and score the same; the picture is drawn."""
    out, plot = tmp_path / "run.jsonl", tmp_path / "run.svg"
    done = run("eval", questions(tmp_path), "-o", out, "--plot", plot)
    assert done.code == 0, done.err
    assert "2 questions: 2 answered" in done.out
    assert "accuracy (gold answer within)" in done.out
    assert "<svg" in plot.read_text()
    again = json.loads(run("eval", out, "--json").out)
    assert again["schema"] == "selfrag.report/1"
    assert again["metrics"]["accuracy"]["n"] == 2
    assert again["metrics"]["recall@1"]["value"] == 1.0
    assert again["metrics"]["abstention_recall"]["note"] == "no unanswerable questions"
    other = tmp_path / "gold.jsonl"
    other.write_text(json.dumps({"id": "h", "question": HELLO, "answers": ["Goodbye"]}) + "\n")
    assert json.loads(run("eval", other, "--results", out, "--json").out)["metrics"]["accuracy"]["value"] == 0.0
    assert "| exact match |" in run("eval", out, "--markdown").out


def test_compare_pairs_two_runs(run: Run, tmp_path: Path) -> None:
    """The differences are B minus A; a file that is no run is refused."""
    for name, answer in (("a", "Lyon"), ("b", "Paris")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row(str(i), answer)) + "\n" for i in range(6)))
    done = run("compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--changes", "1")
    assert done.code == 0, done.err
    assert "6 questions in both runs" in done.out
    assert "Changed sides: 6 questions, 6 for the better" in done.out
    found = json.loads(run("compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json").out)
    assert next(d for d in found["differences"] if d["name"] == "em")["difference"]["value"] == 1.0
    (tmp_path / "c.jsonl").write_text('{"question": "x"}\n{"question": "y"}\n')
    assert run("compare", tmp_path / "a.jsonl", tmp_path / "c.jsonl").code == 1


def test_calibrate_writes_a_profile_that_is_used(ready: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted on the questions holds in the next run under --profile, and the meta file shows it."""
    source = questions(tmp_path, json.dumps({"id": "u", "question": "Is the sky blue?", "unanswerable": True}))
    done = run("calibrate", source, "--name", "tiny", "-o", tmp_path / "runs")
    assert done.code == 0, done.err
    assert "profile tiny: 3 questions" in done.out
    assert "answerability, macro-F1" in done.out
    assert (ready / "profiles" / "tiny.toml").exists()
    found = json.loads(run("calibrate", source, "--name", "tiny", "-o", tmp_path / "runs", "--json", "-q").out)
    out = tmp_path / "out.jsonl"
    assert run("batch", source, "-o", out, "--profile", "tiny", "-q").code == 0
    settings = json.loads((tmp_path / "out.jsonl.meta.json").read_text())["settings"]
    assert settings["abstain_isrel"] == found["thresholds"]["isrel"]
    assert settings["temperatures"] == found["temperatures"]
    assert run("calibrate", source, "--mode", "never").code == 2
    profile = ready / "profiles" / "tiny.toml"
    profile.write_text(profile.read_text().replace('model = "', 'model = "not-'))
    assert "fitted on not-" in run("batch", source, "-o", out, "--profile", "tiny").err


def test_progress_says_what_a_person_waits_for() -> None:
    """Count, share, rate, time left, abstentions and failures; an unknown total is left out."""
    tally = Tally(total=200, resumed=20, answered=80, abstained=20, failed=0)
    tally.times.clear()
    tally.times.extend([0.0, 10.0, 20.0])
    assert status(tally) == "120/200  60%  0.1/s  13:20 left  abstained 20%  failed 0"
    assert status(Tally(total=None, answered=3)).startswith("3  0.0/min")
    assert clock(3725) == "1:02:05"
    tally.stopped = "interrupted"
    assert "the same command resumes" in summary(tally)
    assert exit_code(tally) == 130
    assert [exit_code(Tally(failed=1)), exit_code(Tally(answered=1)), exit_code(Tally(stopped="failures"))] == [4, 0, 1]

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfrag.batch.journal import Journal, MemorySink, Meta, Sink, open_journal
from selfrag.batch.rows import Row, make_row, read_jsonl, unique
from selfrag.batch.run import Batch, Plan, Tally, interruptible
from selfrag.errors import EngineBusy, EngineError, InputError, LockedError
from selfrag.types import Answer, SearchOptions
from tests.fake_agent import FakeAgent

META = Meta("sha", {"model": "m", "k": 5})


def questions(count: int) -> list[Row]:
    return [make_row({"id": f"q{i}", "question": f"Q{i} who?", "topic": i}, i + 1) for i in range(count)]


async def run(rows: list[Row] | Iterator[Row], agent: FakeAgent, sink: Sink, **plan: object) -> Tally:
    settings = {"pause": 0.0, "concurrency": 4, **plan}
    return await Batch(agent.ask, SearchOptions(), sink, Plan(**settings)).run(rows)  # type: ignore[arg-type]


def journal(path: Path, rows: list[Row], meta: Meta = META, on_change: str = "refuse") -> Journal:
    return open_journal(path, meta, lambda: rows, on_change)  # type: ignore[arg-type]


async def written(path: Path, rows: list[Row], agent: FakeAgent | None = None, **how: object) -> list[dict[str, object]]:
    with journal(path, rows, **how) as sink:  # type: ignore[arg-type]
        await run(rows, agent or FakeAgent(), sink)
    return read_json(path)


def read_json(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# --- one run -------------------------------------------------------------------------------------------------------------------


async def test_rows_keep_their_id_and_columns_in_the_answer_schema() -> None:
    """An output row is what `ask --json` prints, with the input's id and its other columns beside it."""
    sink = MemorySink()
    await run([make_row({"id": 7, "question": "Ada who?", "topic": "x", "score": 1, "answers": ["Ada"]}, 3)], FakeAgent(), sink)
    (row,) = sink.rows
    assert (row["schema"], row["id"], row["answer"], row["status"]) == ("selfrag.answer/1", 7, "Ada", "answered")
    assert (row["topic"], row["answers"], row["input_score"], row["line"]) == ("x", ["Ada"], 1, 3)
    assert row["score"] == 3.0
    assert row["passages"][0]["source"] == "notes.md"
    assert "text" not in row["passages"][0]


async def test_choices_of_a_row_reach_the_search() -> None:
    """A row's "choices" close the set of answers for that row alone."""
    sink = MemorySink()
    rows = [make_row({"question": "A or b?", "choices": ["yes", "no"]}, 1), make_row({"question": "What?"}, 2)]
    await run(rows, FakeAgent(), sink, concurrency=1)
    assert [row["answer"] for row in sink.rows] == ["yes", "What?"]
    assert sink.rows[0]["choices"] == ["yes", "no"]


async def test_as_many_questions_as_asked_for_are_in_flight() -> None:
    """Concurrency is a bound that is reached and not passed."""
    agent = FakeAgent(delay=0.001)
    await run(questions(20), agent, MemorySink(), concurrency=5)
    assert agent.most_at_once == 5


async def test_the_input_is_read_no_further_ahead_than_needed() -> None:
    """An endless input is no problem: rows are read as they are answered."""
    read = itertools.count()

    def endless() -> Iterator[Row]:
        for i in itertools.count():
            next(read)
            yield make_row({"question": f"Q{i}?"}, i + 1)

    batch = Batch(FakeAgent(delay=0.001).ask, SearchOptions(), MemorySink(), Plan(concurrency=3))
    batch.tell = lambda tally: batch.stop() if tally.finished >= 30 and not tally.stopped else None
    tally = await batch.run(endless())
    assert tally.stopped == "interrupted"
    assert next(read) <= tally.finished + 2 * 3 + 2


async def test_malformed_rows_fail_alone() -> None:
    """Each bad row is in the output with its line, none is lost, and the good ones are answered."""
    raw = b'{"question": "A?"}\n{bad\n{"id": 1}\n{"id": "x", "question": "B?"}\n{"id": "x", "question": "C?"}\n'
    raw += b'{"question": "\xff"}\n' + json.dumps({"question": "y" * 1_000_000}).encode() + b"\n"
    sink = MemorySink()
    tally = await run(unique(read_jsonl(io.BytesIO(raw))), FakeAgent(), sink)
    by_line = {row["line"]: row for row in sink.rows}
    assert sorted(by_line) == [1, 2, 3, 4, 5, 6, 7]
    assert [by_line[n]["status"] for n in sorted(by_line)] == [
        "answered",
        "error",
        "error",
        "answered",
        "error",
        "error",
        "error",
    ]
    assert all(by_line[n]["error"].startswith(f"line {n}: ") for n in (2, 3, 5, 6, 7))
    assert len({str(row["id"]) for row in sink.rows}) == 7
    assert (tally.answered, tally.failed) == (2, 5)


# --- failures ------------------------------------------------------------------------------------------------------------------


async def test_a_busy_engine_is_asked_again() -> None:
    """A failure that passes leaves no mark in the row."""
    agent = FakeAgent(trouble={"Q0 who?": [EngineBusy("full"), EngineBusy("reset")]})
    sink = MemorySink()
    tally = await run(questions(1), agent, sink, retry=2)
    assert len(agent.asked) == 3
    assert (tally.answered, tally.failed) == (1, 0)


async def test_a_failure_that_no_attempt_changes_is_not_tried_again() -> None:
    """A prompt that is too long is too long the next time as well."""
    agent = FakeAgent(trouble={"Q0 who?": [EngineError("the prompt has 9000 tokens")]})
    sink = MemorySink()
    tally = await run(questions(1), agent, sink, retry=2)
    assert (len(agent.asked), tally.failed) == (1, 1)


async def test_a_failure_that_stays_is_in_its_row() -> None:
    """The row says why, the other rows are answered."""
    agent = FakeAgent(trouble={"Q1 who?": [EngineBusy("down")] * 2, "Q2 who?": [ValueError("odd")]})
    sink = MemorySink()
    tally = await run(questions(4), agent, sink, retry=1)
    errors = {row["id"]: row["error"] for row in sink.rows if row["status"] == "error"}
    assert errors == {"q1": "down", "q2": "ValueError: odd"}
    assert tally.answered == 2


async def test_a_question_that_takes_too_long_fails_alone() -> None:
    """The time limit is per question."""
    sink = MemorySink()
    await run(questions(1), FakeAgent(delay=5), sink, timeout=0.01)
    assert sink.rows[0]["error"] == "no answer within 0.01 s"


@pytest.mark.parametrize(("limit", "failed"), [(0, 1), (2, 3), (0.2, 3)])
async def test_too_many_failures_stop_the_run(limit: float, failed: int) -> None:
    """Beyond the number, or the share of all rows, the run stops instead of failing the whole night."""
    agent = FakeAgent(trouble={f"Q{i} who?": [ValueError("odd")] for i in range(10)})
    batch = Batch(agent.ask, SearchOptions(), MemorySink(), Plan(concurrency=1, fail_on_error=limit), total=10)
    tally = await batch.run(questions(10))
    assert tally.stopped == "failures"
    assert tally.failed == failed


async def test_a_share_of_an_unknown_total_is_judged_at_the_end() -> None:
    """Standard input has no length beforehand."""
    agent = FakeAgent(trouble={"Q0 who?": [ValueError("odd")]})
    tally = await run(questions(4), agent, MemorySink(), fail_on_error=0.1)
    assert (tally.stopped, tally.finished) == ("failures", 4)


# --- interruption --------------------------------------------------------------------------------------------------------------


async def test_interrupting_finishes_what_is_in_flight() -> None:
    """The first Ctrl-C starts no more questions and loses none that were begun."""
    agent, sink = FakeAgent(delay=0.01), MemorySink()

    async def ask(*asked: Any) -> Answer:
        if len(agent.asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return await agent.ask(*asked)

    batch = Batch(ask, SearchOptions(), sink, Plan(concurrency=3))
    with interruptible(batch):
        tally = await batch.run(questions(50))
    assert tally.stopped == "interrupted"
    assert len(sink.rows) == len(agent.asked) == 3


async def test_interrupting_twice_gives_up_at_once() -> None:
    """The second Ctrl-C does not wait for the questions in flight."""
    agent, sink = FakeAgent(delay=60), MemorySink()
    batch = Batch(agent.ask, SearchOptions(), sink, Plan(concurrency=3))
    asyncio.get_running_loop().call_later(0.01, lambda: (batch.stop(), batch.stop()))
    tally = await batch.run(questions(50))
    assert tally.stopped == "interrupted"
    assert sink.rows == []


# --- resuming ------------------------------------------------------------------------------------------------------------------


async def test_a_finished_run_answers_nothing_again(tmp_path: Path) -> None:
    """Resuming goes by id and question, and a complete file stays as it is."""
    rows, agent = questions(5), FakeAgent()
    first = await written(tmp_path / "out.jsonl", rows)
    assert await written(tmp_path / "out.jsonl", rows, agent) == first
    assert agent.asked == []


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
async def test_a_file_cut_anywhere_is_completed(tmp_path: Path, name: str) -> None:
    """Wherever the file ends, at any byte of its last line or here and there before, the resumed run has every row once and
    equals the uninterrupted one."""
    rows, out = [*questions(3), make_row({"id": "nl", "question": 'say "x,\ny"'}, 9)], tmp_path / name
    with journal(out, rows) as sink:
        await run(rows, FakeAgent(), sink, concurrency=1)
    whole = out.read_bytes()
    last_line = whole.rstrip().rfind(b"\n")
    for size in (*range(1, last_line, 61), *range(last_line, len(whole), 3)):
        out.write_bytes(whole[:size])
        with journal(out, rows) as sink:
            await run(rows, FakeAgent(), sink, concurrency=1)
        assert out.read_bytes() == whole, size


async def test_failed_rows_are_tried_again(tmp_path: Path) -> None:
    """A resumed run replaces failures by answers and leaves one row for each id."""
    rows, out = questions(3), tmp_path / "out.jsonl"
    await written(out, rows, FakeAgent(trouble={"Q1 who?": [ValueError("odd")]}))
    again = FakeAgent()
    found = await written(out, rows, again)
    assert again.asked == ["Q1 who?"]
    assert sorted((r["id"], r["status"]) for r in found) == [(f"q{i}", "answered") for i in range(3)]


async def test_other_settings_are_refused_with_the_choice(tmp_path: Path) -> None:
    """The message names what changed, the hint the ways out."""
    rows, out = questions(3), tmp_path / "out.jsonl"
    await written(out, rows)
    with pytest.raises(InputError, match="k was 5 and is 3") as caught:
        journal(out, rows, Meta("sha", {"model": "m", "k": 3}))
    assert "--append" in (caught.value.hint or "")
    assert "--restart" in (caught.value.hint or "")
    with pytest.raises(InputError, match="the input has changed"):
        journal(out, rows, Meta("other", META.settings))


async def test_restart_begins_anew(tmp_path: Path) -> None:
    """Old rows are gone, also those of other questions."""
    out, agent = tmp_path / "out.jsonl", FakeAgent()
    await written(out, questions(3))
    found = await written(out, questions(2), agent, meta=Meta("other", {}), on_change="restart")
    assert len(found) == len(agent.asked) == 2


async def test_append_answers_only_what_is_new_or_changed(tmp_path: Path) -> None:
    """A grown input goes on; a question that changed under its id replaces the old row."""
    out, agent = tmp_path / "out.jsonl", FakeAgent()
    await written(out, questions(3))
    changed = [questions(1)[0], make_row({"id": "q1", "question": "Another?"}, 2), *questions(5)[2:]]
    found = await written(out, changed, agent, meta=Meta("other", META.settings), on_change="append")
    assert sorted(agent.asked) == ["Another?", "Q3 who?", "Q4 who?"]
    assert sorted(str(r["id"]) for r in found) == ["q0", "q1", "q2", "q3", "q4"]
    assert {r["id"]: r["question"] for r in found}["q1"] == "Another?"


async def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    """What batch did not write is neither resumed nor overwritten, a file of one line and a table no more than others."""
    for name, text in (("a.jsonl", '{"my": "data"}\n{"more": "data"}\n'), ("b.jsonl", '{"my": "data"}'), ("c.csv", "my,data\n")):
        out = tmp_path / name
        out.write_text(text)
        for choice in ("refuse", "append", "restart"):
            with pytest.raises(InputError):
                journal(out, questions(1), on_change=choice)
        assert out.read_text() == text


async def test_what_is_no_file_cannot_be_gone_on_with(tmp_path: Path) -> None:
    """A folder or a device as the output is told as what it is, and nothing is made beside it."""
    with pytest.raises(InputError, match="is not a file"):
        journal(tmp_path, questions(1))
    assert not list(tmp_path.parent.glob(f"*{tmp_path.name}.*"))


async def test_no_questions_make_an_empty_file(tmp_path: Path) -> None:
    """What comes after a run finds its output, also when there was nothing to ask."""
    assert await written(tmp_path / "out.jsonl", []) == []


async def test_two_runs_cannot_write_the_same_file(tmp_path: Path) -> None:
    """The second is told, and the file is free again when the first has ended."""
    with journal(tmp_path / "out.jsonl", []), pytest.raises(LockedError):
        journal(tmp_path / "out.jsonl", [])
    journal(tmp_path / "out.jsonl", []).close()


async def test_an_id_that_now_asks_something_else_stops_the_run(tmp_path: Path) -> None:
    """Standard input has no fingerprint, so the change is found at the row."""
    out, meta = tmp_path / "out.jsonl", Meta(None, {})
    await written(out, questions(2), meta=meta)
    with journal(out, [], meta) as sink, pytest.raises(InputError, match="answered for another question"):
        await run([make_row({"id": "q1", "question": "Another?"}, 1)], FakeAgent(), sink)


async def test_csv_rows_hold_the_main_figures(tmp_path: Path) -> None:
    """A CSV output has a column for each main figure and for each column of the input."""
    out = tmp_path / "out.csv"
    with journal(out, []) as sink:
        await run(questions(2), FakeAgent(), sink, concurrency=1)
    rows = list(csv.DictReader(out.open(newline="")))
    assert [row["id"] for row in rows] == ["q0", "q1"]
    assert rows[1]["topic"] == "1"
    assert rows[0]["citations"] == "notes.md:3"
    assert float(rows[0]["issup"]) == 0.9


def test_progress_tells_rate_and_time_left() -> None:
    """Rate and time left come from the last rows, and are not made up before there are any."""
    tally = Tally(total=10)
    assert (tally.rate, tally.seconds_left) == (0.0, None)
    tally.times.clear()
    tally.times.extend([0.0, 2.0, 4.0])
    tally.answered = 2
    assert tally.rate == 0.5
    assert tally.seconds_left == 16.0

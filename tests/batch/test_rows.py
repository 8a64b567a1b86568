from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from selfrag.batch.questions import open_questions
from selfrag.batch.rows import MAX_LINE, Row, read_csv, read_jsonl, sample, survey, unique
from selfrag.errors import InputError


def jsonl(*lines: bytes | dict[str, object]) -> list[Row]:
    raw = b"\n".join(json.dumps(line).encode() if isinstance(line, dict) else line for line in lines)
    return list(unique(read_jsonl(io.BytesIO(raw))))


def csv_rows(text: str | bytes) -> list[Row]:
    raw = text if isinstance(text, bytes) else text.encode()
    return list(read_csv(io.BytesIO(raw), "q.csv"))


def test_a_row_keeps_its_id_and_its_other_columns() -> None:
    """Columns that are not the question stay with the row, whatever they are."""
    (row,) = jsonl({"id": 7, "question": "Who?", "answers": ["Ada"], "topic": None})
    assert (row.id, row.question, row.problem) == (7, "Who?", None)
    assert row.extra == {"answers": ["Ada"], "topic": None}


def test_a_row_without_an_id_gets_a_stable_one() -> None:
    """The id comes from the line and the question, so that the same file gives the same ids."""
    first, second = jsonl({"question": "Who?"}), jsonl({"question": "Who?"})
    assert first[0].id == second[0].id == f"1-{first[0].digest[:8]}"
    assert jsonl({"question": "What?"})[0].id != first[0].id


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"question": "Who?"', "not JSON"),
        (b'["Who?"]', "not a JSON object"),
        (b'{"id": "a"}', 'there is no "question"'),
        (b'{"question": "  "}', "no"),
        (b'{"question": 5}', "not a text"),
        (b'{"question": "\xe4rger"}', "not UTF-8 at byte 15"),
        (b'{"question": "\\ud800"}', "not valid Unicode"),
        (b'{"question": "Who?", "id": [1]}', '"id" is [1]'),
        (b'{"question": "Who?", "id": true}', '"id" is True'),
        (b'{"question": "Who?", "choices": "a"}', '"choices" is not a list'),
        (b'{"question": "Who?", "x": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps({"question": "x" * 1_000_000}).encode(), "the question has 1,000,000 characters"),
    ],
)
def test_what_is_no_question_is_a_row_with_a_problem(line: bytes, problem: str) -> None:
    """A malformed row is told with its line, keeps little of its text, and the next row is read all the same."""
    bad, good = jsonl(line, {"question": "Next?"})
    assert problem in (bad.problem or "")
    assert bad.line == 1
    assert len(bad.question) <= 201
    assert good.question == "Next?"


def test_a_line_without_end_is_reported_and_skipped() -> None:
    """A line beyond the limit is not held in memory; the line after it is read."""
    rows = jsonl(b'{"question": "' + b"x" * (MAX_LINE + 5) + b'"}', {"question": "Next?"})
    assert [row.line for row in rows] == [1, 2]
    assert "longer than" in (rows[0].problem or "")
    assert rows[1].problem is None


def test_a_duplicate_id_is_a_problem_of_the_second_row() -> None:
    """7 and "7" are the same id; the second row is reported under an id of its own."""
    rows = jsonl({"id": 7, "question": "A?"}, {"id": "7", "question": "B?"}, {"id": 8, "question": "C?"})
    assert [row.problem for row in rows] == [None, "the id '7' occurs twice", None]
    assert len({row.key for row in rows}) == 3


def test_a_byte_order_mark_and_blank_lines_are_no_rows() -> None:
    """Files from Windows editors read like any other."""
    (row,) = jsonl(b'\xef\xbb\xbf{"question": "Who?"}\r', b"  ", b"")
    assert row.question == "Who?"
    assert row.problem is None


def test_csv_columns_become_the_row() -> None:
    """Lists are JSON or separated by |, and a semicolon may separate the columns."""
    rows = csv_rows('id;question;answers;choices;unanswerable\na;"Who; there?";Ada|Grace;"[""x"", ""y""]";true\n')
    assert rows[0].question == "Who; there?"
    assert rows[0].choices == ("x", "y")
    assert rows[0].extra["answers"] == ["Ada", "Grace"]
    assert rows[0].extra["unanswerable"] is True


def test_csv_rows_that_are_wrong_are_reported_with_their_line() -> None:
    """Too many fields, a wrong encoding and a bad quote each cost their own row."""
    rows = csv_rows(b'id,question\na,Who, me?\nb,\xe4rger\nc,"x"y\nd,Fine?\n')
    assert [row.line for row in rows] == [2, 3, 4, 5]
    assert [bool(row.problem) for row in rows] == [True, True, True, False]


def test_csv_lines_count_through_quoted_line_breaks() -> None:
    """The line of a row is where it begins in the file."""
    rows = csv_rows('id,question\na,"Who\nis it?"\nb,\n')
    assert [(row.line, bool(row.problem)) for row in rows] == [(2, False), (4, True)]


def test_a_quote_that_never_ends_names_the_lines_it_swallows() -> None:
    """Nothing is lost in silence when a quote is left open."""
    rows = csv_rows('id,question\na,"Who\nb,What?\nc,Why?\n')
    assert "runs to line 4" in (rows[-1].problem or "")


def test_csv_without_a_question_column_is_refused() -> None:
    """No row could be read, so the input as a whole is refused, with its header."""
    with pytest.raises(InputError, match='no column "question"'):
        csv_rows("id,query\na,Who?\n")


def test_the_same_seed_draws_the_same_sample() -> None:
    """A sample keeps the order of the input and does not depend on anything but the seed."""
    rows = jsonl(*({"question": f"Q{i}?"} for i in range(50)))
    drawn = [row.line for row in sample(rows, 50, 10, seed=3)]
    assert drawn == sorted(drawn) == [row.line for row in sample(rows, 50, 10, seed=3)]
    assert len(drawn) == 10
    assert drawn != [row.line for row in sample(rows, 50, 10, seed=4)]
    assert len(list(sample(rows, 50, 99, seed=1))) == 50


def test_a_survey_counts_rows(tmp_path: Path) -> None:
    """One pass gives the fingerprint and the number of lines, also without a newline at the end."""
    path = tmp_path / "q.jsonl"
    path.write_bytes(b"a\nb")
    assert survey(path).lines == 2
    with pytest.raises(InputError, match="cannot be read"):
        survey(tmp_path / "none.jsonl")


def test_other_forms_of_questions(tmp_path: Path) -> None:
    """A JSON array of rows or of texts, plain lines, and what a spreadsheet writes as Unicode text, are told apart."""
    files = {
        "array.json": b'[{"question": "one", "id": "a"},\n {"question": "two"}]',
        "texts.json": b'["one", "two"]',
        "lines.txt": b"one\n\ntwo\n",
        "table.csv": "question;answers\r\none;x\r\ntwo;y\r\n".encode("utf-16"),
        "rows.jsonl": '{"question": "one"}\n{"question": "two"}\n'.encode("utf-16"),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        questions = open_questions(str(path))
        assert [(row.question, row.problem) for row in questions.rows()] == [("one", None), ("two", None)], name


def test_a_broken_array_is_told(tmp_path: Path) -> None:
    """What begins as a JSON array and is none cannot be read at all; items that are no questions are rows with a problem."""
    path = tmp_path / "broken.json"
    path.write_text('["one", ')
    with pytest.raises(InputError, match="not a JSON array"):
        list(open_questions(str(path)).rows())
    path.write_text('["one", 2]')
    assert [row.problem for row in open_questions(str(path)).rows()] == [None, "neither a JSON object nor a text"]

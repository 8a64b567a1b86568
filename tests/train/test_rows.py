"""The row format: what is written is read back, and what is malformed is refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag.algorithm.reflection import FULLY, PARAGRAPH, RELEVANT, RETRIEVAL
from selfrag.errors import InputError
from selfrag.train.rows import END, control, evidence, packed, prompt, read, text, to_json

ROW = packed(
    "a", "test", (prompt("Where?"), *evidence("Paris", "It is in France.")),
    [(control(RELEVANT), text("France", 1.0), control(FULLY), END), (control(RELEVANT, 0.0), text("Spain"))],
)  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    """A row is read back as it was written."""
    file = tmp_path / "rows.jsonl"
    file.write_text(to_json(ROW) + "\n", encoding="utf-8")
    assert list(read(file)) == [ROW]


def test_prompt_and_evidence_follow_the_grammar() -> None:
    """The prompt and the evidence have the words of inference, and no loss stands inside a passage."""
    assert prompt("Do it.", "this").value == "### Instruction:\nDo it.\n\n### Input:\nthis\n\n### Response:\n"
    parts = evidence("Paris", "It is in France.")
    assert [p.value for p in parts] == [RETRIEVAL, PARAGRAPH, "Paris\nIt is in France.", "</paragraph>"]
    assert [p.loss > 0 for p in parts] == [True, False, False, False]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"id": 1, "source": "s", "branches": []}',
        '{"id": 1, "source": "s", "branches": [{"parent": 0, "parts": [{"text": "a"}]}]}',
        '{"id": 1, "source": "s", "branches": [{"parent": -1, "parts": []}]}',
        '{"id": 1, "source": "s", "branches": [{"parent": -1, "parts": [{"control": "[Maybe]"}]}]}',
        '{"id": 1, "source": "s", "branches": [{"parent": -1, "parts": [{"text": "a", "loss": -1}]}]}',
        '{"id": 1, "source": "s", "branches": [{"parent": -1, "parts": [{"text": 5}]}]}',
    ],
)
def test_malformed_rows_are_refused_by_line(tmp_path: Path, line: str) -> None:
    """A malformed row stops the reading with its file and line."""
    file = tmp_path / "rows.jsonl"
    file.write_text(to_json(ROW) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2"):
        list(read(file))

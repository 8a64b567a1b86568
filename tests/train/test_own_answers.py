"""Rows from the model's own answers: what is right, what is supported, and what a row teaches."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from selfrag.algorithm.reflection import FULLY, IRRELEVANT, NO_SUPPORT, RELEVANT
from selfrag.errors import InputError
from selfrag.train.own_answers import Case, cases, is_right, row, support
from selfrag.train.prepare import PrepareConfig
from selfrag.train.rows import Branch, Example

PASSAGE = "Joliot won the prize in 1935. Her mother had won it in 1911."
OTHER = "Curie was born in Warsaw in 1867."
CASE = Case("1", "squad2", "When did Joliot win the prize?", False, (("Joliot", PASSAGE), ("Curie", OTHER)),
            ("Joliot won the prize in 1935.",), ("1935",))  # fmt: skip


def taught(branch: Branch) -> list[str]:
    return [part.value for part in branch.parts if part.loss]


def behind(example: Example, parent: int) -> list[Branch]:
    return [branch for branch in example.branches if branch.parent == parent]


@pytest.mark.parametrize(("said", "right"), [
    ("Joliot won the prize in 1935.", True),
    ("It was 1935.", True),
    ("Her mother had it.", False),
    ("Joliot won the war.", None),
])  # fmt: skip
def test_an_answer_is_right_by_its_span_or_by_the_words_of_the_gold_sentence(said: str, right: bool | None) -> None:
    """An answer that holds the span is right; one that shares few words with the gold sentence is wrong; between, unknown."""
    assert is_right(said, CASE) is right


def test_words_of_the_passage_are_supported_and_strange_numbers_are_not() -> None:
    """ISSUP is taught where a rule can know it, and only shown where it cannot."""
    assert support("Joliot won the prize in 1935.", PASSAGE, True, False).value == FULLY
    assert support("Joliot won the prize in 1936.", PASSAGE, False, False).value == NO_SUPPORT
    assert support("the prize was won by her", PASSAGE, None, False).loss == 0
    assert support("1911", PASSAGE, False, True).value == NO_SUPPORT


def test_a_row_teaches_the_right_sentence_and_only_judges_what_was_written() -> None:
    """Behind the passage that answers stand the right sentence, taught, and the model's own, judged with a low utility; behind
    the other one the refusal, and the model's own with the lowest."""
    example = row(CASE, ["Her mother had won it in 1911.", "Curie was born in Warsaw in 1867."])
    own, other = (index for index, branch in enumerate(example.branches) if branch.parent == 0)
    right, written = behind(example, own)
    assert taught(right)[:2] == [RELEVANT, "Joliot won the"]
    assert taught(written) == [FULLY, "[Utility:2]"]
    refused, stray = behind(example, other)
    assert taught(refused) == [IRRELEVANT]
    assert taught(stray) == [FULLY, "[Utility:1]"]


def test_the_cases_are_fixed_by_the_seed_and_leave_out_what_is_banned(tmp_path: Path) -> None:
    """The same seed gives the same questions; those of a file given as --without are none of them; a limit holds."""
    names = ["Ann", "Bea", "Cleo", "Dora"]
    records = [
        {"id": str(n), "title": name, "context": f"{name} was born in Seoul. {name} moved to {city} in 19{n}0.",
         "question": f"Where did {name} move?", "answers": [{"text": city}]}
        for n, (name, city) in enumerate(zip(names, ["Busan", "Daegu", "Jeju", "Ulsan"], strict=True))
    ]  # fmt: skip
    for record in records:
        record["answers"] = [{"text": a["text"], "start": record["context"].index(a["text"])} for a in record["answers"]]
    (tmp_path / "squad2_halfdev.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    held = tmp_path / "dev.jsonl"
    held.write_text(json.dumps({"question": "where did ann move"}) + "\n")
    config = PrepareConfig((tmp_path,), tmp_path / "rows.jsonl", 3, {"squad2": 9}, (held,))
    found = cases(config)
    assert found == cases(config)
    assert {case.id.split("-")[2] for case in found} == {"1", "2", "3"}
    assert len(cases(PrepareConfig((tmp_path,), tmp_path / "rows.jsonl", 3, {"squad2": 1}))) == 1


def test_no_question_is_an_error(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(InputError, match="squad2_halfdev"):
        cases(PrepareConfig((tmp_path,), tmp_path / "rows.jsonl", 3, {"squad2": 1}))

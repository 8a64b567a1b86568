"""A person's own rows: the published format, and labelled questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag.algorithm.reflection import IRRELEVANT, NO_RETRIEVAL, NO_SUPPORT
from selfrag.errors import InputError
from selfrag.train.user_data import own_rows, parse_output

FILE = Path("mine.jsonl")


def test_each_passage_is_masked_by_itself() -> None:
    """The answer between two passages is taught; the reference masked all from the first passage to the last."""
    output = (
        "[Retrieval]<paragraph>A\nfirst</paragraph>[Relevant]One.[Fully supported]"
        "[Retrieval]<paragraph>B\nsecond</paragraph>[Relevant]Two.[Fully supported][Utility:5]</s>"
    )
    words = {p.value: p.loss for p in parse_output(output) if p.kind == "text"}
    assert words == {"A\nfirst": 0.0, "One.": 1.0, "B\nsecond": 0.0, "Two.": 1.0}
    assert parse_output(output)[-1].kind == "end"


def test_labelled_questions() -> None:
    """Labels decide what is written: evidence or none, refusal, support; a wrong answer carries no loss on its words."""
    rows = list(
        own_rows(
            [
                {"question": "Hi", "answer": "Hello"},
                {"question": "Where?", "passage": "p", "relevant": False},
                {"question": "Where?", "passage": "p", "answer": "Spain", "support": "none"},
            ],
            FILE,
        )
    )
    tokens = [[p.value for n in row.branches for p in n.parts if p.kind == "control"] for row in rows]
    assert NO_RETRIEVAL in tokens[0]
    assert IRRELEVANT in tokens[1]
    assert NO_SUPPORT in tokens[2]
    assert "[Utility:2]" in tokens[2]
    assert [p.loss for p in rows[2].branches[1].parts if p.kind == "text"] == [0.0]


@pytest.mark.parametrize(
    "record",
    [
        {"question": "Where?"},
        {"question": "", "answer": "x"},
        {"question": "Where?", "passage": "p", "answer": "x", "support": "maybe"},
        {"question": "Where?", "answer": "x", "utility": 6},
        {"instruction": "Do", "output": "no tokens here"},
        {"instruction": "Do", "output": "[Retrieval]<paragraph>never closed"},
        {"question": "Hi", "passage": "A passage.", "relevant": "no"},
        {"question": "Hi", "answer": "Hello", "utility": True},
        {"question": "Hi", "passage": "A passage.", "answer": "Hello", "support": ["full"]},
    ],
)
def test_what_is_neither_is_refused_by_line(record: dict[str, object]) -> None:
    """A record of neither form stops the preparation with its file and line."""
    with pytest.raises(InputError, match=r"mine\.jsonl:2"):
        list(own_rows([{"question": "Hi", "answer": "Hello"}, record], FILE))

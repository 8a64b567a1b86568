from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrag import ingest
from selfrag.errors import InputError

WORDS = st.text(alphabet='xyé{["\\,', min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(WORDS, below, max_size=4),
    max_leaves=20,
)


def test_rows_name_their_columns_and_lines() -> None:
    """A row says the names of its columns, and knows its line, even after a value of several lines."""
    document = ingest.parse(Path("a.csv"), b'name,born,note\nAda,1815,"two\nlines"\nBob,1900,\n')
    chunks = ingest.split(document, capacity=40)
    assert [chunk.text for chunk in chunks] == ["name: Ada\nborn: 1815\nnote: two\nlines", "name: Bob\nborn: 1900"]
    assert [chunk.lines[0] for chunk in chunks] == [2, 4]


def test_other_delimiters_and_no_header() -> None:
    """Semicolons and tabs are understood; without names, values stand by themselves."""
    assert "b: 2" in ingest.parse(Path("a.csv"), b"a;b;c\n1;2;3\n4;5;6\n").text
    assert "b: 2" in ingest.parse(Path("a.tsv"), b"a\tb\n1\t2\n").text
    assert ingest.parse(Path("a.csv"), b"1,2\n3,4\n").text == "1\n2\n\n3\n4"


def test_json_records_know_their_lines() -> None:
    """Each object is a record with paths of keys; its citation is the line where it begins."""
    data = b'{"data": [\n {"q": "one", "a": ["x", "y"]},\n {"q": "two \\u00e9", "n": 3, "z": null}\n],\n "meta": {"v": true}}'
    document = ingest.parse(Path("a.json"), data)
    assert document.text == "data.q: one\ndata.a: x\ndata.a: y\n\ndata.q: two é\ndata.n: 3\n\nmeta.v: true"
    assert [line for _, line in document.anchors] == [2, 3, 5]


def test_jsonl_knows_its_lines() -> None:
    """A line is a record; empty lines count."""
    document = ingest.parse(Path("a.jsonl"), b'{"q": "one"}\n\n{"q": {"deep": [1, 2]}}\n"plain"\n')
    assert document.text == "q: one\n\nq.deep: 1\nq.deep: 2\n\nplain"
    assert [line for _, line in document.anchors] == [1, 3, 4]


@pytest.mark.parametrize(
    ("name", "data", "records"),
    [
        ("a.csv", "Region,2023,,2024,\n,Sales,Cost,Sales,Cost\nNorth,10,5,12,6\n",
         ["Region: North\n2023 Sales: 10\n2023 Cost: 5\n2024 Sales: 12\n2024 Cost: 6"]),
        ("a.csv", "Name,Fee\nAnn,40\n# by survey\nBob,50\n", ["Name: Ann\nFee: 40", "# by survey", "Name: Bob\nFee: 50"]),
        ("a.csv", 'Name, Town\nAnn, "Leeds, UK"\nBob, "York"\nCy, "Ely"\n',
         ["Name, Town", "Name: Ann\nTown: Leeds, UK", "Name: Bob\nTown: York", "Name: Cy\nTown: Ely"]),
        ("a.json", '{"price": 1.10, "id": 12345678901234567890.5, "big": 1e400}',
         ["price: 1.10\nid: 12345678901234567890.5\nbig: 1e400"]),
        ("a.json", '[["name", "fee"], ["Ann", 4.50]]', ["name: Ann\nfee: 4.50"]),
    ],
)  # fmt: skip
def test_rows_as_they_are_written(name: str, data: str, records: list[str]) -> None:
    """Two header rows name a column together, a remark is no row, a space before a quotation mark is none, numbers stay."""
    assert ingest.parse(Path(name), data.encode()).text.split("\n\n") == records


@given(VALUES)
def test_json_keeps_every_value(value: object) -> None:
    """Every scalar of a JSON value comes out once, in the order of the text."""
    data = json.dumps({"top": value}, indent=1).encode()
    try:
        document = ingest.parse(Path("a.json"), data)
    except InputError:
        assert not list(scalars(value))
        return
    if tables(value):
        return  # the names of its columns stand in every row
    assert [line.split(": ")[-1] for line in document.text.split("\n") if line.strip()] == list(scalars(value))


def scalars(value: object) -> Iterator[str]:
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from scalars(below)
    elif value is not None and value != "":
        yield value if isinstance(value, str) else json.dumps(value)


def tables(value: object) -> bool:
    """Whether a list of lists is anywhere in it."""
    if isinstance(value, list):
        return any(isinstance(each, list) or tables(each) for each in value)
    return isinstance(value, dict) and any(map(tables, value.values()))

"""A training row: a small tree of parts, one JSON object a line.

The root node holds the prompt and usually a passage; every other node is a branch behind its parent, an alternative to its
siblings, which it never sees. One reading of a passage so teaches several answers. A part is words (`text`), one
reflection token (`control`) or the end of sequence (`end`), with a `loss` weight: 0 shows it, 1 teaches it.

    {"id": "squad2-1", "source": "squad2", "nodes": [
      {"parent": -1, "parts": [{"text": "### Instruction:\\n…"}, {"control": "[Retrieval]", "loss": 1}, …]},
      {"parent": 0, "parts": [{"control": "[Relevant]", "loss": 1}, {"text": "Paris", "loss": 1}, …]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfrag.algorithm.reflection import END_PARAGRAPH, PARAGRAPH, REFLECTION_TOKENS, RETRIEVAL
from selfrag.errors import InputError

Kind = Literal["text", "control", "end"]
REFUSAL = "I could not find this in the documents."


@dataclass(frozen=True, slots=True)
class Piece:
    """Words, one reflection token, or the end of sequence; ``loss`` ≥ 0 weighs its tokens in training."""

    kind: Kind
    value: str = ""
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Node:
    """Pieces behind those of ``parent`` (an earlier node's index; -1 for the root)."""

    parent: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    source: str
    nodes: tuple[Node, ...]


def text(value: str, loss: float = 0.0) -> Piece:
    return Piece("text", value, loss)


def control(token: str, loss: float = 1.0) -> Piece:
    return Piece("control", token, loss)


END = Piece("end", "", 1.0)


def prompt(instruction: str, extra: str = "") -> Piece:
    """The instruction format of training and inference, with the separate input where there is one."""
    middle = f"### Input:\n{extra}\n\n" if extra else ""
    return text(f"### Instruction:\n{instruction}\n\n{middle}### Response:\n")


def evidence(title: str, passage: str, loss: float = 0.3) -> tuple[Piece, ...]:
    """`[Retrieval]<paragraph>title\\ntext</paragraph>`: ``loss`` is on the decision alone, never inside the passage."""
    return (control(RETRIEVAL, loss), *paragraph(title, passage))


def paragraph(title: str, passage: str) -> tuple[Piece, ...]:
    return (control(PARAGRAPH, 0.0), text(f"{title}\n{passage}"), control(END_PARAGRAPH, 0.0))


def tree(row_id: str, source: str, root: Iterable[Piece], branches: Iterable[Iterable[Piece]] = ()) -> Row:
    """A root with branches that all stand directly behind it."""
    nodes = [Node(-1, tuple(root)), *(Node(0, tuple(branch)) for branch in branches)]
    return Row(row_id, source, tuple(nodes))


def forest(
    row_id: str, source: str, root: Iterable[Piece], passages: Iterable[tuple[Iterable[Piece], Iterable[Iterable[Piece]]]]
) -> Row:
    """A root with several passages behind it, none of which sees another, each with branches of its own."""
    nodes = [Node(-1, tuple(root))]
    for passage, branches in passages:
        here = len(nodes)
        nodes += [Node(0, tuple(passage)), *(Node(here, tuple(branch)) for branch in branches)]
    return Row(row_id, source, tuple(nodes))


def to_json(row: Row) -> str:
    nodes = [{"parent": n.parent, "parts": [_piece_json(p) for p in n.pieces]} for n in row.nodes]
    return json.dumps({"id": row.id, "source": row.source, "nodes": nodes}, ensure_ascii=False)


def _piece_json(piece: Piece) -> dict[str, Any]:
    value: dict[str, Any] = {piece.kind: True if piece.kind == "end" else piece.value}
    return value | ({"loss": piece.loss} if piece.loss else {})


def read(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file.

    Raises:
        InputError: naming file and line, at the first row that is not in the format.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _row(json.loads(line.decode("utf-8")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path}:{number}: not a training row: {error}", "make rows with: selfrag train prepare"
                ) from error


def _row(value: Mapping[str, Any]) -> Row:
    nodes = tuple(_node(n, index) for index, n in enumerate(value["nodes"]))
    if not nodes:
        raise ValueError("a row without nodes")
    return Row(str(value["id"]), str(value["source"]), nodes)


def _node(value: Mapping[str, Any], index: int) -> Node:
    parent = int(value["parent"])
    if not (parent == -1 if index == 0 else 0 <= parent < index):
        raise ValueError(f"node {index} cannot stand behind node {parent}")
    pieces = tuple(_piece(p) for p in value["parts"])
    if not pieces:
        raise ValueError(f"node {index} is empty")
    return Node(parent, pieces)


def _piece(value: Mapping[str, Any]) -> Piece:
    loss = float(value.get("loss", 0.0))
    if loss < 0:
        raise ValueError(f"a loss weight of {loss}")
    if value.get("end") is True:
        return Piece("end", "", loss)
    if "control" in value:
        if value["control"] not in REFLECTION_TOKENS:
            raise ValueError(f"unknown reflection token {value['control']!r}")
        return Piece("control", value["control"], loss)
    if not isinstance(value["text"], str):
        raise TypeError("text is not a string")
    return Piece("text", value["text"], loss)

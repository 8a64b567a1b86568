"""A packed example: one prompt and passage with several responses behind it, one JSON object a line.

The root branch holds the prompt and usually a passage; every other branch follows its parent and is an alternative to its
siblings, which it never sees. So one prefill of a passage teaches several responses. A part is text (`text`), one reflection
token (`control`) or the end of sequence (`end`), with a `loss` weight: 0 only shows it, 1 teaches it. `algorithm.grammar` defines
the order of the parts.

    {"id": "squad2-1", "source": "squad2", "branches": [
      {"parent": -1, "parts": [{"text": "### Instruction:\\n…"}, {"control": "[Retrieval]", "loss": 1}, …]},
      {"parent": 0, "parts": [{"control": "[Relevant]", "loss": 1}, {"text": "Paris", "loss": 1}, …]}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfrag.algorithm import grammar
from selfrag.algorithm.reflection import REFLECTION_TOKENS
from selfrag.errors import InputError
from selfrag.types import Control, Text

Kind = Literal["text", "control", "end"]
REFUSAL = "I could not find this in the documents."


@dataclass(frozen=True, slots=True)
class WeightedPart:
    """A part of the grammar, or None for the end of sequence; ``loss`` ≥ 0 weighs its tokens in training."""

    part: Text | Control | None
    loss: float = 0.0

    @property
    def kind(self) -> Kind:
        return "end" if self.part is None else "text" if isinstance(self.part, Text) else "control"

    @property
    def value(self) -> str:
        """The words, or the name of the reflection token; empty for the end."""
        return "" if self.part is None else self.part.text if isinstance(self.part, Text) else self.part.token


@dataclass(frozen=True, slots=True)
class Branch:
    """Parts that follow those of ``parent`` (an earlier branch's index; -1 for the root)."""

    parent: int
    parts: tuple[WeightedPart, ...]


@dataclass(frozen=True, slots=True)
class Example:
    id: str
    source: str
    branches: tuple[Branch, ...]


def text(value: str, loss: float = 0.0) -> WeightedPart:
    return WeightedPart(Text(value), loss)


def control(token: str, loss: float = 1.0) -> WeightedPart:
    return WeightedPart(Control(token), loss)


END = WeightedPart(None, 1.0)


def prompt(instruction: str, extra: str = "") -> WeightedPart:
    """The instruction with the separate input where there is one; shown, not taught."""
    return WeightedPart(grammar.instruction(instruction, extra))


def evidence(title: str, passage: str, loss: float = 0.3) -> tuple[WeightedPart, ...]:
    """`[Retrieval]` and a passage: ``loss`` is on the decision alone, never inside the passage."""
    found = grammar.evidence(title, passage)
    return (WeightedPart(found[0], loss), *(WeightedPart(part) for part in found[1:]))


def paragraph(title: str, passage: str) -> tuple[WeightedPart, ...]:
    return tuple(WeightedPart(part) for part in grammar.paragraph(title, passage))


def packed(
    example_id: str, source: str, root: Iterable[WeightedPart], responses: Iterable[Iterable[WeightedPart]] = ()
) -> Example:
    """A root with response branches directly after it."""
    branches = [Branch(-1, tuple(root)), *(Branch(0, tuple(response)) for response in responses)]
    return Example(example_id, source, tuple(branches))


def packed_passages(
    example_id: str,
    source: str,
    root: Iterable[WeightedPart],
    passages: Iterable[tuple[Iterable[WeightedPart], Iterable[Iterable[WeightedPart]]]],
) -> Example:
    """A root followed by several passages masked from one another, each with its own response branches."""
    branches = [Branch(-1, tuple(root))]
    for passage, responses in passages:
        here = len(branches)
        branches += [Branch(0, tuple(passage)), *(Branch(here, tuple(response)) for response in responses)]
    return Example(example_id, source, tuple(branches))


def to_json(example: Example) -> str:
    branches = [{"parent": b.parent, "parts": [_part_json(p) for p in b.parts]} for b in example.branches]
    return json.dumps({"id": example.id, "source": example.source, "branches": branches}, ensure_ascii=False)


def _part_json(part: WeightedPart) -> dict[str, Any]:
    value: dict[str, Any] = {part.kind: True if part.kind == "end" else part.value}
    return value | ({"loss": part.loss} if part.loss else {})


def read(path: Path) -> Iterator[Example]:
    """Examples of a JSONL file. Raises InputError, naming file and line, at the first line that is not in the format."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _example(json.loads(line.decode("utf-8")))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path}:{number}: not a training row: {error}", "make rows with: selfrag train prepare"
                ) from error


def _example(value: Mapping[str, Any]) -> Example:
    branches = tuple(_branch(b, index) for index, b in enumerate(value["branches"]))
    if not branches:
        raise ValueError("a row without branches")
    return Example(str(value["id"]), str(value["source"]), branches)


def _branch(value: Mapping[str, Any], index: int) -> Branch:
    parent = int(value["parent"])
    if not (parent == -1 if index == 0 else 0 <= parent < index):
        raise ValueError(f"branch {index} cannot stand behind branch {parent}")
    parts = tuple(_part(p) for p in value["parts"])
    if not parts:
        raise ValueError(f"branch {index} is empty")
    return Branch(parent, parts)


def _part(value: Mapping[str, Any]) -> WeightedPart:
    loss = float(value.get("loss", 0.0))
    if loss < 0:
        raise ValueError(f"a loss weight of {loss}")
    if value.get("end") is True:
        return WeightedPart(None, loss)
    if "control" in value:
        if value["control"] not in REFLECTION_TOKENS:
            raise ValueError(f"unknown reflection token {value['control']!r}")
        return control(value["control"], loss)
    if not isinstance(value["text"], str):
        raise TypeError("text is not a string")
    return text(value["text"], loss)

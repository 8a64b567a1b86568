"""Training rows from users' files in one of two forms: the published Self-RAG format, or labelled questions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from selfrag.algorithm.reflection import (
    END_PARAGRAPH,
    FULLY,
    IRRELEVANT,
    ISSUP,
    ISUSE,
    NO_RETRIEVAL,
    NO_SUPPORT,
    PARAGRAPH,
    PARTIALLY,
    REFLECTION_TOKENS,
    RELEVANT,
)
from selfrag.errors import InputError
from selfrag.train.rows import END, REFUSAL, Example, WeightedPart, control, evidence, packed, prompt, text

SUPPORT = {"full": FULLY, "partial": PARTIALLY, "none": NO_SUPPORT}
_TOKENS = re.compile("|".join(re.escape(t) for t in REFLECTION_TOKENS))


def own_rows(records: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Example]:
    """Rows of the records of ``path``. Raises InputError, naming file and line, at the first record of neither form."""
    for number, record in enumerate(records, 1):
        try:
            make = published if "instruction" in record and "output" in record else labelled
            yield make(record, f"{path.stem}-{number}")
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise InputError(
                f"{path}:{number}: {reason}", "`selfrag train prepare --help` says which fields a row has"
            ) from error


def published(record: Mapping[str, Any], name: str) -> Example:
    """A row of the published training data: its output is cut at the reflection tokens; no loss inside any passage."""
    extra = record.get("input") or ""
    root = prompt(_text(record, "instruction"), extra if isinstance(extra, str) else "")
    return packed(
        str(record.get("id", name)), str(record.get("dataset_name", "published")), (root, *parse_output(_text(record, "output")))
    )


def parse_output(output: str) -> tuple[WeightedPart, ...]:
    """The parts of an output string, with loss on all but the passages and their markers."""
    parts: list[WeightedPart] = []
    inside, start = False, 0
    for match in [*_TOKENS.finditer(output), None]:
        if words := output[start : match.start() if match else len(output)].removesuffix("</s>"):
            parts.append(text(words, 0.0 if inside else 1.0))
        if match:
            inside = match.group() == PARAGRAPH if match.group() in (PARAGRAPH, END_PARAGRAPH) else inside
            parts.append(control(match.group(), 0.0 if match.group() in (PARAGRAPH, END_PARAGRAPH) else 1.0))
            start = match.end()
    if inside:
        raise ValueError("a <paragraph> is never closed")
    if not any(p.kind == "control" for p in parts):
        raise ValueError("the output holds no reflection token")
    return (*parts, END)


def labelled(record: Mapping[str, Any], name: str) -> Example:
    """A question with a passage and labels. Without a passage it needs no retrieval; a wrong answer is shown, not taught."""
    question = _text(record, "question")
    answer = record.get("answer", "")
    use = _utility(record, 5 if record.get("support", "full") == "full" else 2)
    source = str(record.get("source", "own"))
    if not record.get("passage"):
        return packed(name, source, (prompt(question), control(NO_RETRIEVAL), *_answer(answer, 1.0), use, END))
    root = (prompt(question), *evidence(str(record.get("title", "")), _text(record, "passage")))
    if not _flag(record, "relevant"):
        return packed(name, source, root, [(control(IRRELEVANT), text(REFUSAL, 1.0), control(ISUSE[0]), END)])
    support = SUPPORT.get(str(record.get("support", "full")))
    if support not in ISSUP:
        raise ValueError(f"support is {record['support']!r}, expected full, partial or none")
    teaches = 1.0 if support == FULLY else 0.0
    return packed(name, source, root, [(control(RELEVANT), *_answer(answer, teaches), control(support), use, END)])


def _answer(value: object, loss: float) -> tuple[WeightedPart, ...]:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("answer is empty")
    return (text(value.strip(), loss),)


def _utility(record: Mapping[str, Any], default: int) -> WeightedPart:
    value = record.get("utility", default)
    if type(value) is not int or not 1 <= value <= 5:
        raise ValueError(f"utility is {value!r}, expected a whole number from 1 to 5")
    return control(ISUSE[value - 1])


def _flag(record: Mapping[str, Any], name: str) -> bool:
    value = record.get(name, True)
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, expected true or false")
    return value


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is empty or not text")
    return value

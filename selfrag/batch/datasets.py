"""Question files in the formats of published data sets, recognised by their content.

Every format becomes rows with "question" and, as far as the format has them, "answers", "unanswerable", "sources", "choices" and
"context". A task with a wording of its own (prompts/tasks/) puts it into the row's "instruction"; the search looks for the
question itself.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from selfrag import prompts
from selfrag.batch.rows import Row, bad_row, in_utf8, make_row, read_array, read_csv, read_jsonl, read_lines
from selfrag.errors import InputError

Json = Mapping[str, Any]
Convert = Callable[[Json], dict[str, Any]]
TRUE_OR_FALSE = ["true", "false"]


# --- one record of each format -------------------------------------------------------------------------------------------------


def worded(task: str, question: str, /, **values: str) -> dict[str, Any]:
    """The question, and the instruction from prompts/tasks/``task``.txt if that differs."""
    instruction = prompts.load(f"tasks/{task}").render(**(values or {"question": question}))
    return {"question": question, "instruction": instruction if instruction != question else None}


def nq_open(record: Json) -> dict[str, Any]:
    """{"question", "answer": [...]}."""
    kept = {name: value for name, value in record.items() if name != "answer"}
    return {**kept, **worded("nq_open", record["question"]), "answers": record["answer"]}


def popqa(record: Json) -> dict[str, Any]:
    """A table: "possible_answers" is a JSON list, "s_wiki_title" the page of the subject."""
    kept = {name: record[name] for name in ("id", "prop", "s_pop") if name in record}
    answers, page = json.loads(record["possible_answers"]), record.get("s_wiki_title")
    return {**kept, **worded("popqa", record["question"]), "answers": answers, "sources": [page] if page else []}


def arc(record: Json) -> dict[str, Any]:
    """{"question": {"stem", "choices": [{"label", "text"}]}}, or the same with "choices" beside "question" and in columns."""
    nested = isinstance(record["question"], Mapping)
    question = record["question"]["stem"] if nested else record["question"]
    choices = record["question"]["choices"] if nested else record["choices"]
    if isinstance(choices, Mapping):
        choices = [{"label": a, "text": b} for a, b in zip(choices["label"], choices["text"], strict=True)]
    named = {str(choice["label"]): choice["text"] for choice in choices}
    asked = worded("arc", question, question=question, choices="\n".join(named.values()))
    answers = [named[str(record["answerKey"])]] if record.get("answerKey") else []
    return {"id": record.get("id"), **asked, "choices": [*named.values()], "answers": answers}


def pubhealth(record: Json) -> dict[str, Any]:
    """A health claim, "label" true or false; other labels ("mixture", "unproven") have no known right answer."""
    label = str(record["label"]).strip().lower()
    asked = worded("pubhealth", record["claim"], claim=record["claim"])
    answers = [label] if label in TRUE_OR_FALSE else []
    return {
        "id": record.get("claim_id") or record.get("id"),
        **asked,
        "choices": TRUE_OR_FALSE,
        "answers": answers,
        "label": label,
    }


def fever(record: Json) -> dict[str, Any]:
    """A claim that the evidence SUPPORTS or REFUTES; NOT ENOUGH INFO is unanswerable. Evidence is a text, or names pages."""
    answer = {"SUPPORTS": "true", "REFUTES": "false"}.get(str(record["label"]).upper())
    row = {"id": record.get("id"), **worded("fever", record["claim"], claim=record["claim"]), "choices": TRUE_OR_FALSE}
    evidence = record.get("evidence")
    row |= {"context": evidence} if isinstance(evidence, str) else {"sources": pages(evidence)}
    return {**row, "answers": [answer] if answer else [], "unanswerable": answer is None, "label": record["label"]}


def pages(evidence: object) -> list[str]:
    """The pages of FEVER's [[[annotation, evidence, page, sentence], …], …]."""
    groups = evidence if isinstance(evidence, list) else []
    items = [item for group in groups if isinstance(group, list) for item in group]
    return sorted({str(item[2]) for item in items if isinstance(item, list) and len(item) > 2 and item[2]})


def asqa(record: Json) -> dict[str, Any]:
    """ASQA and ALCE: an ambiguous question with several points, each with short answers."""
    question = record.get("ambiguous_question") or record["question"]
    kept = {name: record[name] for name in ("qa_pairs", "annotations") if name in record}
    return {"id": record.get("sample_id") or record.get("id"), **worded("asqa", question), **kept}


def squad(document: Json) -> Iterator[dict[str, Any]]:
    """SQuAD 1.1 and 2.0: articles, paragraphs, questions; "is_impossible" is unanswerable."""
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                answers = list(dict.fromkeys(answer["text"] for answer in qa.get("answers", ())))
                known = {"answers": answers, "unanswerable": bool(qa.get("is_impossible", False))}
                where = {"sources": [article["title"]], "context": paragraph["context"]}
                yield {"id": qa["id"], **worded("squad", qa["question"]), **known, **where}


# --- which format it is --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A format: how one record becomes the columns of a row, and the keys that identify it."""

    name: str
    convert: Convert
    keys: frozenset[str]


TASKS = (
    Task("asqa", asqa, frozenset({"qa_pairs"})),
    Task("arc", arc, frozenset({"question", "answerKey"})),
    Task("popqa", popqa, frozenset({"question", "possible_answers"})),
    Task("fever", fever, frozenset({"claim", "label", "evidence"})),
    Task("pubhealth", pubhealth, frozenset({"claim", "label"})),
    Task("nq_open", nq_open, frozenset({"question", "answer"})),
)
NAMES = ("jsonl", "json", "csv", "lines", "squad", *(task.name for task in TASKS))


def detect(name: str, head: bytes) -> str:
    """The task of a file from its name and its first bytes; "jsonl", "json", "csv" or "lines" for rows in this program's own
    form."""
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        head = head[: len(head) // 2 * 2].decode("utf-16", "ignore").encode("utf-8", "ignore")
    suffix, start = Path(name).suffix.lower(), head.lstrip(b"\xef\xbb\xbf \r\n\t")
    if suffix in (".csv", ".tsv"):
        columns = frozenset(start.split(b"\n")[0].decode("utf-8", "replace").strip().split("\t" if suffix == ".tsv" else ","))
        return "csv" if "possible_answers" not in columns and "question" in columns else _by_keys(columns, "csv")
    if start.startswith(b'{"version"') or (start.startswith(b"{") and b'"paragraphs"' in start[:4000]):
        return "squad"
    if b'"ambiguous_question"' in start[:4000] or (start.startswith(b"[") and b'"qa_pairs"' in start):
        return "asqa"
    if start.startswith(b"[") and suffix not in (".jsonl", ".ndjson"):
        return "json"
    if suffix not in (".json", ".jsonl", ".ndjson") and not any(
        line.startswith((b"{", b"[", b'"')) for line in start.split(b"\n")
    ):
        return "csv" if _has_header(start) else "lines"
    try:
        first = json.loads(start.split(b"\n")[0])
    except ValueError:
        return "jsonl"
    return _by_keys(frozenset(first), "jsonl") if isinstance(first, dict) and "answers" not in first else "jsonl"


def _has_header(start: bytes) -> bool:
    """Whether non-JSON text begins with the header of a table of questions."""
    names = re.split(rb"[,;\t]", start.split(b"\n")[0].strip())
    return len(names) > 1 and b"question" in [name.strip(b'"') for name in names]


def _by_keys(keys: frozenset[str], otherwise: str) -> str:
    return next((task.name for task in TASKS if task.keys <= keys), otherwise)


def read_task(stream: BinaryIO, name: str, task: str) -> Iterator[Row]:
    """The rows of a file in the format ``task``. A record that lacks what the format has is a row with a problem."""
    stream = in_utf8(stream)
    readers: dict[str, Callable[[], Iterator[Row]]] = {
        "jsonl": lambda: read_jsonl(stream),
        "json": lambda: read_array(stream, name),
        "csv": lambda: read_csv(stream, name),
        "lines": lambda: read_lines(stream),
    }
    if task in readers:
        yield from readers[task]()
        return
    convert = next((t.convert for t in TASKS if t.name == task), dict)
    for line, record in records(stream, name, task):
        try:
            yield make_row(convert(record), line)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            yield bad_row(line, json.dumps(record, default=str), f"not a record of {task}: {error!r}")


def records(stream: BinaryIO, name: str, task: str) -> Iterator[tuple[int, Json]]:
    """Numbered records: lines of a table or of JSON Lines, or the items of one JSON document."""
    if Path(name).suffix.lower() in (".csv", ".tsv"):
        text = (raw.decode("utf-8-sig", "replace") for raw in stream)
        yield from enumerate(csv.DictReader(text, delimiter="\t" if name.lower().endswith(".tsv") else ","), 2)
        return
    raw = stream.read()
    try:
        document = json.loads(raw)
    except ValueError:
        document = [line for line in raw.split(b"\n") if line.strip()]
    yield from enumerate(_items(document, task, name), 1)


def _items(document: Any, task: str, name: str) -> Iterable[Json]:
    if isinstance(document, list) and document and isinstance(document[0], bytes):
        return (_object(line) for line in document)
    try:
        if task == "squad":
            return list(squad(document))
        if task == "asqa" and isinstance(document, dict) and "qa_pairs" not in document:
            splits = document.values()
            return ({"id": key, **record} for split in splits for key, record in split.items())
        return document if isinstance(document, list) else [document]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} is not in the format {task}: {error!r}", f"--task names another: {', '.join(NAMES)}") from error


def _object(line: bytes) -> Json:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"not JSON": line.decode("utf-8", "replace")}

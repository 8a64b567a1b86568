from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfrag.batch.questions import open_questions
from selfrag.batch.rows import Row
from selfrag.errors import InputError, UsageError
from selfrag.evaluation.metrics import gold_of

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Force",
            "paragraphs": [
                {
                    "context": "Aristotle wrote on force.",
                    "qas": [
                        {"id": "1", "question": "Who wrote?", "answers": [{"text": "Aristotle"}] * 2, "is_impossible": False},
                        {"id": "2", "question": "Who read?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
ARC = {
    "id": "a1",
    "question": {"stem": "What falls?", "choices": [{"text": "a stone", "label": "A"}, {"text": "light", "label": "B"}]},
}
HUB = {"id": "a2", "question": "What falls?", "choices": {"text": ["a stone", "light"], "label": ["1", "2"]}, "answerKey": "1"}
FEVER = {"id": 5, "claim": "Ada is a poet.", "label": "REFUTES", "evidence": [[[1, 2, "Ada_Lovelace", 0], [1, 2, None, None]]]}
ASQA = {
    "dev": {"x9": {"ambiguous_question": "Who won?", "qa_pairs": [{"question": "Who won in 1970?", "short_answers": ["Brazil"]}]}}
}
POPQA = 'id\tprop\tquestion\tpossible_answers\ts_wiki_title\n42\tcapital\tWhat is the capital?\t["Paris", "paris"]\tFrance\n'


def rows(folder: Path, name: str, content: object, task: str | None = None) -> tuple[str, list[Row]]:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    found = open_questions(str(path), task)
    listed = list(found.rows())
    assert found.total == len(listed)
    return found.task, listed


def test_squad_articles_become_questions_with_their_paragraph(tmp_path: Path) -> None:
    """Impossible questions are unanswerable, titles are sources, the paragraph is the gold passage."""
    task, (first, second) = rows(tmp_path, "dev.json", SQUAD)
    assert (task, first.id, first.instruction) == ("squad", "1", "Who wrote?\n\nAnswer in a few words.")
    gold = gold_of(first.extra)
    assert (gold.answers, gold.sources, gold.passage) == (("Aristotle",), ("Force",), "Aristotle wrote on force.")
    assert gold_of(second.extra).answerable is False


def test_arc_choices_are_the_closed_set(tmp_path: Path) -> None:
    """Both published forms give the choices' texts, the right one as the answer, and a wording of their own."""
    task, (first, second) = rows(tmp_path, "arc.jsonl", "\n".join(json.dumps(r) for r in (ARC | {"answerKey": "B"}, HUB)))
    assert task == "arc"
    assert first.choices == second.choices == ("a stone", "light")
    assert (gold_of(first.extra).answers, gold_of(second.extra).answers) == (("light",), ("a stone",))
    assert first.question == "What falls?"
    assert "light" in (first.instruction or "")


def test_claims_are_true_or_false(tmp_path: Path) -> None:
    """PubHealth and FEVER are closed sets; not enough information is unanswerable; FEVER's pages are sources."""
    task, (first, second) = rows(
        tmp_path, "f.jsonl", "\n".join(json.dumps(FEVER | x) for x in ({}, {"id": 6, "label": "NOT ENOUGH INFO"}))
    )
    assert task == "fever"
    assert (first.choices, gold_of(first.extra).answers) == (("true", "false"), ("false",))
    assert gold_of(first.extra).sources == ("Ada_Lovelace",)
    assert gold_of(second.extra).answerable is False
    task, (only, mixed) = rows(tmp_path, "p.tsv", "claim_id\tclaim\tlabel\n7\tTea heals.\tfalse\n8\tSalt heals.\tmixture\n")
    assert (task, only.id, gold_of(only.extra).answers) == ("pubhealth", "7", ("false",))
    assert gold_of(mixed.extra).answerable is None


def test_asqa_questions_have_points(tmp_path: Path) -> None:
    """Every short answer is a point of the long one, in ASQA's file and in ALCE's."""
    task, (row,) = rows(tmp_path, "asqa.json", ASQA)
    assert (task, row.id, gold_of(row.extra).groups) == ("asqa", "x9", (("Brazil",),))
    alce = [{"sample_id": "s1", "question": "Who won?", "qa_pairs": [{"short_answers": ["Brazil"]}], "docs": []}]
    task, (row,) = rows(tmp_path, "alce.json", alce)
    assert (task, row.id) == ("asqa", "s1")


def test_open_questions_keep_their_answers(tmp_path: Path) -> None:
    """NQ-open and PopQA give answers; PopQA's page of the subject is the source."""
    task, (row,) = rows(tmp_path, "nq.jsonl", {"question": "who won", "answer": ["Brazil"], "extra": 1})
    assert (task, gold_of(row.extra).answers, row.extra["extra"]) == ("nq_open", ("Brazil",), 1)
    task, (row,) = rows(tmp_path, "popqa.tsv", POPQA)
    assert (task, row.id, gold_of(row.extra).sources, gold_of(row.extra).answers) == (
        "popqa",
        "42",
        ("France",),
        ("Paris", "paris"),
    )


def test_own_rows_are_told_from_the_others(tmp_path: Path) -> None:
    """A row with "answers" is this program's own form, whatever else it has; CSV goes by its name."""
    assert rows(tmp_path, "q.jsonl", {"question": "Who?", "answers": ["Ada"], "answer": "x"})[0] == "jsonl"
    assert rows(tmp_path, "q.csv", "question,answers\nWho?,Ada\n")[0] == "csv"


def test_a_record_of_another_format_is_a_row_with_a_problem(tmp_path: Path) -> None:
    """One odd record costs itself; a document of another format is refused."""
    _, (good, bad) = rows(tmp_path, "nq.jsonl", '{"question": "who", "answer": ["x"]}\n{"q": 1}\n')
    assert good.problem is None
    assert "not a record of nq_open" in (bad.problem or "")
    with pytest.raises(InputError, match="not in the format squad"):
        rows(tmp_path, "x.json", [1], "squad")


def test_an_unknown_task_and_a_sampled_stdin_are_refused(tmp_path: Path) -> None:
    """The hint lists the tasks; a stream cannot be sampled."""
    with pytest.raises(UsageError) as caught:
        open_questions("q.jsonl", "quiz")
    assert "popqa" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="sampled"):
        open_questions("-", count=3)


def test_limit_and_sample_take_a_part(tmp_path: Path) -> None:
    """A limit takes the first rows, a sample some of all; the total says how many."""
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"question": f"Q{i}?"}) + "\n" for i in range(20)))
    first, some = open_questions(str(path), limit=3), open_questions(str(path), count=5, seed=1)
    assert [row.line for row in first.rows()] == [1, 2, 3]
    assert (first.total, some.total, len(list(some.rows()))) == (3, 5, 5)

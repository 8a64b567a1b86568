from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from selfrag.batch.rows import make_row
from selfrag.errors import InputError, SelfragError, UsageError
from selfrag.evaluation.outcome import outcome
from selfrag.evaluation.plot import save_plot
from selfrag.evaluation.report import Report, evaluate, gold_by_id, is_run, outcomes_of, read_run, report_json, run_of
from selfrag.evaluation.tables import markdown_table, report_markdown, report_text
from tests.rows import row

pytestmark = pytest.mark.slow


def report(*rows: dict[str, object]) -> Report:
    return evaluate(outcomes_of(rows), run_of(rows))


def test_answers_are_scored_against_the_kept_columns() -> None:
    """Right, half right and wrong answers; an abstention from an answerable question is wrong; failures are left out."""
    found = report(
        row("a"),
        row("b", "Paris in France"),
        row("c", "Lyon"),
        row("d", status="abstained"),
        row("e", status="error"),
    )
    assert (found.questions, found.answered, found.abstained, found.failed) == (5, 3, 1, 1)
    assert found["em"].value == 0.25
    assert found["accuracy"].value == 0.5
    assert found["contains"].value == 0.5
    assert found["f1"].value == pytest.approx((1 + 0.5) / 4)
    assert found["accuracy"].n == 4
    assert found["answer_rate"].value == 0.75
    assert found["accuracy_answered"].value == pytest.approx(2 / 3)


def test_abstention_is_judged_on_unanswerable_questions() -> None:
    """One right abstention, one wrong one, one question that should not have been answered."""
    no = {"answers": [], "unanswerable": True}
    found = report(row("a", status="abstained", **no), row("b", **no), row("c", status="abstained"), row("d"))
    assert found["abstention_precision"].value == 0.5
    assert found["abstention_recall"].value == 0.5
    assert found["abstention_f1"].value == 0.5
    assert found["em_overall"].value == 0.5
    assert found["accuracy_answered"].value == 0.5


def test_retrieval_and_citations_are_judged_by_the_gold_source() -> None:
    """The gold passage first, second, or not found; cited, or another one cited."""
    found = report(
        row("a"),
        row("b", found=("Spain", "France"), cited="Spain"),
        row("c", found=("Spain",), cited="Spain", issup=0.2),
        row("d", found=(), cited=None),
    )
    assert found["recall@1"].value == pytest.approx(1 / 3)
    assert found["recall@3"].value == pytest.approx(2 / 3)
    assert found["mrr"].value == pytest.approx(0.5)
    assert found["retrieval_rate"].value == 0.75
    assert found["citation_precision"].value == pytest.approx(2 / 3)
    assert found["citation_recall"].value == 0.5
    assert found["citation_precision_gold"].value == pytest.approx(1 / 3)
    assert found["pruned"].value == pytest.approx(1 / 3)


def test_without_gold_sources_a_passage_counts_by_the_answer_in_it() -> None:
    """Where only answers are known, a passage that holds one is a hit; without its text nothing is claimed."""
    plain = row("a", sources=[])
    plain["passages"][0]["text"] = "The capital is Paris."
    plain["passages"][1]["text"] = "Madrid."
    assert outcome(plain).hits == (True, False)
    del plain["passages"][0]["text"]
    assert outcome(plain).hits is None


def test_no_figure_is_ever_nan() -> None:
    """No rows, no labels, only failures, only abstentions: a metric without a denominator says why."""
    cases = (
        [],
        [row("a", answers=[], sources=[])],
        [row("a", status="error")],
        [row("a", status="abstained", answer="", cited=None)],
    )
    for rows in cases:
        found = report(*rows)
        for line in found.lines:
            values = (line.interval.value, line.interval.low, line.interval.high)
            assert not any(value is not None and math.isnan(value) for value in values)
            assert (line.interval.value is None) == (line.interval.note is not None)
        assert "NaN" not in json.dumps(report_json(found))
        assert "Not measured: " in report_text(found)


def test_confidence_is_judged_where_it_was_answered() -> None:
    """Two sure right answers and one unsure wrong one rank perfectly; the table of bins adds up."""
    found = report(row("a"), row("b"), row("c", "Lyon", isrel=0.2))
    assert found["auroc_confidence"].value == 1.0
    assert sum(b.count for b in found.reliability) == 3
    assert found.curve[-1] == (1.0, pytest.approx(1 / 3))
    assert found["ece"].value == pytest.approx((2 * abs(1 - 0.72) + 0.16) / 3)
    assert report(row("a"))["auroc_isrel"].note == "all answers are right, or all are wrong"


def test_gold_of_another_file_takes_the_place_of_the_columns() -> None:
    """Rows that the questions do not know are left out."""
    gold = gold_by_id([make_row({"id": "a", "question": "Question a?", "answers": ["Lyon"]}, 1)])
    (found,) = outcomes_of([row("a"), row("b")], gold)
    assert (found.id, found.accuracy) == ("a", 0.0)


def test_a_column_named_answer_is_the_gold_of_the_input() -> None:
    """An input column that an answer has too is kept as input_answer, and read as what is right."""
    kept = row("a", "Lyon", answers=None, input_answer="Lyon")
    assert outcome(kept).accuracy == 1.0


def test_tables_show_value_interval_and_count() -> None:
    """The same metrics in text and in Markdown, with the model they belong to."""
    found = report(row("a"), row("b", "Lyon"))
    text, markdown = report_text(found), report_markdown(found, "Run")
    assert "2 questions: 2 answered, 0 abstained, 0 failed" in text
    assert "model m" in text
    assert "| exact match | 0.500 | 0.000 – 1.000 | 2 |" in markdown
    assert markdown_table(["a|b"], [["c|d"]]).count("\\|") == 2


def test_a_plot_shows_both_curves(tmp_path: Path) -> None:
    """One circle a bin; the title is text, whatever signs it holds; the file's name says the format."""
    pytest.importorskip("matplotlib")
    found = report(row("a"), row("b", "Lyon", isrel=0.2))
    save_plot(found, tmp_path / "p.svg", "<$run_1$>")
    drawn = ElementTree.parse(tmp_path / "p.svg").getroot()
    (circles,) = (each for each in drawn.iter() if each.get("id") == "PathCollection_1")
    assert len([each for each in circles.iter() if each.tag.endswith(("}use", "}path"))]) == 2
    save_plot(found, tmp_path / "p.png", "run")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"\.svg"):
        save_plot(found, tmp_path / "p.txt", "run")


def test_a_plot_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SelfragError) as refused:
        save_plot(report(row("a")), tmp_path / "p.svg", "run")
    assert "selfrag[plot]" in str(refused.value.hint)


def test_a_run_is_read_without_its_torn_last_line(tmp_path: Path) -> None:
    """What a killed run left can be scored; a file of questions is told from a run."""
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps(row("a")) + "\n" + json.dumps(row("b"))[:80])
    assert [r["id"] for r in read_run(path)] == ["a"]
    assert is_run(path)
    path.write_text('{"question": "Who?"}\n{"question": "What?"}\n')
    assert not is_run(path)
    with pytest.raises(InputError, match="line 1, is not a row"):
        read_run(path)

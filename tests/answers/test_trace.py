"""Answers as JSON, and what a stored search can still tell."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from selfrag.agent import Agent
from selfrag.answers import citations, rescore, schema, trace
from selfrag.errors import InputError
from selfrag.reflectors.tokens import TokenReflector
from selfrag.types import Answer, SearchOptions, Weights
from tests.algorithm.test_search import Shelf, after, backed, judged, model, passage, random_model, useful, words

KEYS = [
    *("schema", "id", "question", "status", "answer", "score", "confidence", "retrieval", "segments", "citations"),
    *("candidates", "exact", "reflection", "model", "engine", "collection", "usage", "timing_ms", "warnings", "error"),
]
ASK = SearchOptions(mode="always", k=5, max_segments=3, prune=False)


async def searched(seed: int, options: SearchOptions = ASK) -> tuple[Answer, trace.Recorder]:
    recorder = trace.Recorder()
    shelf = Shelf(*(passage(n, score=1 - n / 5) for n in range(5)))
    return await Agent(TokenReflector(random_model(seed)), shelf, options).ask("q?", observer=recorder), recorder


async def test_an_answer_and_an_error_have_the_same_keys() -> None:
    """Every row of the schema carries every key, in one order, whatever became of the question."""
    answer, _ = await searched(1)
    assert list(schema.answer_json(answer, "7")) == list(schema.error_json("q?", "died", "8")) == KEYS
    assert schema.answer_json(answer, "7")["id"] == "7"
    assert schema.error_json("q?", "died")["error"] == "died"


async def test_an_answer_is_strict_json() -> None:
    """No NaN, no infinity, nothing that a JSON reader of another language refuses; an abstention carries no answer."""
    for seed in range(30):
        answer, _ = await searched(seed, replace(ASK, abstain_isrel=0.5))
        row = json.loads(json.dumps(schema.answer_json(answer), allow_nan=False))
        assert (row["answer"] == "") == (row["status"] == "abstained")
        assert [c["n"] for c in row["citations"]] == list(range(1, len(row["citations"]) + 1))
        assert all(math.isclose(sum(d.values()), 1) for s in row["segments"] for d in s["distributions"].values())


async def test_a_trace_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The answer, the options and every event survive the file."""
    answer, recorder = await searched(3)
    trace.save(tmp_path / "t.json", answer, recorder.events)
    stored = trace.load(tmp_path / "t.json")
    assert stored.answer == schema.answer_json(answer)
    assert stored.options == answer.options
    assert len(stored.events) == len(recorder.events)
    assert os.listdir(tmp_path) == ["t.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "selfrag.answer/1"}', "\x00"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    """A file of another kind is named, with the command that makes a trace."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json") as caught:
        trace.load(tmp_path / "x.json")
    assert "--save-trace" in str(caught.value.hint)


@pytest.mark.parametrize("weights", [Weights(), Weights(3, 0, 0), Weights(0, 2, 0.5, sequence=False), Weights(ret=2)])
async def test_rescoring_a_whole_single_step_equals_a_new_search(tmp_path: Path, weights: Weights) -> None:
    """Where every candidate was written, other weights give the answer that a new search under them gives."""
    for seed in range(20):
        once = replace(ASK, max_segments=1)
        answer, recorder = await searched(seed, once)
        trace.save(tmp_path / "t.json", answer, recorder.events)
        again = rescore.rescore(trace.load(tmp_path / "t.json"), weights)
        new, _ = await searched(seed, replace(once, weights=weights))
        assert (again["answer"], again["status"], again["score"]) == (new.text, new.status, pytest.approx(new.score))


async def test_rescoring_with_the_same_weights_gives_the_same_answer(tmp_path: Path) -> None:
    """Over several segments too, the stored search and its own weights lead to the answer that was given."""
    for seed in range(40):
        answer, recorder = await searched(seed)
        trace.save(tmp_path / "t.json", answer, recorder.events)
        again = rescore.rescore(trace.load(tmp_path / "t.json"), answer.options.weights)
        assert again["score"] >= answer.score - 1e-12  # a candidate that the beam dropped may have ended better
        if again["score"] == pytest.approx(answer.score):
            assert again["answer"] == answer.text


async def test_citations_are_compared_with_the_sources(tmp_path: Path) -> None:
    """A source that is as it was, one whose words moved, one that says something else and one that is gone are told apart."""
    engine = model({after(1): [judged(0.9), *words("w"), backed(0.9), useful(5)]})
    answer = await Agent(TokenReflector(engine), Shelf(passage(1)), replace(ASK, max_segments=1)).ask("q?")
    row = schema.answer_json(answer)

    def state(text: str | None) -> str:
        def read(source: str) -> tuple[str, bool]:
            if text is None:
                raise InputError(f"{source} is gone")
            return text, True

        return citations.verify(row, read)[0].state

    assert state("passage  1\n\nmore") == "unchanged"
    assert state("a\nb\nc\nd\npassage 1") == "moved"
    assert state("passage 2") == "changed"
    assert state(None) == "missing"

"""The published JSON Schema, and what the program really writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from selfrag.algorithm import reflection
from selfrag.answers import schema, trace
from selfrag.answers.citations import verify
from selfrag.answers.schema import AnswerJson
from selfrag.batch.rows import make_row
from selfrag.batch.run import Seen, output_row
from selfrag.types import Cited, Critique, Passage, SearchOptions, Segment
from tests.answers.test_trace import searched
from tests.fake_agent import fake_answer
from tools.answer_schema import FOLDER, schemas, text

WRITTEN = schemas()


def closed(document: Any) -> Any:
    """The schema with every object closed, so that a key that nobody documented is found."""
    if isinstance(document, dict):
        found = {key: closed(value) for key, value in document.items()}
        return found | ({"additionalProperties": False} if "properties" in found else {})
    return [closed(item) for item in document] if isinstance(document, list) else document


def check(name: str, document: Any, extra: Sequence[str] = ()) -> None:
    """``document`` fits the schema, but for the keys ``extra`` at its top."""
    left = {key: value for key, value in json.loads(json.dumps(document)).items() if key not in extra}
    Draft202012Validator(closed(WRITTEN[name])).validate(left)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_published_schema_is_that_of_the_types(name: str) -> None:
    """docs/schema holds what tools/answer_schema.py makes of the types; every schema is valid itself."""
    assert (FOLDER / f"{name}.json").read_text("utf-8") == text(WRITTEN[name]), "run: python tools/answer_schema.py"
    Draft202012Validator.check_schema(WRITTEN[name])


async def test_real_answers_traces_and_rows_fit_the_schema() -> None:
    """Whatever a search writes, answered or abstained, and a row that failed, has just the keys and types that are published."""
    for seed in range(12):
        answer, recorder = await searched(seed)
        check("selfrag.answer.1", schema.answer_json(answer, "7"))
        check("selfrag.trace.1", trace.trace_json(answer, recorder.events))
        for keep in (True, False):
            seen = Seen(keep)
            for event in recorder.events:
                seen(event)
            row = output_row(make_row({"question": "q?", "topic": "x"}, 1), schema.answer_json(answer, "7"), seen.passages())
            check("selfrag.batch-row.1", row, extra=["topic"])
    check("selfrag.answer.1", schema.error_json("q?", "died", 8))


async def test_the_check_can_fail() -> None:
    """A missing key, a wrong type and a key that is not published are all refused."""
    answer, _ = await searched(3)
    good = json.loads(json.dumps(schema.answer_json(answer)))
    for break_it in (lambda d: d.pop("usage"), lambda d: d.update(score="high"), lambda d: d["segments"][0].update(new=1)):
        bad = copy.deepcopy(good)
        break_it(bad)
        assert list(Draft202012Validator(closed(WRITTEN["selfrag.answer.1"])).iter_errors(bad))


async def test_means_of_a_stored_answer_are_those_of_the_search() -> None:
    """Mean ISREL and ISSUP of the JSON are bit for bit those that the search abstains by."""
    for seed in range(20):
        answer, _ = await searched(seed)
        live = reflection.evidence_means(cited.segment.critique for cited in answer.segments)
        assert schema.evidence_means(schema.answer_json(answer)["segments"]) == live


@pytest.mark.parametrize(
    ("lines", "found"),
    [((10, 12), [11, 11]), ((10, 40), [10, 40]), (None, None)],
    ids=["lines of the source", "a source with other lines", "no lines"],
)
def test_a_quote_has_its_own_lines(lines: tuple[int, int] | None, found: list[int] | None) -> None:
    """A quote's lines are counted in its passage where that has the source's lines; otherwise they are the passage's."""
    text = "One is first.\nTwo is second.\nThree is third."
    start = text.index("Two")
    assert schema.lines_within(text, lines, start, start + 14) == found


def test_a_passage_survives_its_json() -> None:
    """Title, place, page, lines and text of a passage come back from its JSON."""
    passage = Passage("c", "T", "text", "/a.pptx", (1, 2), 3, "slide 3")
    assert trace.passage_from(schema.passage_json(passage)) == passage


BARN = "A barn is a building. It holds\nhay.\n\nIt burns."


def barns(question: str, **options: Any) -> AnswerJson:
    """An answer with the first sentence of two passages."""
    found = [Passage(f"c{n}", "Barns", BARN, f"/docs/{n}.md", (1, 4)) for n in (1, 2)]
    cited = tuple(Cited(Segment("A barn is a building.", passage, Critique()), n, 1.0) for n, passage in enumerate(found, 1))
    return schema.answer_json(
        replace(fake_answer(question, SearchOptions(**options)), segments=cited, evidence=tuple(found)),
    )


def test_an_answer_that_explains_goes_on_after_its_words() -> None:
    """The first quote of an answer to how, why or what is, every quote where several things are asked for; not for a fact, nor
    where answers are to be one sentence."""
    whole, one = "A barn is a building. It holds\nhay.", "A barn is a building."

    def quoted(question: str, **options: Any) -> list[str]:
        return [s["quote"]["text"] for s in barns(question, **options)["segments"] if s["quote"]]

    assert quoted("What is a barn?", join_isuse=0.6) == [whole, one]
    assert quoted("Who has a barn?", join_isuse=0.6) == [one, one]
    assert quoted("Which two barns burn?", join_isuse=0.6) == [whole, whole]
    assert quoted("What is a barn?") == [one, one]
    assert quoted("What is a barn?", join_isuse=0.6, max_segments=1) == [one, one]
    assert quoted("What is a barn?", join_isuse=0.6, choices=("yes", "no")) == [one, one]


def test_a_quote_that_goes_on_has_its_place_and_is_verified() -> None:
    """Offsets, lines and the model's words fit the longer quote, and a change of the sentence that follows is noticed."""
    answer = barns("What is a barn?", join_isuse=0.6)
    quote = answer["segments"][0]["quote"]
    assert quote
    assert answer["citations"][0]["text"][quote["start"] : quote["end"]] == quote["text"]
    assert (quote["lines"], quote["span"]) == ([1, 2], [0, 21])

    def states(text: str) -> list[str]:
        return [check.state for check in verify(answer, lambda _: (text, True)) if check.quote == 1]

    assert states(BARN) == ["unchanged"]
    assert states(BARN.replace("hay", "corn")) == ["changed"]

"""Thresholds from rated answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from selfrag.conversation.history import Entry, Verdict
from selfrag.errors import InputError
from selfrag.evaluation import feedback


def entry(isrel: float, verdict: Verdict, status: str = "answered", model: str = "m", heat: float = 1.0) -> Entry:
    """An answer from one passage with this ISREL."""
    issup = {"[Fully supported]": 0.9, "[Partially supported]": 0.05, "[No support / Contradictory]": 0.05}
    distributions = {"ISREL": {"[Relevant]": isrel, "[Irrelevant]": 1 - isrel}, "ISSUP": issup}
    document: dict[str, Any] = {"model": model, "status": status, "segments": [{"distributions": distributions}]}
    return Entry(1, 1, 0.0, "?", document, {"reflector": {"temperatures": {"ISREL": heat}}}, verdict)


def fitted(entries: Sequence[Entry]) -> float:
    found, kept, left = feedback.examples(entries, "m")
    assert not left
    assert kept.temperatures == {"ISREL": 1.0}
    return feedback.fit(found).thresholds["isrel"]


def test_the_threshold_lies_between_good_and_bad() -> None:
    """Answers rated bad have ISREL below, those rated good above the threshold that is fitted."""
    entries = [entry(0.1 * i, "bad") for i in range(1, 5)] + [entry(0.1 * i, "good") for i in range(6, 10)]
    assert 0.4 < fitted(entries) < 0.6
    found, _, _ = feedback.examples(entries, "m")
    held = {name: (before, after) for name, before, after in feedback.crossed(found, {"isrel": 0.0, "issup": 0.0})}
    before, after = held["answerability, macro-F1"]
    assert after is not None
    assert before is not None
    assert after > before


def test_verdicts_on_abstentions_count_the_other_way_round() -> None:
    """An abstention rated bad should have been answered; one rated good should not."""
    entries = [entry(0.2, "good", "abstained"), entry(0.3, "bad"), entry(0.5, "bad", "abstained"), entry(0.8, "good")]
    assert 0.3 < fitted(entries) < 0.5


def test_what_is_left_out() -> None:
    """Answers of another model, at other temperatures and without evidence are left out and counted."""
    bare = entry(0.5, "good")
    bare.document["segments"] = []
    entries = [entry(0.5, "good", model="other"), entry(0.5, "good", heat=2.0), bare, entry(0.5, "bad")]
    found, _, left = feedback.examples(entries, "m")
    assert len(found) == 1
    assert sorted(left.values()) == [1, 1, 1]


@pytest.mark.parametrize("entries", [[], [entry(0.5, "good"), entry(0.6, "good")]])
def test_verdicts_that_say_nothing(entries: list[Entry]) -> None:
    """Without both good and bad ones nothing is fitted, and the error names the command that rates answers."""
    found, _, _ = feedback.examples(entries, "m")
    with pytest.raises(InputError) as error:
        feedback.fit(found)
    assert "selfrag feedback" in str(error.value.hint)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from selfrag.algorithm import reflection
from selfrag.algorithm.reflection import GROUPS
from selfrag.config import profiles
from selfrag.config.profiles import Profile
from selfrag.errors import ConfigError, InputError, UsageError
from selfrag.evaluation.calibrate import crossed, examples, fit, fit_abstention, fit_retrieve
from selfrag.evaluation.temperatures import Example, Scaling, fit_scaling, relevance, scaled
from selfrag.types import ConfidenceWeights, Critique, Segment, Token
from tests.rows import row


def drawn(count: int, temperature: float, bias: float = 0.0, seed: int = 1) -> list[Example]:
    """Examples whose passages are gold as often as ISREL says at ``temperature`` and ``bias``."""
    random, found = Random(seed), []
    for _ in range(count):
        true = random.random()
        shown = scaled("ISREL", relevance([true]), 1 / temperature, -bias * temperature)[0]
        found.append(Example(True, True, None, None, passages=((float(shown), random.random() < true),)))
    return found


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, 0.0), (1.0, -1.5), (3.0, 0.7)])
def test_the_scaling_that_made_the_data_is_found(temperature: float, bias: float) -> None:
    """Over- and under-confident probabilities, and too high and too low ones, are told from 2,000 labelled passages."""
    fitted, moved, note = fit_scaling(drawn(2000, temperature, bias), "ISREL")
    assert note is None
    assert fitted == pytest.approx(temperature, rel=0.15)
    assert moved == pytest.approx(bias, abs=0.2)


def test_what_is_fitted_is_what_the_reflector_does() -> None:
    """A scaling read from probabilities is `reflection.temper` of the token's log-probabilities, for every group."""
    random = np.random.default_rng(0)
    for group, names in GROUPS.items():
        logits = {name: float(value) for name, value in zip(names, random.normal(size=len(names)), strict=True)}
        token = reflection.temper(Token(0, "", 0.0, logits), {group: 2.0}, {group: -0.6})
        said = reflection.distribution(token.watched, names)
        worth = sum(said[name] * reflection.WORTH[group].get(name, 0.0) for name in names)
        before = np.array([[*reflection.distribution(logits, names).values()]])
        assert Scaling({group: 2.0}, {group: -0.6}).read(group, before) == pytest.approx([worth])


def test_scalings_one_after_the_other() -> None:
    """Two in a row are one; an ISUSE moves as its probability does, and the ends of the scale stay."""
    first, second = Scaling({"ISUSE": 2.0}, {"ISUSE": -1.0}), Scaling({"ISUSE": 0.5}, {"ISUSE": 0.3})
    for isuse in (-0.9, 0.0, 0.6):
        assert second.after(first).utility(isuse) == pytest.approx(second.utility(first.utility(isuse)))
    assert [second.utility(end) for end in (-1.0, 1.0)] == [-1.0, 1.0]
    assert first.utility(0.3) < 0.3


def test_the_threshold_of_asking_again_moves_with_isrel() -> None:
    """An ISREL of one half becomes what the scaling makes of it; 0 and 1 stay."""
    scaling = Scaling({"ISREL": 2.0}, {"ISREL": 0.6})
    read = scaling.read("ISREL", np.array([[0.3, 0.7]]))[0]
    assert [scaling.relevance(value) for value in (0.0, 0.7, 1.0)] == pytest.approx([0.0, read, 1.0])


def test_too_little_to_fit_is_said() -> None:
    """Few examples, or all of one kind, leave a group as it is, with the reason."""
    assert fit_scaling(drawn(5, 2.0), "ISREL")[:2] == (1.0, 0.0)
    assert "0 labelled" in (fit_scaling([], "ISUSE")[2] or "")


def test_too_much_confidence_in_answers_is_mended() -> None:
    """An ISUSE of .8 where half is right comes out near 0; the threshold of a second look moves along, and ISSUP stays."""
    sure = (0.1, 0.0, 0.0, 0.0, 0.9)
    found = [Example(True, i % 2 == 0, None, None, (0.9,), ((0.9, 0.0, 0.1),), sure) for i in range(60)]
    fitted = fit(found, {"retrieve": 0.2, "reconsider": 0.8, "join": 1.0})
    assert fitted.scaling.read("ISUSE", np.array([sure]))[0] == pytest.approx(0.5, abs=0.05)
    assert fitted.thresholds["reconsider"] == pytest.approx(0.0, abs=0.1)
    assert fitted.thresholds["join"] == 1.0
    assert "ISSUP" not in fitted.scaling.temperatures


def test_the_retrieval_threshold_separates_what_evidence_helps() -> None:
    """Above 0.6 evidence helps, below it hurts; without a second run there is nothing to compare."""
    helps = [Example(True, True, False, p) for p in (0.7, 0.8, 0.9)]
    hurts = [Example(True, False, True, p) for p in (0.1, 0.2, 0.5)]
    assert fit_retrieve(helps + hurts, Scaling()) == pytest.approx(0.6)
    assert fit_retrieve([Example(True, True, None, 0.5)], Scaling()) is None


def test_the_retrieval_threshold_stays_where_nothing_speaks_against_it() -> None:
    """Evidence that never makes a difference leaves the threshold that holds now."""
    indifferent = [Example(True, False, False, p) for p in (0.9999, 0.99999)]
    assert fit_retrieve(indifferent, Scaling(), 0.5) == 0.5
    assert "2 questions are few" in fit(indifferent).notes[-1]


NOTHING = {"isrel": 0.0, "issup": 0.0, "isuse": -1.0, "confidence": 0.0}
"""Thresholds that withhold nothing."""


def judged(answerable: bool, isrel: float, issup: float, right: bool | None = None) -> Example:
    return Example(answerable, answerable if right is None else right, None, None, (isrel,), ((issup, 0.0, 1 - issup),))


def test_abstention_thresholds_separate_the_unanswerable() -> None:
    """ISREL tells two of them, ISSUP the third; of equal thresholds the lowest are taken."""
    found = [judged(True, 0.9, 0.8), judged(True, 0.8, 0.9), judged(False, 0.2, 0.9), judged(False, 0.9, 0.1)]
    fitted = fit_abstention(found, Scaling(), None)
    assert 0.2 < fitted["isrel"] < 0.8
    assert 0.1 < fitted["issup"] < 0.8
    assert fitted["isuse"] == -1.0
    assert fit_abstention([judged(True, 0.5, 0.5), judged(True, 0.1, 0.1)], Scaling(), None) == NOTHING


def test_the_utility_has_a_threshold_too() -> None:
    """Where only ISUSE tells the unanswerable questions, it is what decides."""
    use = [(0.1, 0.0, 0.0, 0.0, 0.9), (0.8, 0.0, 0.0, 0.0, 0.2)]
    found = [Example(i == 0, i == 0, None, None, (0.9,), ((0.9, 0.0, 0.1),), use[i]) for i in (0, 1)]
    assert -0.6 < fit_abstention(found, Scaling(), None)["isuse"] < 0.8


def test_a_stated_risk_is_kept_with_as_many_answers_as_possible() -> None:
    """Half of the unsure answers are wrong: under a risk of 0.1 they go, under 0.5 they stay."""
    found = [judged(True, 0.9, 0.9)] * 10 + [judged(True, 0.3, 0.9, right=i % 2 == 0) for i in range(10)]
    assert fit_abstention(found, Scaling(), 0.1)["isrel"] > 0.3
    assert fit_abstention(found, Scaling(), 0.5) == NOTHING


def test_the_confidence_has_the_last_word() -> None:
    """Where only the confidence tells right answers from wrong ones, its threshold does."""
    found = [replace(judged(True, 0.9, 0.9, right=i % 2 == 0), confidence=0.6 + 0.2 * (i % 2 == 0)) for i in range(8)]
    assert fit_abstention(found, Scaling(), None) == {**NOTHING, "confidence": pytest.approx(0.7)}


def test_the_weights_of_the_confidence_follow_the_scaling() -> None:
    """Of critiques that were scaled, they give what the old ones gave before, with the confidence's own scaling on top."""
    scaling = Scaling({"ISREL": 1.5, "ISUSE": 0.8, "confidence": 2.0}, {"ISREL": 0.6, "ISUSE": -0.4, "confidence": 0.3})
    old = ConfidenceWeights(bias=-0.6, isrel=0.4, isuse=0.3, similarity=7.0, centre=0.5)
    before = Critique(isrel=0.7, isuse=0.2, distributions={"ISREL": {}, "ISUSE": {}}, similarity=0.6)
    after = replace(before, isrel=scaling.relevance(0.7), isuse=scaling.utility(0.2))
    told, again = (reflection.confidence([Segment("", None, c)], w) for c, w in ((before, old), (after, scaling.weights(old))))
    assert again == pytest.approx(scaling.read("confidence", relevance([told or 0.0]))[0])


def test_rows_of_two_runs_become_examples() -> None:
    """Labels come from the kept columns, ISREL of all retrieved passages, the closed-book answer from the other run."""
    rows = [row("a"), row("b", status="error"), row("c", answers=None, sources=None), row("d", answers=[], unanswerable=True)]
    first, second = examples(rows, {"a": row("a", "Lyon", found=(), cited=None)})
    assert (first.answerable, first.right, first.right_alone, first.p_retrieve) == (True, True, False, 0.7)
    assert first.passages == ((0.9, True), (0.2, False))
    assert first.isrel == (0.9,)
    assert first.issup == (pytest.approx((0.8, 0.0, 0.2)),)
    assert (second.answerable, second.right, second.passages) == (False, False, ())
    with pytest.raises(InputError, match="labelled"):
        fit([])


def test_before_and_after_are_told_on_held_out_folds() -> None:
    """Separable data gets better where it was not fitted; nothing is NaN."""
    random = Random(3)
    found = [judged(True, random.uniform(0.6, 1), 0.9) for _ in range(40)]
    found += [judged(False, random.uniform(0, 0.4), 0.9) for _ in range(20)]
    table = {name: (before, after) for name, before, after in crossed(found, {})}
    before, after = table["answerability, macro-F1"]
    assert before is not None
    assert after is not None
    assert before == pytest.approx(0.4)
    assert after > 0.95
    assert table["retrieval frequency"] == (None, None)


# --- profiles ------------------------------------------------------------------------------------------------------------------


def test_a_profile_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Thresholds, temperatures, biases and the model, whatever characters its name has."""
    profile = Profile("wiki", 'a "b"\\c', {"retrieve": 0.25, "isuse": -0.5}, {"ISREL": 1.5}, {"ISUSE": -0.7}, {"bias": -0.5})
    path = profiles.save(profile, tmp_path / "profiles", "a note\nof two lines")
    assert profiles.load("wiki", path.parent) == profile
    assert [file.name for file in path.parent.iterdir()] == ["wiki.toml"]


def test_a_missing_profile_names_those_that_are_there(tmp_path: Path) -> None:
    """The hint is the command that makes one; names cannot leave the folder."""
    profiles.save(Profile("wiki", "m"), tmp_path)
    with pytest.raises(UsageError, match="known: wiki") as caught:
        profiles.load("wikj", tmp_path)
    assert "selfrag calibrate" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="cannot name"):
        profiles.load("../wiki", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "thresholds = ",
        "[thresholds]\nretrieve = 2",
        "[thresholds]\nx = 1",
        "[temperatures]\nISREL = 0",
        "[biases]\nx = 1",
        "[confidence]\nisrel = -1",
        "x = 1",
    ],
)
def test_a_damaged_profile_is_refused(tmp_path: Path, text: str) -> None:
    """What cannot be is named, with the file."""
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"p\.toml"):
        profiles.load("p", tmp_path)

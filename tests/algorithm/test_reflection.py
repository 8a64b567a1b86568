"""Scores and decisions read from reflection tokens; the defects of the published code each have a test by name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrag.algorithm import reflection
from selfrag.algorithm.reflection import (
    CONTINUE,
    FULLY,
    ISREL,
    ISSUP,
    ISUSE,
    NO_RETRIEVAL,
    NO_SUPPORT,
    PARTIALLY,
    REFLECTION_TOKENS,
    RELEVANT,
    RETRIEVAL,
    RETRIEVE,
)
from selfrag.errors import UsageError
from selfrag.types import ConfidenceWeights, Critique, SearchOptions, Segment, Weights
from tests import golden
from tests.scripted_engine import control, words

FEW = Path(__file__).parents[1] / "data" / "golden_few.json"


def logs(*pairs: tuple[str, float]) -> dict[str, float]:
    return {token: math.log(p) for token, p in pairs}


def test_recorded_scores_are_equal_bit_by_bit(capsys: pytest.CaptureFixture[str]) -> None:
    """Scores recorded from the published code on scripted outputs come out with ==."""
    assert golden.main(str(FEW)) == 0
    assert "all equal" in capsys.readouterr().out


def test_a_changed_score_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison fails at the first score that differs in its last bit."""
    changed = FEW.read_text().replace('"scores": [3.308718706896219e-43', '"scores": [3.308718706896220e-43')
    assert changed != FEW.read_text()
    (tmp_path / "changed.json").write_text(changed)
    assert golden.main(str(tmp_path / "changed.json")) == 1
    assert "case 0" in capsys.readouterr().out


def test_there_are_fifteen_tokens_in_the_published_order() -> None:
    """The order is that of the published models' ids, 32000 to 32014."""
    assert len(REFLECTION_TOKENS) == len(set(REFLECTION_TOKENS)) == 15
    assert REFLECTION_TOKENS[0] == NO_RETRIEVAL
    assert REFLECTION_TOKENS.index("<paragraph>") == 5
    assert REFLECTION_TOKENS[-3:] == ISSUP


# --- defects of the published code that must not come back ---------------------------------------------------------------------


def test_defect_1_retrieval_is_not_decided_on_logarithms() -> None:
    """p(Retrieval) = .9 gives .9, not the .034 that dividing log-probabilities gives."""
    logprobs = logs((RETRIEVAL, 0.9), (NO_RETRIEVAL, 0.1))
    assert reflection.p_retrieve(logprobs) == pytest.approx(0.9)
    assert reflection.decide(logprobs, 0.2, has_evidence=False).action == "retrieve"


def test_defect_2_every_group_and_weight_counts() -> None:
    """Utility, the sequence term and all three weights enter the score."""
    critique = Critique(isrel=0.5, issup=0.25, isuse=-1.0, sequence=0.125)
    assert reflection.segment_score(critique, Weights(2, 4, 8)) == 0.125 + 1.0 + 1.0 - 8.0
    assert reflection.segment_score(critique, Weights(2, 4, 8, sequence=False)) == -6.0
    assert reflection.segment_score(replace(critique, retrieval=0.5), Weights(2, 4, 8, ret=3.0)) == -5.875 + 1.5


def test_defect_5_control_is_told_by_id() -> None:
    """Words that spell a token are no token, and a token leaves no words in the text."""
    tokens = [control(RELEVANT), *words("is [Irrelevant] here"), control(CONTINUE)]
    assert reflection.text_of(tokens) == "is [Irrelevant] here"
    assert reflection.first_of(tokens, ISSUP) is None


def test_defect_7_a_missing_group_is_no_probability() -> None:
    """Without ISREL, ISSUP and ISUSE a segment is worth its sequence term; no tokens at all are worth nothing."""
    critique = reflection.critique(words("plain", -1.0))
    assert (critique.isrel, critique.issup, critique.isuse) == (0, 0, 0)
    assert reflection.segment_score(critique, Weights()) == pytest.approx(math.exp(-1))
    assert reflection.critique([]) == Critique()


def test_defect_7_probabilities_of_one_do_not_crash() -> None:
    """Both Retrieve probabilities equal to 1 give one half."""
    assert reflection.p_retrieve({RETRIEVAL: 0.0, NO_RETRIEVAL: 0.0}) == 0.5


# --- scores --------------------------------------------------------------------------------------------------------------------


def test_partial_support_counts_half() -> None:
    """ISSUP is p(Fully) + p(Partially) / 2 over the group's mass."""
    assert reflection.issup(logs((FULLY, 0.2), (PARTIALLY, 0.2), (NO_SUPPORT, 0.4))) == pytest.approx(0.375)


def test_utility_is_an_expected_value() -> None:
    """ISUSE runs from -1 (certainly Utility:1) to 1 (certainly Utility:5)."""
    assert reflection.isuse(logs((ISUSE[0], 0.9))) == pytest.approx(-1)
    assert reflection.isuse(logs((ISUSE[4], 0.9))) == pytest.approx(1)
    assert reflection.isuse(logs(*((token, 0.2) for token in ISUSE))) == pytest.approx(0)


def test_the_first_token_of_a_group_decides() -> None:
    """A segment with two ISSUP tokens is judged by the first."""
    first = control(FULLY, logs((FULLY, 0.9), (NO_SUPPORT, 0.1)))
    second = control(NO_SUPPORT, logs((FULLY, 0.1), (NO_SUPPORT, 0.9)))
    assert reflection.critique([first, second]).issup == pytest.approx(0.9)


def test_what_an_engine_does_not_report_is_not_invented() -> None:
    """Where only the sampled token's probability is known, the rest counts as zero; where nothing is, there is no critique."""
    assert reflection.critique([control(FULLY, {}, -0.7)]).issup == pytest.approx(1.0)
    assert reflection.critique([control(NO_SUPPORT, {}, -0.7)]).issup == pytest.approx(0.0)
    assert reflection.decide({}, 0.2, has_evidence=True).probability is None


LOGPROB = st.floats(-30, 0)
SHARE = st.floats(0, 1)
CRITIQUES = st.builds(Critique, isrel=SHARE, issup=SHARE, isuse=st.floats(-1, 1), sequence=SHARE, retrieval=SHARE)
WEIGHTS = st.builds(Weights, *[st.floats(0, 10)] * 3, sequence=st.booleans(), ret=st.floats(0, 10))


@given(critique=CRITIQUES, weights=WEIGHTS, known=st.sets(st.sampled_from(["ISREL", "ISSUP", "ISUSE"])))
def test_no_score_exceeds_its_bound(critique: Critique, weights: Weights, known: set[str]) -> None:
    """Whatever is still to come, the score cannot pass the bound computed from what is known."""
    partial = replace(critique, sequence=0.0, distributions={group: {} for group in known})
    assert reflection.segment_score(critique, weights) <= reflection.score_bound(partial, weights)


@given(logprobs=st.lists(LOGPROB, min_size=1, max_size=20), split=st.integers(0, 20))
def test_the_sequence_term_never_exceeds_its_bound(logprobs: list[float], split: int) -> None:
    """The bound after some tokens holds for every way to go on."""
    bound = reflection.sequence_bound(sum(logprobs[:split]), max_tokens=20)
    assert reflection.sequence_term(sum(logprobs), len(logprobs)) <= bound + 1e-12


@given(st.dictionaries(st.sampled_from(ISREL + ISSUP + ISUSE + RETRIEVE), LOGPROB))
def test_scores_stay_in_their_ranges(logprobs: dict[str, float]) -> None:
    """ISREL and ISSUP lie in [0, 1], ISUSE in [-1, 1], and distributions sum to 1, whatever is reported."""
    assert 0 <= reflection.isrel(logprobs) <= 1
    assert 0 <= reflection.issup(logprobs) <= 1
    assert -1 - 1e-9 <= reflection.isuse(logprobs) <= 1 + 1e-9
    assert sum(reflection.distribution(logprobs, ISSUP).values()) == pytest.approx(1)


@pytest.mark.parametrize("bad", [Weights(rel=-0.1), Weights(sup=math.inf), Weights(use=math.nan), Weights(ret=-1)])
def test_impossible_weights_are_refused(bad: Weights) -> None:
    """A negative, infinite or undefined weight would break the bounds; the message names the flag."""
    with pytest.raises(UsageError, match="w_"):
        reflection.check_weights(bad)


# --- decisions -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("none", "retrieve", "go_on", "has_evidence", "action"),
    [
        (0.1, 0.1, 0.8, True, "continue"),
        (0.1, 0.1, 0.8, False, "retrieve"),
        (0.3, 0.6, 0.1, True, "retrieve"),
        (0.9, 0.05, 0.05, True, "none"),
        (0.8, 0.2, 0.0001, False, "none"),  # exactly the threshold does not retrieve
    ],
)
def test_what_follows_a_segment(none: float, retrieve: float, go_on: float, has_evidence: bool, action: str) -> None:
    """Old evidence goes on if that is the likeliest and there is some; new evidence needs a probability above the threshold."""
    logprobs = {NO_RETRIEVAL: math.log(none), RETRIEVAL: math.log(retrieve), CONTINUE: math.log(go_on)}
    assert reflection.decide(logprobs, 0.2, has_evidence).action == action


def test_votes_are_stripped_and_summed() -> None:
    """Equal answers after stripping share one sum, in order of arrival."""
    assert reflection.vote([(" A", 1.0), ("B", 1.5), ("A ", 1.0)]) == {"A": 2.0, "B": 1.5}


def test_temperature_flattens_one_group_alone() -> None:
    """A temperature above 1 draws the probabilities of its group together and leaves the others."""
    token = control(RELEVANT, logs((ISREL[0], 0.1), (ISREL[1], 0.9), (FULLY, 0.9), (NO_SUPPORT, 0.1)))
    tempered = reflection.temper(token, {"ISREL": 2.0}, {})
    assert reflection.isrel(tempered.watched) == pytest.approx(0.75)
    assert reflection.issup(tempered.watched) == reflection.issup(token.watched)
    assert reflection.temper(token, {}, {}) is token


def test_a_bias_moves_the_log_odds_of_one_group_alone() -> None:
    """A bias adds to the log-odds of a group's probability; the others stay."""
    token = control(RELEVANT, logs((ISREL[0], 0.5), (ISREL[1], 0.5), (FULLY, 0.9), (NO_SUPPORT, 0.1)))
    moved = reflection.temper(token, {}, {"ISREL": -math.log(3)})
    assert reflection.isrel(moved.watched) == pytest.approx(0.25)
    assert reflection.issup(moved.watched) == reflection.issup(token.watched)


def test_an_answer_without_evidence_is_not_doubted() -> None:
    """Thresholds judge evidence; an answer that needed none passes."""
    strict = SearchOptions(abstain_isrel=0.9, abstain_issup=0.9, abstain_isuse=0.9)
    assert not reflection.doubtful([Segment("known", None, Critique())], strict)


JUDGED = Critique(isrel=0.8, issup=0.1, isuse=0.5, distributions={"ISREL": {}, "ISUSE": {}}, similarity=0.6)


def test_the_confidence_is_a_sum_of_log_odds() -> None:
    """By hand: odds of 4 and of 3, the cosine counted from its centre; a segment without evidence is passed over."""
    weights = ConfidenceWeights(bias=0.5, isrel=2.0, isuse=1.0, similarity=10.0, centre=0.5)
    odds = math.exp(0.5) * 4**2 * 3 * math.exp(1.0)
    segments = [Segment("known", None, Critique()), Segment("so", None, JUDGED)]
    assert reflection.confidence(segments, weights) == pytest.approx(odds / (1 + odds))
    assert reflection.confidence(segments[:1], weights) is None


def test_what_was_not_judged_moves_no_confidence() -> None:
    """Without ISUSE and without a cosine, ISREL and the bias alone count; certainty stays finite."""
    weights = ConfidenceWeights(isrel=1.0, isuse=1.0, similarity=10.0)
    bare = replace(JUDGED, distributions={"ISREL": {}}, similarity=None)
    assert reflection.confidence([Segment("so", None, bare)], weights) == pytest.approx(0.8)
    sure = replace(bare, isrel=1.0)
    assert 0.999 < (reflection.confidence([Segment("so", None, sure)], weights) or 0) < 1


def test_an_answer_of_little_confidence_is_doubted() -> None:
    """Below its threshold the program abstains, but not from a closed set of answers, one of which is right."""
    options = SearchOptions(confidence=ConfidenceWeights(isrel=1.0, isuse=0.0), abstain_confidence=0.9)
    assert reflection.doubtful([Segment("so", None, JUDGED)], options)
    assert not reflection.doubtful([Segment("so", None, JUDGED)], replace(options, abstain_confidence=0.7))
    assert not reflection.doubtful([Segment("so", None, JUDGED)], replace(options, choices=("yes", "no")))


def test_an_answer_of_little_use_is_doubted() -> None:
    """ISUSE below its threshold is a reason to abstain, where a segment carries it."""
    judged = {"ISREL": {}, "ISSUP": {}}
    useless = Critique(isrel=1.0, issup=1.0, isuse=-0.5, distributions={**judged, "ISUSE": {}})
    assert reflection.doubtful([Segment("so", None, useless)], SearchOptions(abstain_isuse=0.0))
    assert not reflection.doubtful([Segment("so", None, useless)], SearchOptions())
    unsaid = Critique(isrel=1.0, issup=1.0, distributions=judged)
    assert not reflection.doubtful([Segment("so", None, unsaid)], SearchOptions(abstain_isuse=0.5))

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrag.evaluation import curves, intervals, metrics
from selfrag.evaluation.metrics import Gold, gold_of


@pytest.mark.parametrize(
    ("answer", "gold", "em", "f1"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1.0, 1.0),
        ("Paris, France", "Paris", 0.0, 2 / 3),
        ("", "Paris", 0.0, 0.0),
        ("the", "a", 1.0, 1.0),
        ("London", "Paris", 0.0, 0.0),
    ],
)
def test_exact_match_and_f1_follow_squad(answer: str, gold: str, em: float, f1: float) -> None:
    """Case, punctuation, articles and white space do not count."""
    assert metrics.exact_match(answer, [gold]) == em
    assert metrics.token_f1(answer, ["no", gold]) == pytest.approx(f1)


def test_contains_is_the_paper_s_and_accuracy_compares_words() -> None:
    """The paper looks for the letters as they are; accuracy needs whole words and forgives case."""
    assert metrics.contains("It was in Paris.", ["Paris"]) == 1
    assert metrics.contains("It was in paris.", ["Paris"]) == 0
    assert metrics.contains("Comparison", ["Paris", "paris"]) == 1
    assert metrics.accuracy("It was in paris.", ["Paris"]) == 1
    assert metrics.accuracy("Comparison", ["Paris"]) == 0
    assert metrics.accuracy("a 434-line poem", ["434"]) == metrics.accuracy("in 1914–1918", ["1914-1918"]) == 1
    assert metrics.accuracy("1,500 people", ["500"]) == 0
    assert metrics.accuracy("", ["Paris"]) == metrics.accuracy("Paris", []) == 0


def test_points_of_a_long_answer_count_by_share() -> None:
    """STR-EM is the share of the points of which one wording stands in the answer."""
    assert metrics.string_em("Born in 1970 in Rome.", [["1970"], ["Paris", "rome"], ["tall"]]) == pytest.approx(2 / 3)


def test_gold_is_read_from_the_names_that_data_sets_use() -> None:
    """Answers, impossibility, sources and the gold paragraph come under several names; nothing known is None."""
    assert gold_of({"answers": {"text": ["a", "b"]}}).answers == ("a", "b")
    assert gold_of({"answer": "a", "gold_titles": ["T"]}) == Gold(("a",), (), True, ("T",), None)
    assert gold_of({"unanswerable": True, "answers": []}).answerable is False
    assert gold_of({"is_impossible": False, "context": "text"}).passage == "text"
    assert gold_of({"topic": "x"}).answerable is None
    assert gold_of({"qa_pairs": [{"short_answers": ["a"]}, {"short_answers": ["b"]}]}).groups == (("a",), ("b",))


@pytest.mark.parametrize(
    "source", ["docs/Ada_Lovelace.md", "Ada_Lovelace.md", "Ada Lovelace", "ada lovelace", "The Analytical Engine"]
)
def test_a_source_is_named_by_path_file_or_title(source: str) -> None:
    """A gold source matches by path, end of path, file name or title, underscores and case forgiven."""
    passage = {"source": "docs/Ada_Lovelace.md", "title": "The Analytical Engine › Notes", "text": "x"}
    assert metrics.is_gold(passage, Gold(sources=(source,))) is True
    assert metrics.is_gold(passage, Gold(sources=("Lovelace",))) is False
    assert metrics.is_gold(passage, Gold()) is None


def test_a_gold_paragraph_is_known_by_its_words() -> None:
    """A chunk of the paragraph is the paragraph; without the text, nothing is claimed."""
    gold = Gold(passage="Ada wrote the first program for the engine. It was never built.")
    assert metrics.is_gold({"text": "Ada wrote the first program for the engine."}, gold) is True
    assert metrics.is_gold({"text": "Grace found a moth in the relay."}, gold) is False
    assert metrics.is_gold({"source": "x"}, gold) is None


def test_ranks() -> None:
    """Recall looks at the first k, the reciprocal rank at the first hit."""
    hits = [False, True, False, True]
    assert [metrics.recall_at(hits, k) for k in (1, 2, 5)] == [0, 1, 1]
    assert metrics.reciprocal_rank(hits) == 0.5
    assert metrics.reciprocal_rank([]) == 0


# --- curves --------------------------------------------------------------------------------------------------------------------


def test_calibration_error_is_the_weighted_gap() -> None:
    """Two bins, gaps 0.1 and 0.4, equally full."""
    confidence, correct = np.array([0.9, 0.9, 0.4, 0.4]), np.array([1.0, 1.0, 0.0, 0.0])
    assert curves.ece(confidence, correct) == pytest.approx(0.25)
    assert [b.count for b in curves.reliability(confidence, correct)] == [2, 2]
    assert curves.ece(np.array([1.0]), np.array([1.0])) == 0


def test_auroc_counts_ties_half() -> None:
    """By the definition over pairs, and None where there is only one kind."""
    assert curves.auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])) == 0.875
    assert curves.auroc(np.array([0.9]), np.array([1.0])) is None
    assert curves.auroc(np.array([]), np.array([])) is None


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.sampled_from([0.0, 1.0])), min_size=2, max_size=12))
def test_auroc_is_the_share_of_ordered_pairs(pairs: list[tuple[float, float]]) -> None:
    """The rank formula equals counting all pairs."""
    right = [c for c, good in pairs if good]
    wrong = [c for c, good in pairs if not good]
    found = curves.auroc(np.array([c for c, _ in pairs]), np.array([good for _, good in pairs]))
    if not right or not wrong:
        assert found is None
    else:
        assert found == pytest.approx(np.mean([(r > w) + 0.5 * (r == w) for r in right for w in wrong]))


def test_risk_grows_with_coverage_and_ties_share_their_errors() -> None:
    """The order within a tie does not matter, and the last point is the overall error."""
    confidence = np.array([0.9, 0.5, 0.5, 0.1])
    for correct in (np.array([1.0, 1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])):
        coverage, risk = curves.risk_coverage(confidence, correct)
        assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
        assert risk.tolist() == pytest.approx([0, 0.25, 1 / 3, 0.5])
    assert curves.aurc(np.array([]), np.array([])) is None


# --- intervals -----------------------------------------------------------------------------------------------------------------


def test_a_mean_has_an_interval_about_as_wide_as_theory_says() -> None:
    """For 400 coin flips the 95 % interval is close to ± 1.96·√(p(1−p)/n); draws are seeded."""
    values = (np.arange(400) % 2).astype(float)[:, None]
    (found,) = intervals.ratios(values, np.ones_like(values))
    assert found.value == 0.5
    assert found.n == 400
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.1)
    assert intervals.ratios(values, np.ones_like(values)) == [found]


def test_an_empty_denominator_is_none_and_never_nan() -> None:
    """No question counts, or no question at all: no value and no interval."""
    nothing = np.zeros((3, 1))
    assert intervals.ratios(nothing, nothing)[0].value is None
    assert intervals.ratios(np.zeros((0, 2)), np.zeros((0, 2)))[1].value is None
    assert intervals.statistic(curves.auroc, np.array([]), np.array([])).value is None
    assert intervals.paired(*(np.zeros(3) for _ in range(4))).value is None


def test_blocks_of_draws_do_not_change_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large inputs are resampled in blocks; each resample draws as many questions as there are."""
    monkeypatch.setattr(intervals, "BLOCK", 50)
    blocks = list(intervals.draws(20, resamples=7))
    assert sum(len(block) for block in blocks) == 7
    assert all((block.sum(axis=1) == 20).all() for block in blocks)


def test_paired_differences_are_narrower_than_unpaired_ones() -> None:
    """What both runs have in common cancels out."""
    a = (np.arange(200) % 2).astype(float)
    b = a.copy()
    b[:10] = 1.0
    ones = np.ones(200)
    found = intervals.paired(a, ones, b, ones)
    assert found.value == pytest.approx(0.025)
    assert found.low is not None
    assert found.low > 0


@pytest.mark.parametrize(("b", "c", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 22 / 1024)])
def test_mcnemar_is_exact(b: int, c: int, p: float) -> None:
    """The two-sided binomial probability of the discordant pairs, the same both ways."""
    assert intervals.mcnemar(b, c) == pytest.approx(p)
    assert intervals.mcnemar(c, b) == pytest.approx(p)


def test_words_of_free_text() -> None:
    """Content words count once each, function words not at all; the best of several references counts."""
    references = ["Cargo makes a new folder with a manifest.", "nothing alike"]
    assert metrics.content_recall("It makes a folder.", references) == pytest.approx(2 / 5)
    assert metrics.content_precision("It makes a folder.", references) == 1.0
    assert metrics.content_precision("", references) == metrics.content_recall("", references) == 0.0
    assert metrics.content_recall("the of", ["the of"]) == 0.0


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    """F1 of the longest common subsequence; Korean, Chinese and Japanese by characters."""
    assert metrics.rouge_l("the cat sat", ["the cat on the mat sat"]) == pytest.approx(2 * 3 / 9)
    assert metrics.rouge_l("b a", ["a b"]) == pytest.approx(0.5)
    assert metrics.rouge_l("서울에서", ["서울"]) == pytest.approx(2 * 2 / 6)
    assert metrics.rouge_l("", ["a"]) == metrics.rouge_l("a", [""]) == 0.0


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_rouge_l_is_symmetric_and_bounded(a: list[str], b: list[str]) -> None:
    """Symmetric, in [0, 1], and 1 for the same words."""
    one, other = metrics.rouge_l(" ".join(a), [" ".join(b)]), metrics.rouge_l(" ".join(b), [" ".join(a)])
    assert one == pytest.approx(other)
    assert 0 <= one <= 1
    assert not a or metrics.rouge_l(" ".join(a), [" ".join(a)]) == 1.0


def test_a_gold_sentence_may_stand_among_others() -> None:
    """Four in five of a gold sentence's words make a hit; a few of them do not."""
    gold = ["Each value has exactly one owner at a time."]
    assert metrics.holds_sentence("Rust is strict. Each value has exactly one owner.", gold) == 0.0
    assert metrics.holds_sentence("Rust is strict. Each value has exactly one owner at a time!", gold) == 1.0
    assert metrics.holds_sentence("owner", gold) == metrics.holds_sentence("", gold) == 0.0


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("The tower was built in 1889.", True),
        ("“It swims.” said she.", True),
        ("in 1889", False),
        ("owner", False),
        ("was built in 1889.", False),
        ("The tower was built in", False),
        ("탑은 1889년에 세워졌다.", True),
        ("세워졌다.", False),
        ("| heron | 90 cm |", True),
        ("Run:\n```\ncargo build\n```", True),
        ("", False),
    ],
)
def test_whole_sentences(text: str, whole: bool) -> None:
    """A whole sentence begins like one, ends like one and has some words; rows of tables and code can be read alone."""
    assert metrics.is_whole_sentence(text) == whole


def test_gold_sentences_and_references_are_read() -> None:
    """References in free text and the sentences that answer come under their names; sentences alone make it answerable."""
    found = gold_of({"long_answer": "A long one.", "sentence_answers": ["One.", "Two."]})
    assert (found.references, found.sentences, found.answerable) == (("A long one.",), ("One.", "Two."), True)

"""Cutting passages and taking wrong answers from them."""

from __future__ import annotations

from random import Random

from selfrag.train.hard_negatives import HardNegatives
from selfrag.train.passages import holds, lacking, likest, sentence_at, tidy, window, wrong_spans

PASSAGE = (
    "Marie Curie was born in Warsaw in 1867. She moved to Paris in 1891. With Pierre Curie she found polonium and radium. "
    "The Nobel Prize came in 1903 and again in 1911. Irène Joliot-Curie was her daughter."
)


def test_a_window_holds_the_answer_in_whole_sentences() -> None:
    """A cut passage keeps the sentence of the answer and cuts no sentence, at whatever chance."""
    at = PASSAGE.index("polonium")
    for seed in range(30):
        cut = window(PASSAGE, at, 20, Random(seed))
        assert "polonium and radium." in cut
        assert cut in PASSAGE
        assert cut.endswith(".")
        assert len(cut.split()) <= 30


def test_the_answer_stands_anywhere_in_a_window() -> None:
    """Where the answer stands in the cut says nothing: it is first, last and in between."""
    at = PASSAGE.index("polonium")
    places = {window(PASSAGE, at, 20, Random(seed)).index("With Pierre") == 0 for seed in range(30)}
    assert places == {True, False}


def test_wrong_answers_are_of_the_same_kind() -> None:
    """A number gets other numbers, a name other names; none of them is, holds or is held by an answer."""
    assert set(wrong_spans(PASSAGE, ["1867"], 9, Random(1))) == {"1891", "1903", "1911"}
    names = wrong_spans(PASSAGE, ["Warsaw"], 9, Random(1))
    assert "Paris" in names
    assert all("Warsaw" not in name for name in names)


def test_sentences_and_tidying() -> None:
    """The sentence at a place is found; spaces around punctuation are undone."""
    assert sentence_at(PASSAGE, PASSAGE.index("Paris")) == "She moved to Paris in 1891."
    assert tidy("The group ( BPI ) sold 9.8 million , it 's said .") == "The group (BPI) sold 9.8 million, it's said."
    assert holds(PASSAGE, ["joliot curie"])
    assert not holds(PASSAGE, ["adium"])


def test_neighbours_share_words_but_not_the_answer() -> None:
    """A hard negative is the passage most like the question that does not hold the answer."""
    passages = [("Curie", PASSAGE), ("Warsaw", "Warsaw lies on the Vistula."), ("Radium", "Radium was found by Marie in a shed.")]
    near = HardNegatives(passages)
    assert near.search("Where was Marie Curie born?", 3)[0] == 0
    assert near.wrong("Where was Marie born?", PASSAGE, ["Warsaw"]) == [passages[2]]


def test_the_sentence_with_the_words_of_a_question() -> None:
    """It is found by the longer words that it shares with the question; without any, the first one is taken."""
    assert PASSAGE[likest(PASSAGE, "When did the Nobel prize come?") :].startswith("The Nobel Prize")
    assert likest(PASSAGE, "why?") == 0


def test_what_is_left_of_a_passage_without_the_answer() -> None:
    """Every sentence that holds an answer is gone, the others stand in their order; too few words are none."""
    left = lacking(PASSAGE, ["radium", "Warsaw"], least=10)
    assert left == (
        "She moved to Paris in 1891. The Nobel Prize came in 1903 and again in 1911. Irène Joliot-Curie was her daughter."
    )
    assert lacking(PASSAGE, ["radium", "Warsaw"], least=30) == ""

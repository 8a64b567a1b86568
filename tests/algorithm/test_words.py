from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selfrag.algorithm.words import content_words, is_wide, words


def test_words_ignore_case_and_compatibility_forms() -> None:
    """Case, full-width letters and punctuation make no difference."""
    assert words("Ｔhe Straße, of 2019") == words("THE STRASSE of 2019!") == ["the", "strasse", "of", "2019"]


def test_content_words() -> None:
    """Function words are left out; Chinese, Japanese and Korean come as pairs of characters."""
    assert content_words("What is the Owner of it?") == ["owner"]
    assert content_words("서울에서 왔다") == ["서울", "울에", "에서", "왔다"]


def test_a_word_of_two_scripts_is_two() -> None:
    """Latin letters and digits stay whole beside Chinese, Japanese or Korean; punctuation between them is no word."""
    assert words("GPU를 2019年に使う。", wide=2) == ["gpu", "를", "2019", "年に", "に使", "使う"]
    assert words("使う。", wide=1) == ["使", "う"]
    assert words("使う。") == ["使う"]


@given(st.text(), st.sampled_from([None, 1, 2, 3]))
def test_words_are_made_of_letters_and_digits(text: str, wide: int | None) -> None:
    """Whatever the text: no empty word, no separator in one, no two scripts in one, no more characters than asked for."""
    for word in words(text, wide):
        assert word
        assert all(c.isalnum() or c == "_" or not c.isascii() for c in word)
        assert len({is_wide(c) for c in word}) == 1
        assert wide is None or not is_wide(word[0]) or len(word) <= wide

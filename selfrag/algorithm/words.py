"""Text as words, for comparing texts. Pure.

Three tokenizers differ on purpose: `index.search.fulltext` must split a question as SQLite splits the documents, SQuAD's
normalisation (`evaluation.metrics.normalise`) is part of a published metric, and `algorithm.correction` keeps the spelling of
terms for its queries.
"""

from __future__ import annotations

import re
import unicodedata

_WIDE = "\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff"
_WORD = re.compile(rf"(?:(?=\w)[{_WIDE}])+|[^\W{_WIDE}]+")

_ENGLISH = """
a about after all also an and any are as at be been being but by can could did do does for from had has have he her his how i if
in into is it its me my no not of on or our s she should so some such t than that the their them then there these they this those
to was we were what when where which who whom why will with would you your
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""English words that say nothing of what a sentence is about."""


def words(text: str, wide: int | None = None) -> list[str]:
    """The words of ``text`` in order, ignoring case and compatibility forms (NFKC).

    Chinese, Japanese and Korean do not separate words, or add endings to them. A run of their characters is one word; with
    ``wide`` it is split into overlapping groups of this many characters.
    """
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if wide is None:
        return found
    cut = []
    for word in found:
        cut += [word[i : i + wide] for i in range(max(1, len(word) - wide + 1))] if is_wide(word[0]) else [word]
    return cut


def content_words(text: str) -> list[str]:
    """`words` without function words, Chinese, Japanese and Korean in pairs of characters."""
    return [word for word in words(text, wide=2) if word not in FUNCTION_WORDS]


def is_wide(character: str) -> bool:
    """Whether it is Chinese, Japanese or Korean."""
    return "\u1100" <= character <= "\u11ff" or "\u2e80" <= character <= "\ud7ff" or "\uf900" <= character <= "\ufaff"

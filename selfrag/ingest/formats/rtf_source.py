"""The source of an RTF text in the words that striprtf knows: what is deleted or hidden is left out, raised digits are marked,
letters of old code pages and of the font Symbol are in Unicode, text boxes, comments and the numbers of lists are text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from selfrag.ingest.formats.superscripts import marked
from selfrag.ingest.formats.symbols import SYMBOL

_TOKEN = re.compile(r"\\'[0-9a-fA-F]{2}|\\([a-z]+)(-?\d+)? ?|\\.|[{}]|[^\\{}]+", re.DOTALL)
_PAGES = {"mac": "mac_roman", "10000": "mac_roman", "pc": "cp437", "pca": "cp850"}
_PAGE = re.compile(r"\\(mac|pca?)(?![a-z])|\\ansicpg(10000)(?!\d)")
_SYMBOL = re.compile(r"\{\\f(\d+)[^{};]*\\fcharset2\b[^{};]* Symbol;")
_TEXT = frozenset(
    ("u", "tab", "line", "emdash", "endash", "bullet", "lquote", "rquote", "ldblquote", "rdblquote", "par", "~", "_")
)
_SHOWN = {"pntext": "", "annotation": " [Comment] "}
"""Destinations that readers leave out and people see, and what stands before them."""


@dataclass(frozen=True, slots=True)
class _State:
    """What holds within a group. ``boxed`` is 1 in what describes a drawing, 2 in the text of it."""

    deleted: bool = False
    hidden: bool = False
    raised: bool = False
    symbol: bool = False
    boxed: int = 0

    @property
    def seen(self) -> bool:
        return not self.deleted and not self.hidden and self.boxed != 1


def rewritten(source: str) -> str:
    """``source``, which holds a character for each byte, with its groups unchanged."""
    page = _PAGE.search(source[:200])
    return "".join(_Rewriter(_PAGES[page[1] or page[2]] if page else "", source).pieces(source))


class _Rewriter:
    def __init__(self, codec: str, source: str) -> None:
        self.codec = codec
        self.symbols = {found[1] for found in _SYMBOL.finditer(source)}
        self.state = _State()
        self.outer: list[_State] = []
        self.starred = False
        self.replaces = False  # the next character stands for one that was given in Unicode

    def pieces(self, source: str) -> Iterator[str]:
        for token in _TOKEN.finditer(source):
            text, word = token[0], token[1]
            if text == "{":
                self.outer.append(self.state)
                yield text
            elif text == "}":
                self.state = self.outer.pop() if self.outer else self.state
                yield text
            elif text == r"\*":
                self.starred = True
                continue
            elif word and word not in _TEXT:
                yield self.word(text, word, token[2])
            elif self.state.seen:
                yield self.text(text, word)
            self.starred = False

    def word(self, text: str, word: str, value: str | None) -> str:
        """A control word: what it changes, and what stands in its place."""
        on = value != "0"
        if word in ("deleted", "v", "super", "nosupersub", "sub", "up", "plain", "f"):
            self.state = replace(self.state, **_changed(word, on, value in self.symbols))
        elif word == "shpinst":
            self.state = replace(self.state, boxed=1)
            return ""
        elif word == "shptxt":
            self.state = replace(self.state, boxed=2)
            return ""
        elif word in _SHOWN:
            return _SHOWN[word] if self.state.seen else ""
        return r"\*" + text if self.starred else text

    def text(self, text: str, word: str | None) -> str:
        if word == "u" or not (self.codec or self.state.raised or self.state.symbol):
            self.replaces = word == "u"
            return text
        if self.replaces and not text.startswith("\\"):
            self.replaces = False
            return text[:1] + (self.text(text[1:], None) if text[1:] else "")
        self.replaces = False
        if self.state.symbol and not word:
            text = SYMBOL.get(int(text[2:], 16), "") if text.startswith(r"\'") else text.translate(SYMBOL)
        elif self.codec and text.startswith(r"\'") and text[2] in "89abcdefABCDEF":
            text = bytes.fromhex(text[2:]).decode(self.codec, "replace")
        return marked(text) if self.state.raised and not word else text


def _changed(word: str, on: bool, symbol: bool) -> dict[str, bool]:
    match word:
        case "plain":
            return {"deleted": False, "hidden": False, "raised": False}
        case "deleted":
            return {"deleted": on}
        case "v":
            return {"hidden": on}
        case "f":
            return {"symbol": symbol}
    return {"raised": on and word in ("super", "up")}

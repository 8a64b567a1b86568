"""Superscripts and subscripts in typed notation, the same in every format: ``10^6``, ``x_max``, but H2O and 1st.

A caret can be typed into a search, takes exponents of any length, and distinguishes 10^6 from 106.
"""

from __future__ import annotations

import re

_ORDINAL = re.compile(r"(?:st|nd|rd|th|er|re|e|ère|ème|o|a|os|as)\Z")
_AFTER_LETTERS = frozenset(("me", "mes", "lle", "gr", "o", "os", "TM", "™", "SM", "®", "ª", "º", "*", "†", "‡"))
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # no characters of any text
_MARKED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


def raised(name: str, text: str, before: str) -> str:
    """Superscript and subscript in a line: 10^6 and x_max, but H2O, 1st and the marks of notes."""
    last = before[-1:]
    if not text:
        return ""
    if name == "sub":
        plain = text.isdigit() and last.isalpha()
        return text if plain else f"_{text}" if len(text) == 1 or text.isalnum() else f"_({text})"
    if (last.isdigit() and _ORDINAL.match(text)) or text in _AFTER_LETTERS or text.startswith(("[", "(")):
        return text
    if not (last.isalnum() or last in tuple(")]}")):
        return f"[{text}]" if last and text.isdigit() and not last.isspace() else text
    return f"^{text}" if re.fullmatch(r"[-−+–]?\w+", text) else f"^({text})"


def marked(text: str) -> str:
    """Raised text of which it is not known yet what it stands behind; `resolved` writes it."""
    return f"{_OPEN}{text}{_CLOSE}" if text.strip() else text


def resolved(text: str) -> str:
    """``text`` with what is `marked` in it written out."""
    if _OPEN not in text:
        return text
    joined = text.replace(_CLOSE + _OPEN, "")
    return _MARKED.sub(lambda found: raised("sup", found[1].strip(), joined[max(0, found.start() - 3) : found.start()]), joined)

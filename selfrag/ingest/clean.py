"""Text normalisation: always for matching; for display only if the text was extracted, not copied."""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LIGATURES = {0xFB00 + n: letters for n, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"))}
_BROKEN = re.compile(r"(?<=[^\W\d_])[\u00ad\ufffe\x02](?:\r?\n|\r)?|(?<=[a-z])[-\u2010]\n(?=[a-z])")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


def matchable(text: str) -> str:
    """``text`` for embedding and search: NFC, without soft hyphens, control characters and zero-width marks.

    Offsets change: use it for vectors and the FTS index, never for displayed or cited text.
    """
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", text))


def readable(text: str) -> str:
    """Cleans extracted text: joins words broken at line ends, expands ligatures, removes control characters."""
    joined = _BROKEN.sub("", text).translate(_LIGATURES)
    return _CONTROL.sub("", joined.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n").replace("\u00ad", ""))

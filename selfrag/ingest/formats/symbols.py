"""The font Symbol, whose letters are Greek and whose signs are those of mathematics."""

from __future__ import annotations

_FIRST = " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼"
_SECOND = "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑"
_CODES = {**dict(enumerate(_FIRST, 0x20)), **dict(enumerate(_SECOND, 0xA0))}
SYMBOL = {**_CODES, **{0xF000 + code: sign for code, sign in _CODES.items()}}
"""What each code shows, for `str.translate`; Office puts them into Unicode's private area, too."""

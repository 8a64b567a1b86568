"""RTF as a word processor shows it."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from selfrag import ingest

FONTS = r"{\fonttbl{\f0\fcharset238 Arial;}{\f3\froman\fcharset2 Symbol;}}"


@pytest.mark.parametrize(
    ("head", "body", "text"),
    [
        ("", r"The term is {\deleted\revauthdel1 two}{\revised three} weeks", "The term is three weeks"),
        ("", r"\deleted gone \deleted0 back{\v hidden}", "back"),
        ("", r"10{\super 6} 10{\fs16\up6 7} 10\super 8\nosupersub  x{\super\u178?}", "10^6 10^7 10^8 x²"),
        ("", r"{\pntext\f0 1.\tab}First{\*\annotation Why?}", "1.\tFirst [Comment] Why?"),
        ("", r"{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt In a box}}", "In a box"),
        (FONTS, r"{\f3\fs20 m\'b3}5", "μ≥5"),
        (r"\ansicpg10000", r"L\'d5\'8et\'8e", "L’été"),
        (r"\ansicpg1250" + FONTS, r"x{\footnote \'a3\'f3d\'9f}", "x[1]\n\n[1] Łódź"),
    ],
)  # fmt: skip
def test_what_is_seen(head: str, body: str, text: str) -> None:
    """Deleted and hidden words are left out, raised digits stay raised, letters are those of their code page and font."""
    assert ingest.parse(PurePath("a.rtf"), rf"{{\rtf1\ansi{head} {body}\par}}".encode()).text.strip() == text

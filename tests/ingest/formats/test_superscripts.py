"""Raised digits: one form in every format, and every spelling finds it."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath

import pytest

from selfrag import ingest
from selfrag.index.search.fulltext import terms, tokens
from selfrag.ingest.formats.superscripts import marked, resolved

ODT = (
    '<document xmlns="o" xmlns:style="s" xmlns:text="t"><automatic-styles>'
    '<style:style style:name="T1"><style:text-properties style:text-position="super 58%"/></style:style></automatic-styles>'
    '<body><text:p>about 10<text:span text:style-name="T1">6</text:span> cells</text:p></body></document>'
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10" + marked("6") + " cells", "10^6 cells"),
        ("10" + marked("-") + marked("6"), "10^-6"),
        ("on the 4" + marked("th"), "on the 4th"),
        ("the end." + marked("3"), "the end.[3]"),
        ("x" + marked("n+1"), "x^(n+1)"),
    ],
)
def test_what_is_raised_reads_as_one_would_type_it(text: str, shown: str) -> None:
    """A caret before an exponent, brackets around the mark of a note, nothing before the end of an ordinal."""
    assert resolved(text) == shown


def test_opendocument_and_rtf() -> None:
    """Spans whose style raises them, and RTF's raised groups, are written in the same way as in Word and HTML."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("content.xml", ODT)
    assert ingest.parse(PurePath("a.odt"), out.getvalue()).text.strip() == "about 10^6 cells"
    rtf = rb"{\rtf1\ansi about 10{\super 6} cells\par}"
    assert ingest.parse(PurePath("a.rtf"), rtf).text.strip() == "about 10^6 cells"
    page = b"<html><body><p>about 10<sup>6</sup> cells in the dish of the laboratory.</p></body></html>"
    assert "10^6 cells" in ingest.parse(PurePath("a.html"), page).text


def test_every_spelling_of_an_exponent_finds_it() -> None:
    """10⁶ and 10^6 are one, and not 106; km², km^2 and km2 are one."""
    assert tokens("10⁶ cells") == tokens("10^6 cells") == ["10", "6", "cells"]
    assert terms("10⁶") == terms("10^6") != terms("106")
    assert tokens("km²") == tokens("km^2") == tokens("km2") == ["km2"]
    assert terms("km²") == terms("km^2") == terms("km2")

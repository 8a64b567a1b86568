"""The parts of a text that can be read by themselves: sentences, rows of tables, pieces of code. Pure: text in, offsets out.

Used by quotes, the search's second look and the training rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

WHOLE_CODE = 12
"""Lines of code that are quoted as one piece; of longer code single lines are."""
ROOM = 500
"""Characters of a list or of code that are quoted whole, with the words that lead to it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A quotable part, ``text[start:end]``: a sentence, a row of a table, a piece of code, a heading. ``opens``: it only
    introduces what follows, as a heading or words that end with a colon do. ``block`` is the range of the list, the code or the
    group of tabs that contains it."""

    start: int
    end: int
    opens: bool = False
    block: tuple[int, int] | None = None


_MARKER = re.compile(r"\s*(?:(?:[-*+•‣▪◦·–]|(?:\d{1,3}|#)[.)]|\(?[a-z\d]{1,3}\))\s+|>\s?)*\s*")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*\Z|.*\S[ \t]+\|(?:[ \t]|\Z)")
_BULLET = re.compile(r"^\s*[•‣▪◦·]\s", re.MULTILINE)
_TAB = "=== "
_DIRECTIVE = re.compile(r"(?:={3}[+!]*|!{3}|\?{3}\+?)\s|:{3,}|\.\. [\w-]+::")
"""Begins a line of markup that opens a tab or a box (MkDocs, MyST, reStructuredText)."""


def units(text: str) -> list[Unit]:
    """The quotable parts of ``text``, in order, without surrounding white space and list markers."""
    found = [unit for unit in _units(text) if any(c.isalnum() for c in text[unit.start : unit.end])]
    i = 0
    while i < len(found):
        if found[i].block is None and text.startswith(_TAB, found[i].start):
            end = _tabs(text, found, i)
            found[i:end] = [replace(unit, block=(found[i].start, found[end - 1].end)) for unit in found[i:end]]
            i = end
        i += 1
    return found


def _tabs(text: str, found: Sequence[Unit], first: int) -> int:
    """The end of the group of tabs that begins with unit ``first``: their contents are indented."""

    def column(unit: Unit) -> int:
        return unit.start - text.rfind("\n", 0, unit.start) - 1

    end = first + 1
    while end < len(found) and (column(found[end]) > column(found[first]) or text.startswith(_TAB, found[end].start)):
        end += 1
    return end


def pieces(text: str) -> list[str]:
    """The self-contained parts of ``text``, in order: sentences, and lists and code with the words that introduce them. Code
    without an introduction is not one."""
    parts = units(text)
    ends: dict[int, int] = {}
    for i, unit in enumerate(parts):
        begin, end = readable(i, i, parts, text)
        if not (unit.block and begin >= unit.block[0] and text[unit.block[0] :].lstrip().startswith(("```", "~~~"))):
            ends[begin] = max(end, ends.get(begin, end))
    return [text[begin:end] for begin, end in sorted(ends.items())]


def leads(text: str) -> bool:
    """Whether ``text`` ends with a colon, so that it only introduces what follows."""
    return text.rstrip().endswith((":", "："))


_SEE = r"(?:see|refer to|consult|check out|visit|read|click here)\b"
_TEXTS = (
    r"(?=.*(?:\]\(|https?:|:\w+:`|`_|\b(?:documentation|docs?|guides?|manual|section|chapter|page|article|appendix|reference|tutorial"
    r"|examples?|details?|information|more|here|below|above)\b))"
)
_POINTER = re.compile(
    rf"{_TEXTS}(?:\W*(?:please |also )*{_SEE}|\W*(?:for|to learn|more details|more information)\b[^!?]{{0,120}}?\s{_SEE})"
    r"|\W*(?:you (?:can|may|will) |you['’]ll )?(?:also )?(?:find|read|learn) (?:out )?(?:more|further|additional)"
    r" (?:about|on|in|at|here|details?|information|examples?)\b"
    r"|\W*siehe\b|\W*weitere informationen\b.*\bfinden sie\b"
    r"|.{0,120}(?:참고|참조)(?:하세요|하십시오|해 주세요|하시기 바랍니다)\W*\Z",
    re.IGNORECASE | re.DOTALL,
)
_AFTER_A_SENTENCE = re.compile(r"[.!?]\s+\w")


def points(text: str) -> bool:
    """Whether ``text`` is one sentence that only sends the reader elsewhere (``See our guide.``); English, German, Korean."""
    return bool(_POINTER.match(text)) and not _AFTER_A_SENTENCE.search(text)


def completed(written: str, text: str) -> str:
    """``written``; if it only introduces a list or code of ``text`` (``To build it:``), both together."""
    if not leads(written):
        return written
    parts = units(text)
    for i, unit in enumerate(parts):
        if unit.opens and text[unit.start : unit.end].split() == written.split():
            begin, end = readable(i, i, parts, text)
            return text[begin:end]
    return written


def readable(first: int, last: int, parts: Sequence[Unit], text: str) -> tuple[int, int]:
    """The offsets of these units, extended by what a heading or a colon introduces, by the rest of their list or code and its
    introduction if there is room, and by the end of a code block that begins in it."""
    while parts[last].opens and last + 1 < len(parts):
        last += 1
    first, last = _led_to(first, last, parts, text)
    start, end = parts[first].start, parts[last].end
    if text.count("```", start, end) % 2 and (close := text.find("```", end)) >= 0:
        end = close + 3
    return start, end


def _led_to(first: int, last: int, parts: Sequence[Unit], text: str) -> tuple[int, int]:
    """These units with the introduction of their list or code, and with all of it if there is room: an item says little alone. A
    whole sentence in a list without an introduction stays by itself."""
    block = parts[last].block
    if block is None:
        return first, last
    lead = begin = next(i for i, unit in enumerate(parts) if unit.block == block)
    end = max(last, max(i for i, unit in enumerate(parts) if unit.block == block))
    while lead and parts[lead - 1].opens:
        lead -= 1
    if lead == begin and text[parts[last].start : parts[last].end].endswith((".", "!", "?", "。", "！", "？")):
        return first, last
    for around in ((min(first, lead), end), (min(first, lead), last)):
        if parts[around[1]].end - parts[around[0]].start <= ROOM:
            return around
    return first, last


def _units(text: str) -> Iterator[Unit]:
    starts = [0, *(newline.end() for newline in re.finditer("\n", text)), len(text) + 1]
    in_table = in_heading = False
    block: tuple[int, int] | None = None
    for token in _markdown().parse(text):
        begin, end = (starts[min(n, len(starts) - 1)] for n in token.map) if token.map else (0, 0)
        end = min(end, len(text))
        match token.type:
            case "table_open":
                in_table = True
            case "table_close":
                in_table = False
            case "tr_open":
                yield _trimmed(text, begin, end)
            case "bullet_list_open" | "ordered_list_open" if token.level == 0 and token.map:
                block = begin, end
            case "bullet_list_close" | "ordered_list_close" if token.level == 0:
                block = None
            case "heading_open":
                in_heading = True
                yield _trimmed(text, begin, end, opens=True)
            case "heading_close":
                in_heading = False
            case "fence":
                yield from (replace(unit, block=block or (begin, end)) for unit in _code(text, starts, token.map or (0, 0)))
            case "inline" if not in_table and not in_heading:
                yield from (replace(unit, block=block) for unit in _lines(text, begin, end))


@cache
def _markdown() -> MarkdownIt:
    """Parses only blocks that do not depend on the rest of the file (no indented code, underlined headings, HTML): a passage may
    begin anywhere, and need not be Markdown."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable(["code", "lheading", "html_block", "reference"])


def _code(text: str, starts: Sequence[int], lines: Sequence[int]) -> Iterator[Unit]:
    first, last = lines[0] + 1, lines[1]
    if last - 1 < len(starts) - 1 and text[starts[last - 1] :].lstrip().startswith(("```", "~~~")):
        last -= 1
    if last - first <= WHOLE_CODE:
        yield _trimmed(text, starts[min(first, len(starts) - 1)], starts[min(last, len(starts) - 1)], code=True)
        return
    for line in range(first, last):
        yield _trimmed(text, starts[line], starts[line + 1], code=True)


def is_row(line: str) -> bool:
    """Whether a line is a row of a table: cells between bars."""
    return "|" in line and bool(_ROW.match(line))


def _lines(text: str, begin: int, end: int) -> Iterator[Unit]:
    """The sentences of a paragraph; each row of a table, which may begin in its middle, is one."""
    if "|" not in text[begin:end]:
        yield from _sentences(text, begin, end)
        return
    at = begin
    for rows, lines in groupby(text[begin:end].splitlines(keepends=True), key=lambda line: is_row(line.rstrip("\n"))):
        for part in lines if rows else ["".join(lines)]:
            yield from [_trimmed(text, at, at + len(part))] if rows else _sentences(text, at, at + len(part))
            at += len(part)


def _sentences(text: str, begin: int, end: int) -> Iterator[Unit]:
    from sentencex import get_sentence_boundaries

    cuts = [begin, *(begin + match.start() for match in _BULLET.finditer(text[begin:end]) if match.start()), end]
    for start, stop in pairwise(cuts):
        for boundary in get_sentence_boundaries("en", text[start:stop]):
            unit = _trimmed(text, start + boundary["start_index"], start + boundary["end_index"])
            words = text[unit.start : unit.end]
            yield Unit(unit.start, unit.end, leads(words) or bool(_DIRECTIVE.match(words)))


def _trimmed(text: str, start: int, end: int, opens: bool = False, code: bool = False) -> Unit:
    end = min(end, len(text))
    match = None if code else _MARKER.match(text, start, end)
    start = match.end() if match else start
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if opens and text.startswith("#", start):
        start += len(text[start:end]) - len(text[start:end].lstrip("# "))
    return Unit(start, end, opens)

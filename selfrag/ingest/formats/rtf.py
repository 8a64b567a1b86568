"""Rich Text Format: striprtf's plain text, as paragraphs. Runs in the worker process."""

from __future__ import annotations

import re
from pathlib import PurePath

from striprtf.striprtf import rtf_to_text

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.rtf_source import rewritten
from selfrag.ingest.formats.superscripts import resolved

_TITLE = re.compile(r"\{\\title ([^{}\\]{1,200})\}")
_BINARY = re.compile(rb"\{\\\*?\\?(?:pict|objdata)[^{}]{2000,}\}")
_FOOTNOTE = re.compile(r"\{\\(?:\*\\)?footnote\b")
_MARGIN = re.compile(r"\{\\(header|footer)[lrf]?\b")
_ROW = re.compile(r"\\(trowd|intbl|row)(?![a-z])")
_PARAGRAPH = re.compile(r"\\(?:par|line)(?![a-z])")
_ROW_ENDS = "\u241e"
_MARK = re.compile(r"\[(\d+)\]")
_STRAY_STAR = re.compile(r"(?<=[^{\s\\])\\\*(?=\\)")
"""Some programs write ``\\*`` inside of a group, where it says nothing; striprtf then leaves out the rest of the group."""
_OPTIONAL_HYPHEN = re.compile(r"(?<!\\)\\-")


def read_rtf(path: PurePath, data: bytes, limits: Limits) -> Document:
    """A citation names the paragraph: ``¶12``."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise InputError("not RTF, whatever its name says")
    raw = rewritten(_STRAY_STAR.sub("", _BINARY.sub(b"", data).decode("latin-1")))
    source, notes = _noted(_OPTIONAL_HYPHEN.sub("", raw))
    head = _head(source)
    draft = Draft(limits)
    number = table = 0
    in_table = False
    for line in _plain(_rows(source)).split("\n"):
        row = line.endswith(_ROW_ENDS)
        table += row and not in_table
        cells = [" ".join(cell.split()) for cell in line.rstrip(_ROW_ENDS).split("|")]
        paragraph = " | ".join(cells).rstrip(" |") if row else line.strip().strip("\ufeff")
        if paragraph:
            number += 1
            draft.add(paragraph, "¶", str(number), tight=row and in_table, table=table if row else 0)
            in_table = row
            for mark in _MARK.findall(paragraph):
                draft.add(
                    f"[{mark}] {_plain(notes.pop(int(mark), ''), head).strip()}" if int(mark) in notes else "", "¶", str(number)
                )
    _margins(draft, source, head)
    title = _TITLE.search(source)
    named = title[1].strip() if title else ""
    return draft.document(path, "rtf", named if any(map(str.isalnum, named)) else "")


def _rows(source: str) -> str:
    """The source with each row of a table as one line, whatever paragraphs its cells hold, and with a mark at its end."""
    pieces: list[str] = []
    at, begun = 0, -1
    for word in _ROW.finditer(source):
        if word[1] != "row":
            begun = word.start() if begun < 0 else begun
        elif begun >= 0:
            pieces += [source[at:begun], _PARAGRAPH.sub(" ", source[begun : word.start()]), _ROW_ENDS, word[0]]
            at, begun = word.end(), -1
    return "".join([*pieces, source[at:]])


def _head(source: str) -> str:
    """The code page and the fonts, without which a part of the text would be read in others."""
    page, fonts = re.search(r"\\ansicpg\d+", source[:500]), source.find("{\\fonttbl")
    return f"{{\\rtf1\\ansi{page[0] if page else ''}{source[fonts : _closing(source, fonts) + 1] if fonts >= 0 else ''}"


def _plain(source: str, head: str = "") -> str:
    """What striprtf makes of RTF, with numbers above the line as raised digits."""
    try:
        text: str = rtf_to_text(f"{head} {source}}}" if head else source, errors="replace")  # type: ignore[no-untyped-call]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"damaged RTF: {str(error)[:150]}") from None
    return readable(resolved(text))


def _noted(source: str) -> tuple[str, dict[int, str]]:
    """Footnotes, which striprtf drops, taken out of the text, with marks in their places."""
    notes: dict[int, str] = {}
    pieces: list[str] = []
    at = 0
    for found in _FOOTNOTE.finditer(source):
        if found.start() < at:
            continue
        end = _closing(source, found.start())
        notes[len(notes) + 1] = re.sub(r"\\chftn ?", "", source[found.end() : end])
        pieces += [source[at : found.start()], f"[{len(notes)}]"]
        at = end + 1
    return "".join([*pieces, source[at:]]), notes


def _closing(source: str, start: int) -> int:
    """Where the group that opens at ``start`` is closed."""
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", source[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return start + brace.start()
    return len(source)


def _margins(draft: Draft, source: str, head: str) -> None:
    """Headers and footers, which striprtf drops, once each; not those of a page number alone."""
    seen: set[str] = set()
    for found in _MARGIN.finditer(source):
        text = " ".join(_plain(source[found.end() : _closing(source, found.start())], head).split())
        if text not in seen and any(map(str.isalpha, text)):
            seen.add(text)
            draft.section()
            draft.add(text, found[1], "")

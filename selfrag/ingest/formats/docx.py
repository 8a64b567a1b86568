"""Word documents: headings, paragraphs and tables in their order. Runs in the worker process.

A .docx has no lines; a citation names the number of the paragraph (or table row), empty ones not counted.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePath

import docx
from docx.table import Table
from docx.text.paragraph import Paragraph

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Heading, Limits, Place

_UNPACKED = 256 * 2**20
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_LEVEL = re.compile(r"heading (\d)", re.IGNORECASE)


def read_docx(path: PurePath, data: bytes, limits: Limits) -> Document:
    _check(data)
    try:
        source = docx.Document(io.BytesIO(data))
    except (ValueError, KeyError, SyntaxError, zipfile.BadZipFile) as error:  # lxml's errors of syntax are SyntaxErrors
        raise InputError(f"damaged, or not a Word document: {str(error)[:200]}") from None
    lines: list[str] = []
    headings: list[Heading] = []
    places: list[Place] = []
    offset = 0
    for level, text in _blocks(source):
        if offset > limits.characters:
            raise InputError(f"too much text: more than {limits.characters:,} characters")
        places.append(Place(offset, "¶", str(len(places) + 1)))
        end = offset + len(text) + 2
        if level:
            headings.append(Heading(offset, end, level, text))
        lines.append(text)
        offset = end
    own = " ".join(readable(source.core_properties.title or "").split())
    title = own or next((each.title for each in headings if each.level == 1), "") or path.stem
    return Document("\n\n".join([*lines, ""]), title, "docx", headings=tuple(headings), places=tuple(places))


def _check(data: bytes) -> None:
    """Refuses what is no .docx before the parser sees it, and archives that unpack to far more than they are."""
    if data.startswith(_OLE):
        raise InputError("encrypted with a password, or an old .doc; save it as .docx without one")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, EOFError) as error:
        raise InputError(f"damaged, or not a Word document: {str(error).lower()}") from None
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > _UNPACKED:
        raise InputError(f"unpacks to {unpacked / 2**20:.0f} MiB; the limit is {_UNPACKED / 2**20:.0f} MiB")


def _blocks(source: docx.document.Document) -> Iterator[tuple[int, str]]:
    """Heading level (0: no heading) and text of each paragraph and table row that has text."""
    for block in source.iter_inner_content():
        if isinstance(block, Paragraph):
            text = readable(block.text).strip()
            if text:
                yield _level(block), text
        elif isinstance(block, Table):
            yield from ((0, row) for row in _rows(block) if row)


def _level(paragraph: Paragraph) -> int:
    name = (paragraph.style.name if paragraph.style is not None else "") or ""
    if name.lower() == "title":
        return 1
    match = _LEVEL.match(name)
    return min(int(match.group(1)), 6) if match else 0


def _rows(table: Table) -> Iterator[str]:
    for row in table.rows:
        cells: list[str] = []
        for cell in row.cells:
            text = " ".join(readable(cell.text).split())
            if text and (not cells or cells[-1] != text):  # a merged cell comes once for each column it spans
                cells.append(text)
        yield " | ".join(cells)

"""Jupyter notebooks (.ipynb): cells in order, with their printed output. Pictures and other data are left out.

Read with the standard library's JSON: nbformat adds validation, which refuses what every other program shows.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import Any

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.decode import decode
from selfrag.ingest.document import Document, Limits, Span
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.text import read_markdown

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 20_000


def read_notebook(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Citations have the number of the cell, from 1: ``cell 5``. Headings are those of the Markdown cells."""
    draft = Draft(limits)
    language, cells = _cells(data)
    for number, cell in enumerate(cells, 1):
        kind, source = cell.get("cell_type"), _joined(cell.get("source", cell.get("input", "")))
        if kind in ("markdown", "heading"):
            marked = f"{'#' * _level(cell)} {source}" if kind == "heading" else source
            _markdown(draft, marked, number, limits)
            continue
        draft.add(source.strip("\n"), "cell ", str(number))
        for output in _dicts(cell.get("outputs")):
            text = _output(output).strip("\n")
            if len(text) > _LONGEST:
                text = text[:_LONGEST] + "\n[…]"
            draft.add(text, "cell ", str(number))
    return draft.document(path, "ipynb", metadata={"language": (language,)} if language else None)


def _cells(data: bytes) -> tuple[str, list[dict[str, Any]]]:
    try:
        book = json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        raise InputError(f"damaged, or not a notebook: {str(error)[:100]}") from None
    if not isinstance(book, dict):
        raise InputError("not a notebook: it is not a JSON object")
    sheets = _dicts(book.get("worksheets")) or [book]  # before version 4
    cells = [cell for sheet in sheets for cell in _dicts(sheet.get("cells"))]
    if not any("cells" in sheet for sheet in sheets):
        raise InputError("not a notebook: it has no cells")
    kernel = book.get("metadata")
    found = kernel.get("kernelspec") if isinstance(kernel, dict) else None
    language = found.get("language") if isinstance(found, dict) else ""
    return language if isinstance(language, str) else "", cells


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _joined(value: object) -> str:
    """Text, which notebooks also store as a list of lines."""
    if isinstance(value, list):
        return "".join(each for each in value if isinstance(each, str))
    return value if isinstance(value, str) else ""


def _level(cell: dict[str, Any]) -> int:
    level = cell.get("level")
    return min(max(level, 1), 6) if isinstance(level, int) else 1


def _markdown(draft: Draft, source: str, number: int, limits: Limits) -> None:
    """The cell in one piece under its own headings, without embedded pictures."""
    text = re.sub(r"!\[([^\]]*)\]\((?:attachment|data):[^)]*\)", r"\1", source)
    if not text.strip():
        return
    document = read_markdown(PurePath("cell.md"), text.encode("utf-8", "replace"), limits)
    starts = [*(each.start for each in document.headings), len(document.text)]
    _part(draft, document, 0, starts[0], number)
    for heading, end in zip(document.headings, starts[1:], strict=True):
        draft.add(heading.title, "cell ", str(number), level=heading.level)
        _part(draft, document, heading.end, end, number)


def _part(draft: Draft, document: Document, start: int, end: int, number: int) -> None:
    """The text of a cell between two headings, with the tables, lists and code in it."""
    text = document.text[start:end]
    start += len(text) - len(text.lstrip("\n"))
    text = text.strip("\n")
    spans = [
        Span(each.start - start, min(each.end - start, len(text)), each.header)
        for each in document.spans
        if start <= each.start < start + len(text)
    ]
    draft.add(text, "cell ", str(number), spans=spans)


def _output(output: dict[str, Any]) -> str:
    """The readable form of an output: printed text, the plain form of a value, an error without its colours."""
    kind = output.get("output_type")
    if kind in ("error", "pyerr"):
        return f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
    found = output.get("data")
    data = found if isinstance(found, dict) else output
    text = _joined(data.get("text/markdown")) or _joined(data.get("text/plain", data.get("text", "")))
    cleaned = readable(_ANSI.sub("", text))
    return "" if _is_repr(cleaned) else cleaned


def _is_repr(text: str) -> bool:
    """`<Figure size 640x480 with 1 Axes>` stands for a picture and says nothing."""
    return bool(re.fullmatch(r"<[\w.]+[^<>\n]*>", text.strip()))

"""Tables in text that is kept as it is: Org, AsciiDoc, reStructuredText. A table is a `Span` with the names of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest

from selfrag.ingest.document import Span

YEAR = re.compile(r"(?:19|20)\d\d\Z")
_ORG_ROW = re.compile(r"[ \t]*\|")
_ORG_RULE = re.compile(r"[ \t]*\|-")
_ADOC_FENCE = re.compile(r"[|,:!]={3,}[ \t]*\Z")
_GRID = re.compile(r"[ \t]*[+|]")
_GRID_RULE = re.compile(r"[ \t]*\+[-=+]+\+?[ \t]*\Z")
_SIMPLE = re.compile(r"[ \t]*=+(?:[ \t]+=+)+[ \t]*\Z")

Lines = Sequence[tuple[int, str]]
"""Lines with the offsets at which they begin."""


def org(lines: Lines) -> Iterator[Span]:
    """Runs of lines that begin with a bar; the first row names the columns where a rule stands below it."""
    for run in _runs(lines, _ORG_ROW):
        rows = [line for _, line in run if not _ORG_RULE.match(line)]
        ruled = any(_ORG_RULE.match(line) for _, line in run[1:3])
        yield from _table(run, _names([rows[0]]) if ruled and len(rows) > 1 else "")


def adoc(lines: Lines) -> Iterator[Span]:
    """What stands between two lines ``|===``; its first line names the columns if it has all of a row's cells."""
    begun: list[tuple[int, str]] | None = None
    for offset, line in lines:
        if not _ADOC_FENCE.match(line):
            if begun is not None:
                begun.append((offset, line))
        elif begun is None:
            begun = []
        else:
            rows = [each for each in begun if each[1].strip()]
            first = rows[0][1] if rows else ""
            yield from _table(rows, _names([first]) if first.count("|") > 1 else "")
            begun = None


def rst(lines: Lines) -> Iterator[Span]:
    """Grids, whose header ends with a line of ``=``, and simple tables, whose header stands between two of them."""
    for run in _runs(lines, _GRID):
        if not _GRID_RULE.match(run[0][1]):
            continue
        end = next((at for at, (_, line) in enumerate(run) if "=" in line and _GRID_RULE.match(line)), 0)
        yield from _table(run, _names([line for _, line in run[1:end]]))
    begun: list[int] = []
    for at, (_, line) in enumerate(lines):
        if _SIMPLE.match(line):
            begun.append(at)
        last = len(begun) > 1 and (at + 1 == len(lines) or not lines[at + 1][1].strip())
        if begun and begun[-1] == at and last:
            header = lines[begun[0] + 1 : begun[1]] if len(begun) > 2 else []
            yield from _table(lines[begun[0] : at + 1], _below(lines[begun[0]][1], [each for _, each in header]))
            begun = []


def _runs(lines: Lines, row: re.Pattern[str]) -> Iterator[list[tuple[int, str]]]:
    run: list[tuple[int, str]] = []
    for offset, line in [*lines, (0, "")]:
        if row.match(line):
            run.append((offset, line))
        else:
            if len(run) > 1:
                yield run
            run = []


def _table(rows: Lines, header: str) -> Iterator[Span]:
    if len(rows) > 1:
        yield Span(rows[0][0], rows[-1][0] + len(rows[-1][1]), header)


def _names(lines: Sequence[str]) -> str:
    """The words of a header whose cells stand between bars; one of several lines is read column by column."""
    return columns([[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The names of columns from the rows of a header; what stands in several of them is said once."""
    named = (" ".join(dict.fromkeys(filter(None, column))) for column in zip_longest(*rows, fillvalue=""))
    return " | ".join(filter(None, named))


def grouped(top: Mapping[int, str], low: Mapping[int, str]) -> dict[int, str]:
    """The names of columns under two rows, by column, where the upper one stands over groups of them (2023 over Sales and Cost);
    empty if these are no such rows."""
    cells = (*top.values(), *low.values())
    words = all(len(cell) < 80 and (any(map(str.isalpha, cell)) or YEAR.match(cell)) for cell in cells)
    if len(top) < 2 or not low.keys() - top.keys() or not words:
        return {}
    names, group = {}, ""
    for column in sorted({*top, *low}):
        group = top.get(column, group)
        names[column] = " ".join(dict.fromkeys(filter(None, (group, low.get(column, "")))))
    return names if len(set(names.values())) == len(names) else {}


def _below(rule: str, lines: Sequence[str]) -> str:
    """The words of a header whose cells stand below the parts of a rule."""
    starts = [part.start() for part in re.finditer("=+", rule)]
    bounds = list(pairwise([*starts, None]))
    return _names(["|".join(line[start:end].replace("|", " ") for start, end in bounds) for line in lines])

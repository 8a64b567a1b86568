"""Records as text: lines ``name: value``, with their lines of the source. Used for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from selfrag.errors import InputError
from selfrag.ingest.document import Document, Span


@dataclass
class Records:
    """Lines so far, with their records. ``limit`` is in characters."""

    limit: int
    pieces: list[str] = field(default_factory=list)
    anchors: list[tuple[int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    offset: int = 0

    def add(self, text: str, line: int, gap: str = "\n") -> int:
        """Appends lines of text from source line ``line``; returns their offset."""
        gap = gap if self.pieces else ""
        self.pieces += (gap, text)
        start = self.offset + len(gap)
        self.offset = start + len(text)
        if self.offset > self.limit:
            raise InputError(f"too much text: more than {self.limit:,} characters")
        if not self.anchors or self.anchors[-1][1] != line:
            self.anchors.append((start, line))
        return start

    def document(self, path: PurePath, reader: str, notes: Sequence[str] = (), lost: Sequence[str] = ()) -> Document:
        return Document(
            "".join(self.pieces),
            path.stem,
            reader,
            anchors=tuple(self.anchors),
            spans=tuple(self.spans),
            notes=tuple(notes),
            lost=tuple(lost),
        )


def named_cell(names: Sequence[str], column: int, value: str) -> str:
    name = names[column] if column < len(names) else ""
    return f"{name}: {value}" if name else value


def shortened(text: str) -> str:
    first = text.split("\n")[0]
    return first if len(first) <= 100 else first[:100] + "…"

"""The passages most like a question that do not answer it: hard negatives, by SQLite's own BM25."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from selfrag.train.passages import holds


class HardNegatives:
    """BM25 over ``passages`` (title, text)."""

    def __init__(self, passages: Sequence[tuple[str, str]]) -> None:
        self.passages = list(passages)
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE p USING fts5(title, text, tokenize='porter unicode61')")
        self._db.executemany("INSERT INTO p(rowid, title, text) VALUES (?, ?, ?)", ((i, *p) for i, p in enumerate(passages)))

    def search(self, question: str, k: int) -> list[int]:
        """Indices of the ``k`` best passages, best first."""
        words = dict.fromkeys(re.findall(r"\w+", question.lower()))
        match = " OR ".join(f'"{w}"' for w in words)
        if not match:
            return []
        return [row[0] for row in self._db.execute("SELECT rowid FROM p WHERE p MATCH ? ORDER BY rank LIMIT ?", (match, k))]

    def wrong(self, question: str, gold: str, answers: list[str], k: int = 8) -> list[tuple[str, str]]:
        """The best ``k`` results, minus ``gold`` and the passages that contain any of ``answers``."""
        found = [self.passages[i] for i in self.search(question, k)]
        return [p for p in found if p[1] != gold and not holds(p[1], answers)]

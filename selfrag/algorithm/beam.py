"""The state of a beam search over segments: paths, the candidates that extend them, and the best of each step.

Pure: scores in, order out. Independent of models, the text of passages, and time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from selfrag.algorithm.reflection import path_score
from selfrag.algorithm.words import words
from selfrag.types import Cited, Opening, Passage, Segment


@dataclass(frozen=True)
class Path:
    """A sequence of segments. ``order`` is its position among its step's candidates; ties keep the earlier one."""

    id: int
    segments: tuple[Segment, ...] = ()
    scores: tuple[float, ...] = ()
    finished: bool = False
    order: int = 0

    @property
    def score(self) -> float:
        return path_score(self.scores)

    @property
    def rank(self) -> tuple[float, int, int]:
        """Sorts paths, best first; of equal scores, the earlier position comes first, regardless of the order of completion."""
        return -self.score, self.order, self.id

    @property
    def passage(self) -> Passage | None:
        return self.segments[-1].passage if self.segments else None

    def gains(self, segment: Segment) -> bool:
        """Whether ``segment`` adds a word that the answer does not have yet. An empty or repeated segment ends the answer
        instead. The first always counts."""
        return not self.segments or bool({*words(segment.text)} - {*words(" ".join(s.text for s in self.segments))})

    def grown(self, id: int, order: int, segment: Segment, score: float, last: bool) -> Path:
        """This path with a further segment, or the path itself, finished, if the segment adds nothing. ``last``: no further
        segment may follow."""
        if not self.gains(segment):
            return replace(self, finished=True)
        finished = segment.finished or last or not segment.text
        return Path(id, (*self.segments, segment), (*self.scores, score), finished, order)


@dataclass(frozen=True)
class Candidate:
    """One passage (or none) to extend ``parent`` with; its ISREL has been read."""

    id: int
    parent: Path
    opening: Opening
    order: int


class Pool:
    """What a step may keep: the paths finished before it, and the candidates, as they are written.

    ``width`` is how many will be kept, None for all.
    """

    def __init__(self, width: int | None, finished: Iterable[Path] = ()) -> None:
        self.width = width
        self._paths = {path.id: path for path in finished}
        self._continued: set[int] = set()

    def add(self, path: Path, parent: Path) -> None:
        self._paths[path.id] = path
        self._continued.add(parent.id)

    def continues(self, parent: Path) -> bool:
        """Whether a candidate of ``parent`` was accepted."""
        return parent.id in self._continued

    def needed(self) -> float:
        """The score below which a path cannot be kept; minus infinity while there is room for any."""
        best = self.best()
        return best[-1].score if self.width and len(best) == self.width else -math.inf

    def best(self) -> list[Path]:
        """The paths to keep, best first."""
        return sorted(self._paths.values(), key=lambda path: path.rank)[: self.width]


def cite(path: Path) -> tuple[tuple[Cited, ...], tuple[Passage, ...]]:
    """Numbers the passages 1, 2, … in order of first use; a number is the position in the list, even if others are skipped."""
    numbers: dict[str, int] = {}
    evidence: list[Passage] = []
    cited = []
    for segment, score in zip(path.segments, path.scores, strict=True):
        passage = segment.passage
        if passage and passage.chunk not in numbers:
            evidence.append(passage)
            numbers[passage.chunk] = len(evidence)
        cited.append(Cited(segment, numbers[passage.chunk] if passage else None, score))
    return tuple(cited), tuple(evidence)


def text_of(cited: Iterable[Cited]) -> str:
    """The answer's text: its segments joined by spaces, or as paragraphs where one contains a list or code."""
    texts = [c.segment.text for c in cited if c.segment.text]
    return ("\n\n" if any("\n" in text for text in texts) else " ").join(texts)

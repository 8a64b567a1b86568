"""Which part of an answer is certain before its search has ended, computed from the search's events.

A segment is certain once every answer that the search can still produce begins with it. A path is excluded once its score cannot
reach that of a finished path: that one either stays until the end and ranks higher, or is replaced by better ones only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from selfrag.algorithm import reflection
from selfrag.algorithm.beam import Path, cite, text_of
from selfrag.algorithm.joined import joined
from selfrag.types import Cited, Critique, Event, Expanded, Joined, Opened, Pruned, Retrieved, SearchOptions, Segment, Selected

_ROUNDING = 1e-9
"""Scores are sums in another order here: a path this close to the best one may still win."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A path that may still grow: it scores at most ``most``, and grows by at most ``more`` segments; 0 if it is finished.

    One that does not stay is an answer only if nothing extends it: its extension may replace it and score less.
    """

    path: Path
    most: float
    more: int
    stays: bool = True


class Certain:
    """Observes one search: ``segments`` are those that its answer certainly begins with; the list only grows.

    ``firm``: the answer will also be given, since no later critique can make the search abstain. A closed set of answers is
    decided by a vote over all candidates, so nothing is certain before the end.
    """

    def __init__(self, options: SearchOptions) -> None:
        self.options = options
        self.segments: tuple[Cited, ...] = ()
        self.firm = False
        self._steps = options.max_segments
        self._left = self._steps - 1  # steps after the present one
        self._paths = {0: Path(0)}  # everything written that may be grown
        self._live = {0: Path(0)}  # kept by the last step, and grown in this one
        self._written: dict[int, Path] = {}  # what this step may keep
        self._opened: dict[int, tuple[Path, Critique]] = {}
        self._continued: set[int] = set()
        self._firsts: dict[int, Path] = {}
        self._sides: set[int] = set()  # roots of the searches for a question's sides

    def __call__(self, event: Event) -> None:
        if self.options.choices:
            return
        match event:
            case Retrieved(step=0, path=path) if path:
                self._sides.add(path)
            case Expanded(path=path, candidate=candidate, segment=segment) if path in self._sides:
                self._firsts[candidate] = Path(
                    candidate, (segment,), (reflection.segment_score(segment.critique, self.options.weights),)
                )
            case Opened(path=path) | Pruned(path=path) if path in self._sides:
                pass
            case Opened(path=path, candidate=candidate, critique=critique):
                self._opened[candidate] = self._paths[path], critique
            case Expanded(path=path, candidate=candidate, segment=segment):
                del self._opened[candidate]
                self._expanded(path, candidate, segment)
                self._settle(tuple(self._possible()))
            case Pruned(candidate=candidate, when=when):
                if when != "unsupported":
                    del self._opened[candidate]
                self._settle(tuple(self._possible()))
            case Selected(step=step, paths=paths):
                self._selected(step, paths)
            case Joined(path=path, candidates=candidates):
                more = [self._firsts[candidate] for candidate in candidates]
                self.segments = cite(joined(self._firsts[path], more))[0]

    def _expanded(self, parent: int, candidate: int, segment: Segment) -> None:
        if not reflection.supported(segment.critique, self.options.require_support):
            return
        score = reflection.segment_score(segment.critique, self.options.weights)
        path = self._paths[parent].grown(candidate, 0, segment, score, self._left == 0)
        self._written[path.id] = path
        self._continued.add(parent)
        if len(path.segments) == 1:
            self._firsts[path.id] = path

    def _selected(self, step: int, paths: Sequence[int]) -> None:
        kept = [self._written.get(id) or replace(self._live[id], finished=True) for id in paths]  # grown by nothing: it ends
        self._paths = {path.id: path for path in kept}
        self._live = {path.id: path for path in kept if not path.finished}
        self._written = {path.id: path for path in kept if path.finished}
        self._opened, self._continued = {}, set()
        self._left = self._steps - step - 2
        over = not self._live or self._left < 0
        self._settle((_Open(kept[0], kept[0].score, 0),) if over and kept else tuple(self._begun()))

    def _begun(self) -> Iterator[_Open]:
        """The paths that were kept; none of them has been extended yet."""
        for path in self._written.values():
            yield _Open(path, path.score, 0)
        for path in self._live.values():
            yield self._growing(path, (), self._left + 1)

    def _possible(self) -> Iterator[_Open]:
        """What a step may keep while it is written."""
        for path in self._written.values():
            yield _Open(path, path.score, 0) if path.finished else self._growing(path, (), self._left)
        for parent, critique in self._opened.values():
            yield self._growing(parent, (reflection.score_bound(critique, self.options.weights),), self._left)
        for path in self._live.values():
            if path.id not in self._continued:
                yield _Open(path, path.score, 0, stays=False)

    def _growing(self, path: Path, scores: tuple[float, ...], more: int) -> _Open:
        """``path`` with a segment of these scores, if any, and up to ``more`` after it. Its mean is largest with none or all of
        them."""
        best = reflection.score_bound(Critique(retrieval=1.0), self.options.weights)
        grown = (*path.scores, *scores)
        lengths = [path.scores, grown, grown + (best,) * more]
        return _Open(path, max(reflection.path_score(each) for each in lengths), more + len(scores))

    def _settle(self, possible: Sequence[_Open]) -> None:
        """Finds the segments that all still possible answers have in common."""
        best = max((each.path.score for each in possible if each.stays and not each.more), default=float("-inf"))
        left = [each for each in possible if each.most >= best - _ROUNDING]
        if not left:
            return
        common = min((each.path.segments for each in left), key=len)
        for each in left:
            shared = sum(1 for _ in _shared(common, each.path.segments))
            common = common[:shared]
        if len(common) < len(self.segments) or (common and self._reconsidered(common[0])):
            return
        self.segments = cite(replace(left[0].path, segments=common, scores=left[0].path.scores[: len(common)]))[0]
        self.firm = bool(text_of(self.segments)) and not any(self._doubtful(each) for each in left)

    def _reconsidered(self, first: Segment) -> bool:
        """Whether sentences of the passages may still replace this segment, until the first step ends."""
        return self._left == self._steps - 1 and first.critique.isuse < self.options.reconsider_isuse

    def _doubtful(self, each: _Open) -> bool:
        """Whether the search may abstain from an answer that begins with this, if the worst possible critiques follow."""
        worst = Critique(0.0, 0.0, -1.0, distributions={"ISREL": {}, "ISUSE": {}})
        followed = each.path.segments + (Segment("", None, worst),) * each.more
        return reflection.doubtful(each.path.segments, self.options) or reflection.doubtful(followed, self.options)


def _shared(first: Sequence[Segment], second: Sequence[Segment]) -> Iterator[Segment]:
    """The segments that two paths begin with."""
    for one, other in zip(first, second, strict=False):
        if one is not other:
            return
        yield one

"""The report of a run: every metric with its interval, calibration, and risk against coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfrag.batch.formats import JsonLines
from selfrag.batch.rows import Row
from selfrag.errors import InputError
from selfrag.evaluation import aggregate, curves, intervals, metrics
from selfrag.evaluation.aggregate import METRICS
from selfrag.evaluation.curves import Bin
from selfrag.evaluation.intervals import Floats, Interval
from selfrag.evaluation.metrics import Gold
from selfrag.evaluation.outcome import Outcome, outcome

Json = dict[str, Any]
SIGNALS: Mapping[str, Callable[[Outcome], float]] = {
    "confidence": lambda o: o.confidence,
    "ISREL": lambda o: o.isrel or 0.0,
    "ISSUP": lambda o: o.issup or 0.0,
    "ISUSE": lambda o: o.isuse,
    "sequence": lambda o: o.sequence,
}
"""Signals that may separate right answers from wrong ones. ``confidence`` is the answer's own."""


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of the table. ``unit`` is "" for shares, "ms" or "tokens"."""

    name: str
    label: str
    interval: Interval
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """``curve`` holds (coverage, risk), most confident first; ``run`` names the model, the engine and the collection."""

    questions: int
    answered: int
    abstained: int
    failed: int
    lines: tuple[Line, ...]
    reliability: tuple[Bin, ...]
    curve: tuple[tuple[float, float], ...]
    run: Mapping[str, Any]

    def __getitem__(self, name: str) -> Interval:
        return next(line.interval for line in self.lines if line.name == name)


def evaluate(outcomes: Sequence[Outcome], run: Mapping[str, Any] | None = None) -> Report:
    """The report of all ``outcomes``; questions that failed are counted and left out of every metric."""
    done = [o for o in outcomes if o.status != "error"]
    judged = [o for o in done if o.answered and o.gold.answerable is not None]
    correct = np.array([o.accuracy for o in judged], dtype=np.float64)
    confidence = np.array([o.confidence for o in judged], dtype=np.float64)
    coverage, risk = curves.risk_coverage(confidence, correct)
    return Report(
        questions=len(outcomes),
        answered=sum(o.answered for o in done),
        abstained=sum(o.status == "abstained" for o in done),
        failed=len(outcomes) - len(done),
        lines=(*shares(done), *trust(judged, correct, confidence), *costs(done)),
        reliability=tuple(curves.reliability(confidence, correct)) if judged else (),
        curve=tuple(zip(coverage.tolist(), risk.tolist(), strict=True)),
        run=dict(run or {}),
    )


def shares(done: Sequence[Outcome]) -> Iterator[Line]:
    for metric, interval in zip(METRICS, intervals.ratios(*aggregate.columns(done)), strict=True):
        yield Line(metric.name, metric.label, noted(interval, metric.empty))


def trust(judged: Sequence[Outcome], correct: Floats, confidence: Floats) -> Iterator[Line]:
    """How well confidence is calibrated, over the answered questions with known answers."""
    nothing, one_kind = "nothing was answered that can be judged", "all answers are right, or all are wrong"
    yield Line("ece", "calibration error (ECE)", noted(intervals.statistic(curves.ece, confidence, correct), nothing))
    use = np.array([(o.isuse + 1) / 2 for o in judged], dtype=np.float64)
    yield Line("ece_isuse", "calibration error of ISUSE", noted(intervals.statistic(curves.ece, use, correct), nothing))
    yield Line("aurc", "area under risk–coverage", noted(intervals.statistic(curves.aurc, confidence, correct), nothing))
    for name, signal in SIGNALS.items():
        values = np.array([signal(o) for o in judged], dtype=np.float64)
        label = f"AUROC of {name} for right answers"
        yield Line(f"auroc_{name.lower()}", label, noted(intervals.statistic(curves.auroc, values, correct), one_kind))


def costs(done: Sequence[Outcome]) -> Iterator[Line]:
    columns = (("latency", "ms", [o.milliseconds for o in done]), ("generated", "tokens", [float(o.tokens) for o in done]))
    for name, unit, values in columns:
        for percent in (50, 90, 99):
            found = intervals.statistic(_percentile(percent), np.array(values, dtype=np.float64))
            yield Line(f"{name}_p{percent}", f"{name} p{percent}", noted(found, "no questions"), unit)


def _percentile(percent: int) -> Callable[[Floats], float]:
    return lambda values: float(np.percentile(values, percent))


def noted(interval: Interval, note: str) -> Interval:
    """An interval without a value says why."""
    return replace(interval, note=note) if interval.value is None else interval


def report_json(report: Report) -> Json:
    found = {name: value for name, value in asdict(report).items() if name != "lines"}
    metrics = {line.name: {**asdict(line.interval), "unit": line.unit} for line in report.lines}
    return {"schema": "selfrag.report/1", **found, "curve": thin(report.curve), "metrics": metrics}


def thin(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about 200 points of the curve, including the last one."""
    step = max(1, len(curve) // 200)
    return [*curve[::step], *curve[-1:]] if step > 1 else list(curve)


# --- reading runs --------------------------------------------------------------------------------------------------------------


def read_run(path: Path) -> list[Json]:
    """The rows of a JSON Lines file that `selfrag batch` wrote; a torn last line is left out. InputError if it is another."""
    try:
        return [row for row, _ in JsonLines().read(path)]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "name a file that `selfrag batch -o` wrote") from error


def is_run(path: Path) -> bool:
    """Whether the file is the output of a batch rather than a file of questions."""
    with path.open("rb") as stream:
        first = stream.readline(1 << 20)
    return b'"selfrag.answer/1"' in first[:200]


def outcomes_of(rows: Iterable[Json], gold: Mapping[str, Gold] | None = None) -> list[Outcome]:
    """``gold`` by id replaces the gold labels in the rows' own columns; rows without an entry in it are left out."""
    if gold is None:
        return [outcome(row) for row in rows]
    return [outcome(row, gold[str(row["id"])]) for row in rows if str(row["id"]) in gold]


def gold_by_id(rows: Iterable[Row]) -> dict[str, Gold]:
    return {row.key: metrics.gold_of(row.extra) for row in rows}


def run_of(rows: Sequence[Json]) -> Json:
    """Which model, engine and collection answered, as the first row that was not an error says."""
    first = next((row for row in rows if row["status"] != "error"), None)
    names = ("model", "engine", "collection", "reflection", "exact")
    return {name: first[name] for name in names} if first else {}

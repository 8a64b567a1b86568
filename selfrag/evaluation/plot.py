"""Reliability and risk against coverage as one picture, drawn by matplotlib (the extra plot)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from selfrag.errors import SelfragError, UsageError
from selfrag.evaluation.report import Report, thin

FORMATS = (".svg", ".png", ".pdf")


def check_plot(path: Path) -> None:
    """Raises UsageError for the name of no picture or a missing folder, SelfragError without matplotlib."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path} ends in none of {', '.join(FORMATS)}", f"--plot {path.with_suffix('.svg')}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise SelfragError("--plot needs the package matplotlib", "pip install 'selfrag[plot]'")


def save_plot(report: Report, path: Path, title: str) -> None:
    """Writes the picture, in the format that the name of ``path`` says. Raises what `check_plot` raises."""
    check_plot(path)
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    left, right = figure.subplots(1, 2)
    left.set(xlabel="confidence", ylabel="share of right answers")
    left.plot([0, 1], [0, 1], linestyle="--", color="silver")  # calibrated
    bins = report.reliability
    most = max((each.count for each in bins), default=1)
    areas = [30 + 300 * each.count / most for each in bins]
    left.scatter([each.confidence for each in bins], [each.accuracy for each in bins], areas, alpha=0.6)
    right.set(xlabel="coverage: share of questions answered", ylabel="risk: share of wrong answers")
    points = thin(report.curve)
    right.plot([coverage for coverage, _ in points], [risk for _, risk in points], color="tab:red")
    for axes in (left, right):
        axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    figure.savefig(path)

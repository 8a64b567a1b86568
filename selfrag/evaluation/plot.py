"""Reliability and risk–coverage as one SVG picture, written by hand: two squares, a few lines and circles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from selfrag.errors import UsageError
from selfrag.evaluation.curves import Bin
from selfrag.evaluation.report import Report, thin

SIDE, LEFT, TOP, GAP = 300, 60, 50, 110
STYLE = """text{font:12px sans-serif;fill:#333}
.axis{stroke:#333;fill:none}
.guide{stroke:#bbb;stroke-dasharray:4 3;fill:none}
.bin{fill:#1f77b4;fill-opacity:0.6}"""


def check_plot(path: Path) -> None:
    """UsageError if the file name is not an SVG's, or its folder is missing."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"{path} does not end in .svg", f"--plot {path.with_suffix('.svg')}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", f"mkdir -p {path.parent}")


def save_plot(report: Report, path: Path, title: str) -> None:
    """Raises what `check_plot` raises."""
    check_plot(path)
    path.write_text(svg(report, title), "utf-8")


def svg(report: Report, title: str) -> str:
    width, height = LEFT + 2 * SIDE + GAP + 30, TOP + SIDE + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" style="font-size:14px">{escape(title)}</text>',
        *panel(LEFT, "confidence (ISREL × ISSUP)", "share of right answers"),
        *reliability(LEFT, report.reliability),
        *panel(LEFT + SIDE + GAP, "coverage: share of questions answered", "risk: share of wrong answers"),
        *curve(LEFT + SIDE + GAP, thin(report.curve)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def at(left: int, x: float, y: float) -> tuple[float, float]:
    """The place of a point of the unit square in the panel that begins at ``left``."""
    return round(left + x * SIDE, 1), round(TOP + (1 - y) * SIDE, 1)


def panel(left: int, across: str, up: str) -> list[str]:
    found = [f'<rect class="axis" x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(left, tick, tick)
        found.append(f'<text x="{x}" y="{TOP + SIDE + 18}" text-anchor="middle">{tick:g}</text>')
        found.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    middle, centre = left + SIDE / 2, TOP + SIDE / 2
    found.append(f'<text x="{middle}" y="{TOP + SIDE + 40}" text-anchor="middle">{across}</text>')
    found.append(
        f'<text x="{left - 42}" y="{centre}" text-anchor="middle" transform="rotate(-90 {left - 42} {centre})">{up}</text>'
    )
    return found


def reliability(left: int, bins: Sequence[Bin]) -> list[str]:
    """One circle per bin, its area by the number of questions; on the diagonal, confidence is calibrated."""
    (x0, y0), (x1, y1) = at(left, 0, 0), at(left, 1, 1)
    most = max((b.count for b in bins), default=1)
    found = [f'<path class="guide" d="M{x0} {y0} L{x1} {y1}"/>']
    for b in bins:
        x, y = at(left, b.confidence, b.accuracy)
        radius = 3 + 11 * math.sqrt(b.count / most)
        found.append(f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" class="bin"><title>{b.count} questions</title></circle>')
    return found


def curve(left: int, points: Sequence[tuple[float, float]]) -> list[str]:
    if not points:
        return []
    places = " ".join("{} {}".format(*at(left, coverage, risk)) for coverage, risk in points)
    return [f'<polyline points="{places}" fill="none" stroke="#d62728" stroke-width="2"/>']

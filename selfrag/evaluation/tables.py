"""Reports and comparisons as text for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from selfrag._util import clean
from selfrag.evaluation.compare import STAGES, Change, Comparison, Difference
from selfrag.evaluation.intervals import Interval
from selfrag.evaluation.report import Line, Report

Rows = list[list[str]]
Table = Callable[[Sequence[str], Rows], str]
LEGEND = "Intervals: 95 %, percentile bootstrap over questions, 1,000 draws. * judged by the model's own critique."


def report_text(report: Report) -> str:
    return "\n\n".join(_blocks(report, text_table))


def report_markdown(report: Report, title: str = "Evaluation") -> str:
    return f"## {title}\n\n" + "\n\n".join(_blocks(report, markdown_table)) + "\n"


def _blocks(report: Report, table: Table) -> Iterable[str]:
    run = " · ".join(f"{name} {report.run[name]}" for name in ("model", "engine", "collection") if report.run.get(name))
    counts = f"{report.answered} answered, {report.abstained} abstained, {report.failed} failed and left out"
    yield f"{report.questions} questions: {counts}" + (f"\n{run}" if run else "")
    shown = [line for line in report.lines if line.interval.value is not None]
    yield table(["metric", "value", "95 % interval", "n"], [_line(line) for line in shown])
    if report.reliability:
        bins = [
            [f"{b.low:.1f} – {b.high:.1f}", str(b.count), f"{b.confidence:.3f}", f"{b.accuracy:.3f}"] for b in report.reliability
        ]
        yield table(["confidence", "n", "mean", "accuracy"], bins)
    if missing := [line for line in report.lines if line.interval.value is None]:
        yield "Not measured: " + "; ".join(f"{line.label} ({line.interval.note})" for line in missing)
    yield LEGEND


def _line(line: Line) -> list[str]:
    found = line.interval
    return [line.label, number(found.value, line.unit), limits(found, line.unit), str(found.n)]


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} {unit}" if unit else f"{value:.3f}"


def limits(found: Interval, unit: str = "") -> str:
    return "–" if found.low is None or found.high is None else f"{number(found.low, unit)} – {number(found.high, unit)}"


# --- comparisons ---------------------------------------------------------------------------------------------------------------


def comparison_text(comparison: Comparison, names: tuple[str, str], changes: int = 10) -> str:
    return "\n\n".join(_comparison_blocks(comparison, names, text_table, changes))


def comparison_markdown(comparison: Comparison, names: tuple[str, str], changes: int = 10) -> str:
    title = f"## {names[1]} against {names[0]}\n\n"
    return title + "\n\n".join(_comparison_blocks(comparison, names, markdown_table, changes)) + "\n"


def _comparison_blocks(comparison: Comparison, names: tuple[str, str], table: Table, changes: int) -> Iterable[str]:
    left_out = f"{comparison.unpaired} without a partner and {comparison.failed} that failed are left out"
    yield f"{comparison.paired} questions in both runs; {left_out}"
    yield table(
        ["metric", *names, "difference", "95 % interval", "McNemar p", "n"], [_difference(d) for d in comparison.differences]
    )
    moved = [(pair, n) for pair, n in comparison.moves.items() if pair[0] != pair[1]]
    if moved:
        rows = [[first, second, str(n)] for (first, second), n in sorted(moved, key=lambda item: -item[1])]
        yield table([f"in {names[0]}", f"in {names[1]}", "questions"], rows)
        used = {name for pair, _ in moved for name in pair}
        yield "\n".join(f"{name}: {meaning}" for name, meaning in STAGES.items() if name in used)
    better = sum(change.stages[1] == "right" for change in comparison.changes)
    yield f"Changed sides: {len(comparison.changes)} questions, {better} for the better"
    yield from (_change(change, names) for change in comparison.changes[:changes])


def _difference(d: Difference) -> list[str]:
    signed = "–" if d.difference.value is None else f"{d.difference.value:+.3f}"
    p = "" if d.p is None else f"{d.p:.3f}" if d.p >= 0.001 else "<0.001"
    return [d.label, number(d.first), number(d.second), signed, limits(d.difference), p, str(d.difference.n)]


def _change(change: Change, names: tuple[str, str]) -> str:
    width = max(map(len, names))
    told = [
        f"  {name:<{width}}  [{stage}] {shortened(answer) or '(no answer)'}"
        for name, stage, answer in zip(names, change.stages, change.answers, strict=True)
    ]
    gold = " | ".join([*dict.fromkeys(change.gold)][:3]) or "(none)"
    return "\n".join([f"{change.id}: {shortened(change.question)}", *told, f"  {'gold':<{width}}  {shortened(gold)}"])


def shortened(text: str, length: int = 90) -> str:
    """``text`` on one line, cut where it is longer."""
    flat = clean(text)
    return flat if len(flat) <= length else flat[: length - 1] + "…"


# --- tables --------------------------------------------------------------------------------------------------------------------


def text_table(head: Sequence[str], rows: Rows) -> str:
    """Columns aligned by width: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [list(head), *rows]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = (cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), "─" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows)])


def markdown_table(head: Sequence[str], rows: Rows) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [list(head), rule, *rows])

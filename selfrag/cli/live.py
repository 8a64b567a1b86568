"""Live progress of a search: drawn in place on a terminal, printed line by line elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from selfrag._util import clean
from selfrag.answers import render
from selfrag.answers.schema import passage_json
from selfrag.cli import terminal
from selfrag.types import Corrected, Decided, Event, Expanded, Observer, Opened, Passage, Pruned, Reconsidered, Retrieved, Wrote


@dataclass
class Row:
    """A candidate: its source, ISREL, text so far, and how it ended ("" while it is being written)."""

    place: str
    isrel: float | None
    text: str = ""
    end: str = ""


class Board:
    """The state of a search, as a table that can be drawn at any time."""

    def __init__(self) -> None:
        self.doing = "deciding whether evidence is needed"
        self.decision = ""
        self.rows: dict[int, Row] = {}
        self.spinner = Spinner("dots", style="cyan")

    def __call__(self, event: Event) -> None:
        match event:
            case Decided(step=step, decision=decision):
                self.rows = {c: row for c, row in self.rows.items() if row.end == "written"}
                self.decision = render.decision_words(decision.action, decision.probability)
                self.doing = f"segment {step + 1}: reading the evidence"
            case Retrieved(passages=passages):
                self.doing = f"judging {len(passages)} passages"
            case Corrected(number=number):
                self.doing = f"{event.standing}, searching again in {clean(event.collection)} ({number}): {clean(event.query)}"
            case Reconsidered(sentences=sentences):
                self.doing = f"of little use, judging {sentences} sentences"
            case Opened(candidate=candidate, passage=passage, critique=critique):
                self.rows[candidate] = Row(place(passage), critique.isrel if "ISREL" in critique.distributions else None)
                self.doing = "writing"
            case Wrote(candidate=candidate, text=text):
                self.rows[candidate].text += text
            case Expanded(candidate=candidate, segment=segment):
                self.rows[candidate].text, self.rows[candidate].end = segment.text, "written"
            case Pruned(candidate=candidate):
                self.rows[candidate].end = "pruned"

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(width=5, justify="right")
        table.add_column(ratio=2, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
        self.spinner.update(text="")
        table.add_row(self.spinner, "", Text(self.doing, style="dim"), Text(self.decision, style="dim"))
        for row in self.rows.values():
            table.add_row(*cells(row))
        return table


def cells(row: Row) -> tuple[Text, Text, Text, Text]:
    mark = {"written": Text("✓", style="green"), "pruned": Text("✗", style="red")}.get(row.end, Text("…", style="dim"))
    style = "dim" if row.end == "pruned" else ""
    isrel = Text(render.ABSENT, style="dim") if row.isrel is None else Text(f"{row.isrel:.2f}", style=render.level(row.isrel))
    return mark, isrel, Text(row.place, style=style), Text(clean(row.text), style=style)


def place(passage: Passage | None) -> str:
    return clean(passage.title or render.where(passage_json(passage))) if passage else "without evidence"


def line(event: Event) -> str | None:
    """An event as a line of plain text, None if it is not shown."""
    match event:
        case Decided(decision=decision):
            return render.decision_words(decision.action, decision.probability)
        case Retrieved(passages=passages):
            return f"{len(passages)} passages found"
        case Corrected(standing=standing, best=best, query=query, passages=passages, collection=collection):
            return f"{render.again_words(standing, best, collection)}: {clean(query)}: {len(passages)} more passages"
        case Reconsidered(isuse=isuse, sentences=sentences):
            return render.reconsidered_words(isuse, sentences)
        case Opened(passage=passage, critique=critique) if passage:
            return f"ISREL {critique.isrel:.2f}  {place(passage)}"
        case Expanded(segment=segment):
            return f"wrote: {clean(segment.text)}"
        case Pruned(passage=passage, when=when):
            return f"pruned ({when}): {place(passage)}"
    return None


@dataclass
class Watcher:
    """An observer that shows a search; ``live`` is its display on a terminal."""

    observe: Observer
    live: Live | None = None

    def __call__(self, event: Event) -> None:
        self.observe(event)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hides the display while something else is printed there."""
        if self.live:
            self.live.stop()
        yield
        if self.live:
            self.live.start(refresh=True)


@contextmanager
def watching(quiet: bool = False) -> Iterator[Watcher]:
    """Shows a search on stderr while it runs; on a terminal, erases the display afterwards."""
    if quiet:
        yield Watcher(lambda _: None)
        return
    console = terminal.err()
    if not console.is_terminal:
        yield Watcher(lambda event: tell(console, event))
        return
    board = Board()
    live = Live(board, console=console, transient=True, refresh_per_second=10, redirect_stdout=False, redirect_stderr=False)
    with live:
        yield Watcher(board, live)


def tell(console: Console, event: Event) -> None:
    if words := line(event):
        console.print(Text(words), soft_wrap=True)

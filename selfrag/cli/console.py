"""A rich console that shows what documents say without letting it act on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from selfrag._util import ACTING, HELD_TAB, printable


class SafeConsole(Console):
    """Everything that is printed passes through ``render``; what rich itself writes to move the cursor is marked as control."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if not segment.control and (ACTING.search(segment.text) or HELD_TAB in segment.text):
                segment = Segment(printable(segment.text).replace(HELD_TAB, "\t"), segment.style)
            yield segment

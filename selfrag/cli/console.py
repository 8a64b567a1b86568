"""A rich console that prints text of documents without letting its control characters act on the terminal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from selfrag._util import ACTING, HELD_TAB, printable


class SafeConsole(Console):
    """Everything printed passes through ``render``; rich marks its own cursor movements as control segments."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if not segment.control and (ACTING.search(segment.text) or HELD_TAB in segment.text):
                segment = Segment(printable(segment.text).replace(HELD_TAB, "\t"), segment.style)
            yield segment

    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1. What a reader that has enough means is decided in one place (`selfrag.cli`)."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

"""Output: results on stdout, everything else on stderr; escape sequences only on a terminal with colour."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from selfrag import environment
from selfrag._util import ACTING, printable

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from rich.console import Console, RenderableType
    from rich.table import Table

    from selfrag.errors import SelfragError

PIPE_WIDTH = 100_000
"""Width without a terminal: lines are not wrapped for programs."""


def is_plain(stream: TextIO) -> bool:
    """Whether ``stream`` must not get escape sequences: no terminal, NO_COLOR, or a dumb terminal."""
    return not stream.isatty() or bool(environment.NO_COLOR.read()) or environment.TERM.read() == "dumb"


def _console(stream: TextIO) -> Console:
    from selfrag.cli.console import SafeConsole

    plain = is_plain(stream)
    return SafeConsole(
        file=stream,
        force_terminal=False if plain else None,
        color_system=None if plain else "auto",
        width=None if stream.isatty() else PIPE_WIDTH,
        markup=False,  # brackets in questions, documents and file names are text
        emoji=False,
        highlight=False,
    )


def out() -> Console:
    """Where results go."""
    return _console(sys.stdout)


def err() -> Console:
    """Where progress, warnings and errors go."""
    return _console(sys.stderr)


def show(*things: RenderableType) -> None:
    """Prints results on stdout, each on its own lines; in a pipe without trailing spaces."""
    console = out()
    if sys.stdout.isatty():
        console.print(*things, sep="\n")
        return
    with console.capture() as captured:
        console.print(*things, sep="\n")
    print("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", flush=True)


def table(*headings: str) -> Table:
    """An empty table for `show`, without lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def put(text: str = "") -> None:
    """Plain text on stdout, with control characters of documents, file names and models made harmless."""
    print(printable(text), flush=True)


def result(document: Any, text: str, json: bool, quiet: bool = False) -> None:
    """The result of a command on stdout: ``document`` if ``json``, else ``text`` unless ``quiet``."""
    if json:
        print_json(document)
    elif not quiet:
        put(text)


def print_json(document: Any) -> None:
    """One JSON document on stdout, on several lines."""
    print(as_json(document, indent=2))


def put_json_line(document: Any) -> None:
    """One JSON document on stdout, on one line."""
    print(as_json(document), flush=True)


def as_json(document: Any, indent: int | None = None) -> str:
    """JSON with control characters written as JSON escapes: nothing is lost, and nothing acts on the terminal."""
    return ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(document, ensure_ascii=False, indent=indent))


def write_file(file: Path, text: str, option: str) -> None:
    """Writes ``text`` to ``file`` atomically. Raises InputError, which names the ``option``, if that fails."""
    from selfrag._util import write_whole
    from selfrag.errors import InputError

    try:
        write_whole(file, [text.encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}", f"name another file with {option}") from error


def links() -> str | None:
    """The template of hyperlinks (OSC 8) for citations, from the setting ``links``; None if stdout does not support them."""
    from selfrag.answers.render import FILE_LINK
    from selfrag.config import settings

    if is_plain(sys.stdout) or environment.TERM.read() == "linux":
        return None
    wanted = settings.load().links
    return None if wanted == "off" else FILE_LINK if wanted == "auto" else wanted


def say(message: str, quiet: bool = False) -> None:
    """One line on stderr, unless ``quiet``."""
    if not quiet:
        print(printable(message), file=sys.stderr, flush=True)


def complain(error: SelfragError) -> None:
    """Prints an error and its hint on stderr."""
    say(f"selfrag: {error.message}")
    if error.hint:
        say(f"  → {error.hint}")


@contextmanager
def waiting(message: str, quiet: bool = False) -> Iterator[None]:
    """A spinner on stderr during work without progress; only on a terminal, and erased afterwards."""
    if quiet or is_plain(sys.stderr):
        yield
        return
    with err().status(message, spinner="dots"):
        yield


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """Lets Ctrl-C raise at once, also inside `asyncio.run`, which would wait for the next await: for long imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handling(signal.default_int_handler, signal.SIGINT):
        yield


@contextmanager
def stopping(after: str) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets: the work stops ``after`` its current step. A second one raises."""
    stop = threading.Event()

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        os.write(2, f"\nstopping after {after}; Ctrl-C again stops now\n".encode())

    with handling(handle, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Handles these signals with ``handler`` in this block; `signal.default_int_handler` raises KeyboardInterrupt."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)

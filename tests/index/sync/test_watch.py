"""A folder that is followed: what changed before, and what changed while another process wrote, is brought in, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from queue import Queue

from selfrag.errors import LockedError, SelfragError
from selfrag.index.locks import only_writer
from selfrag.index.sync.pipeline import Options, SyncReport
from selfrag.index.sync.watch import watch
from tests.index.conftest import Place


@contextmanager
def watching(place: Place) -> Iterator[Queue[SyncReport | SelfragError]]:
    """What a watch tells and complains of, in order."""
    heard: Queue[SyncReport | SelfragError] = Queue()
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(place.collection, Options(), stop, heard.put, heard.put))
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def test_what_changed_before_the_watch_began_is_found(place: Place) -> None:
    """Between the first run and the moment that the system begins to watch, nothing is lost."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.write("b.txt", "Badgers dig.")
    with watching(place) as heard:
        report = heard.get(timeout=60)
    assert isinstance(report, SyncReport)
    assert (report.new, report.unchanged) == (1, 1)


def test_another_writer_is_waited_for(place: Place) -> None:
    """While somebody else writes the watch says so once; when he has ended the change is brought in, without another one."""
    place.write("a.txt", "Otters swim.")
    place.sync()
    place.write("b.txt", "Badgers dig.")
    with ExitStack() as other:
        other.enter_context(only_writer(place.collection.folder, "default"))
        with watching(place) as heard:
            assert isinstance(heard.get(timeout=60), LockedError)
            other.close()
            report = heard.get(timeout=60)
    assert isinstance(report, SyncReport)
    assert (report.new, report.chunks) == (1, 2)

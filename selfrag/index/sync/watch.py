"""Keeps a collection in sync with its folders: waits for changes, gathers each burst, and runs one sync for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from watchfiles import watch as changes

from selfrag.errors import InputError, Interrupted, LockedError, SelfragError
from selfrag.index.collection import Collection
from selfrag.index.sync.pipeline import Options, SyncReport

_QUIET_MS = 200
"""A burst is over when nothing changed for this long."""
_BURST_MS = 1200
"""... and at the latest after this, so that a change is found within two seconds."""


def watch(
    collection: Collection,
    options: Options,
    stop: threading.Event,
    tell: Callable[[SyncReport], None],
    complain: Callable[[SelfragError], None],
) -> None:
    """Runs until ``stop`` is set. Calls ``tell`` after each run with changes, ``complain`` after a failed one."""
    with collection.opened(collection.generation()) as catalog:
        roots = [root for root in catalog.roots() if os.path.exists(root)]
    home = os.path.join(os.path.realpath(collection.home), "")
    mine: Callable[[object, str], bool] = lambda _, path: not os.path.realpath(path).startswith(home)  # noqa: E731
    watched = changes(
        *roots,
        watch_filter=mine,
        debounce=_BURST_MS,
        step=_QUIET_MS,
        stop_event=stop,
        rust_timeout=_QUIET_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    due, told = True, False  # at first for what happened before the system watched, later after another writer was in the way
    for changed in watched:
        if not (due or changed):
            continue
        try:
            report = collection.sync((), options, stop=stop)
        except Interrupted:
            return
        except LockedError as error:
            if not told:
                complain(error)
            due = told = True
            continue
        except InputError as error:  # of the moment: the next change tries again
            complain(error)
            continue
        due = told = False
        if report.new or report.updated or report.moved or report.removed:
            tell(report)

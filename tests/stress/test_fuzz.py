"""Damaged files of every format: a few hundred of the thousands that ``python -m tests.stress.fuzz_readers`` tries."""

from __future__ import annotations

import pytest

from tests.stress import fuzz_readers


@pytest.mark.stress
def test_damaged_files_never_crash() -> None:
    """Damaged files of every format are read, or refused with a reason; no reader crashes or hangs."""
    tally = fuzz_readers.Tally()
    for name, data in fuzz_readers.cases(fuzz_readers.seeds([]), 400, seed=1):
        fuzz_readers.try_one(name, data, tally)
    assert tally.bad == []
    assert tally.files == 400

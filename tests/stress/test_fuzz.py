from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"


def test_damaged_files_never_crash() -> None:
    """Some hundreds of damaged files of every kind are read or refused (benchmarks/fuzz_readers.py tries thousands)."""
    spec = importlib.util.spec_from_file_location("fuzz_readers", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_readers"] = fuzz
    spec.loader.exec_module(fuzz)
    tally = fuzz.Tally()
    for name, data in fuzz.cases(fuzz.seeds([]), 400, seed=1):
        fuzz.try_one(name, data, tally)
    assert tally.bad == []
    assert tally.files == 400

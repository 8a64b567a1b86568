"""Fixtures for tests that need a place of their own, or the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from selfrag.config.library_env import silence_libraries

silence_libraries()


@pytest.fixture(autouse=True)
def no_text_recognition(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OCR engine, whatever is installed: a test that is about recognition says so."""
    try:
        from selfrag.ingest import readers
    except ModuleNotFoundError:  # the environment of the tests against vLLM has no libraries for documents
        return
    monkeypatch.setattr(readers, "installed", lambda: "")
    monkeypatch.setattr(readers, "_OCR", ["auto"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty SELFRAG_HOME, and no other setting in the environment."""
    for name in [name for name in os.environ if name.startswith("SELFRAG_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("SELFRAG_HOME", str(folder))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("SELFRAG_OCR", "never")  # for programs that a test starts
    return folder


_CACHE = Path(os.environ["SELFRAG_HOME"]) / "cache" if "SELFRAG_HOME" in os.environ else None
"""Where `make test` has put the embedded model."""


@pytest.fixture
def home_with_model(home: Path) -> Path:
    """An empty SELFRAG_HOME, but for the cache with the embedded model."""
    if _CACHE is None or not _CACHE.is_dir():
        pytest.skip("the embedded model is not there: run `make test`, or set SELFRAG_HOME and run `selfrag models pull`")
    home.mkdir()
    (home / "cache").symlink_to(_CACHE, target_is_directory=True)
    return home

"""`doctor`: one line for each check, with the command that mends a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_a_missing_model_is_told_with_its_cure(home: Path, run: Run) -> None:
    """Without the model the check fails, names the command that fetches it, and the exit status is 1."""
    done = run("doctor")
    assert done.code == 1
    assert "✗ model" in done.out
    assert "→ selfrag models pull smollm2-135m-selfrag" in done.out


def test_all_is_well(ready: Path, run: Run) -> None:
    """With a model and a sound collection every check passes; the last is on the GPU, and its lack is no failure."""
    done = run("doctor", "--json")
    checks = json.loads(done.out)
    assert [check for check in checks if not check["ok"]] == []
    assert done.code == 0
    assert {"python", "torch", "settings", "model", "embedder", "collection default"} <= {check["name"] for check in checks}
    assert checks[-1]["name"] == "gpu"


def test_a_damaged_checkpoint(ready: Path, run: Run, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weights file that was cut off is noticed."""
    for file in tiny_model.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:-100] if file.suffix == ".safetensors" else data)
    monkeypatch.setenv("SELFRAG_MODEL", str(tmp_path))
    done = run("doctor")
    assert done.code == 1
    assert "✗ model weights" in done.out


def test_settings_that_cannot_be_read(home: Path, run: Run) -> None:
    """A configuration with an unknown key is one failed line, with file and line."""
    home.mkdir()
    (home / "config.toml").write_text("modle = 1\n")
    done = run("doctor")
    assert done.code == 1
    assert "config.toml:1" in done.out
    assert "→ selfrag config unset modle" in done.out

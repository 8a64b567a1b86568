"""Completion in bash, zsh and fish, -V, --config, and the formats of `search`."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.process import COMMAND, environment

ASKED = {
    "bash": lambda words: {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
    "zsh": lambda words: {"_TYPER_COMPLETE_ARGS": " ".join(words)},
    "fish": lambda words: {"_TYPER_COMPLETE_ARGS": " ".join(words), "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}
"""How each shell's completion function asks the program."""


def completed(home: Path, shell: str, *words: str) -> tuple[str, str]:
    env = environment(home, _SELFRAG_COMPLETE=f"complete_{shell}", **ASKED[shell](words))
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


@pytest.mark.parametrize("shell", ASKED)
def test_completion(home: Path, shell: str) -> None:
    """Commands, options and the words of an option are offered; a command line that is not right yet offers nothing, silently."""
    assert "history" in completed(home, shell, "selfrag", "hist")[0]
    assert "--beam-width" in completed(home, shell, "selfrag", "ask", "--beam")[0]
    assert "adaptive" in completed(home, shell, "selfrag", "ask", "--mode", "ad")[0]
    out, err = completed(home, shell, "selfrag", "nonsense", "--x")
    assert "--x" not in out
    assert err == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_valid(home: Path, shell: str) -> None:
    """`selfrag --show-completion SHELL` prints a script that names the command, which the shell, where it is installed, takes."""
    command = [*COMMAND, "--show-completion", shell]
    asked = {**environment(home), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # else the parent process decides
    script = subprocess.run(command, env=asked, capture_output=True, text=True, timeout=120).stdout
    assert "_SELFRAG_COMPLETE" in script
    if program := shutil.which(shell):
        checked = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, timeout=60)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_version(run: Run) -> None:
    """-V prints what --version prints."""
    assert run("-V").out == run("--version").out != ""


def test_config_option(home: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config FILE before the command names the configuration file; a missing one is a usage error."""
    monkeypatch.setenv("SELFRAG_CONFIG", "")  # restored afterwards
    file = tmp_path / "mine.toml"
    file.write_text("k = 7\n")
    assert run("--config", str(file), "config", "get", "k").out.strip() == "7"
    assert run("--config", str(tmp_path / "none.toml"), "config", "get", "k").code == 2


def test_formats(ready: Path, run: Run) -> None:
    """jsonl, csv and paths hold the passages of json, a line each; paths each source once; --json is --format json."""
    query = ("search", "capital of Korea")
    whole = json.loads(run(*query, "--json").out)
    assert json.loads(run(*query, "--format", "json").out) == whole
    lines = [json.loads(line) for line in run(*query, "--format", "jsonl").out.splitlines()]
    assert lines == whole["passages"]
    rows = list(csv.DictReader(io.StringIO(run(*query, "--format", "csv").out)))
    assert [(row["source"], row["text"], row["lines"]) for row in rows] == [
        (passage["source"], passage["text"], "-".join(map(str, passage["lines"]))) for passage in lines
    ]
    assert run(*query, "--format", "paths").out.splitlines() == list(dict.fromkeys(each["source"] for each in lines))
    assert run(*query, "--format", "csv", "--json").code == 2

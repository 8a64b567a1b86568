"""Completion in bash, zsh and fish, -V, --config, and the formats of `search`."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
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


@pytest.fixture
def shell_home(home: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds `selfrag` on its PATH, and ``notes.md`` in ``tmp_path``."""
    command = tmp_path / "bin" / "selfrag"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m selfrag "$@"\n')
    command.chmod(0o755)
    (tmp_path / "notes.md").write_text("")
    return environment(home, PATH=f"{command.parent}:{os.environ['PATH']}", HOME=str(tmp_path), TERM="dumb", PS1="> ")


def completed_by_bash(env: dict[str, str], folder: Path, line: str) -> str:
    words = line.split(" ")
    script = (
        'eval "$(selfrag --show-completion)"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1));'
        ' _selfrag_completion selfrag; printf "%s\\n" "${COMPREPLY[@]:-$(compgen -o default -- "${@: -1}")}"'
    )
    return subprocess.run(["bash", "-c", script, "bash", *words], env=env, cwd=folder, capture_output=True, text=True).stdout


def completed_by_fish(env: dict[str, str], folder: Path, line: str) -> str:
    script = 'selfrag --show-completion fish | source; complete -C "$argv[1]"'
    env = {**env, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # a pipe's parent is not always the shell
    command = ["fish", "--no-config", "-c", script, line]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True).stdout


def completed_by_zsh(env: dict[str, str], folder: Path, line: str) -> str:
    """What stands on the terminal of an interactive zsh after a press of the tab key."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe("zsh", ["zsh", "-f", "-i"], env)

    def until(pattern: str) -> str:
        seen, end = "", time.monotonic() + 60
        while time.monotonic() < end and not re.search(pattern, seen):
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 4096).decode("utf-8", "replace")
        return seen

    try:
        os.write(terminal, b'autoload -Uz compinit; compinit -u -D; eval "$(selfrag --show-completion)"; print rea""dy\n')
        until(r"\bready\r")
        os.write(terminal, line.encode() + b"\t")
        return until(rf"{re.escape(line)}\S+ |\x07[^>]*> ")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


SHELLS = {"bash": completed_by_bash, "zsh": completed_by_zsh, "fish": completed_by_fish}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_itself_completes(shell_home: dict[str, str], tmp_path: Path, shell: str) -> None:
    """With the script that it was given, the shell completes commands, the words of an option, and names of files."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine (apt-get install {shell})")
    for line, expected in (("selfrag hist", "history"), ("selfrag ask --mode ad", "adaptive"), ("selfrag index no", "notes.md")):
        assert expected in SHELLS[shell](shell_home, tmp_path, line)


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

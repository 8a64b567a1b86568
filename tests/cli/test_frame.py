"""How commands end: exit codes, messages, pipes, interruption."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from selfrag import cli
from selfrag.errors import ABSTAINED, CollectionError
from tests.cli.process import COMMAND, environment, selfrag


def test_version(home: Path) -> None:
    """`--version` names the program and its version on stdout."""
    done = selfrag(home, "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "selfrag")


def test_unknown_command_names_the_nearest(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped command exits 2 and tells which one was probably meant."""
    assert cli.run(["statsu"]) == 2
    assert "'status'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["ask", "q", "--nonsense"], ["ask", "q", "--mode", "often"], ["ask", "q", "-k", "many"]])
def test_usage_errors_exit_2(home: Path, arguments: list[str]) -> None:
    """What the command line cannot mean exits 2, with nothing on stdout."""
    done = selfrag(home, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error" in done.stderr


@pytest.mark.parametrize("arguments", [["ask", ""], ["ask", "  \n"], ["ask", "q", "--w-rel", "-1"], ["ask", "q", "-k", "0"]])
def test_impossible_values_exit_2(home: Path, arguments: list[str]) -> None:
    """An empty question, a negative weight, no passages: a message in words, and no traceback."""
    done = selfrag(home, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("selfrag: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_key_in_the_file_stops_every_command_but_help(home: Path) -> None:
    """A configuration that cannot be understood is not ignored; the message names key, file and line."""
    home.mkdir()
    (home / "config.toml").write_text("modell = 'x'\n")
    done = selfrag(home, "ask", "q")
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("'modell'", "'model'", "config.toml:1"))
    assert selfrag(home, "ask", "--help").returncode == 0


def test_nothing_to_do_shows_the_help(home: Path) -> None:
    """The bare command shows what there is, and exits 2."""
    done = selfrag(home)
    assert done.returncode == 2
    assert "Documents:" in done.stdout + done.stderr


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise error

    return app


def test_errors_are_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error is its message and the command that mends it; --debug, anywhere, adds the traceback."""
    monkeypatch.setattr(cli, "app", failing(CollectionError("there is no [Relevant] collection", "selfrag index FOLDER")))
    assert cli.run([]) == 1
    assert capsys.readouterr().err == "selfrag: there is no [Relevant] collection\n  → selfrag index FOLDER\n"
    assert cli.run(["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_bugs_are_words_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody foresaw exits 1 with its name, and --debug shows where it was."""
    monkeypatch.setattr(cli, "app", failing(ZeroDivisionError("by zero")))
    assert cli.run([]) == 1
    shown = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: by zero" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/home/x/data"),
            "/home/x/data: Permission denied\n  → SELFRAG_HOME=",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device\n  → free some space"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", b"/a"), "/a: No such file or directory\n"),
        (OSError(errno.EBADF, "Bad file descriptor"), "internal error: OSError: [Errno 9] Bad file descriptor"),
    ],
)
def test_what_the_file_system_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, told: str
) -> None:
    """A full disk or a folder that may not be written is no internal error: the message names the file and the way out."""
    monkeypatch.setattr(cli, "app", failing(error))
    assert cli.run([]) == 1
    assert capsys.readouterr().err.startswith(f"selfrag: {told}")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (typer.Exit(ABSTAINED), 3)])
def test_other_endings(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    """Ctrl-C exits 130, and a command's own exit code is the process's."""
    monkeypatch.setattr(cli, "app", failing(error))
    assert cli.run([]) == code


def test_a_reader_that_goes_away(home: Path) -> None:
    """`selfrag … | head` says nothing on stderr when head has read enough."""
    command = [*COMMAND, "config", "show", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_waiting(home: Path, number: int) -> None:
    """Ctrl-C and SIGTERM end a command that waits for its question with 130, and without a traceback."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
            "print('up', flush=True); sys.argv=['selfrag','ask','-']; from selfrag.cli import main; main()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home),
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(number)
        assert process.wait(30) == 130
        assert process.stderr.read() == "interrupted\n"


def test_config_never_shows_a_password(home: Path) -> None:
    """The password of a URL is masked wherever settings are shown."""
    selfrag(home, "config", "set", "engine", "http://me:secret@host:8000/v1")
    for arguments in (["config", "show"], ["config", "show", "--json"], ["config", "get", "engine"]):
        assert "secret" not in selfrag(home, *arguments).stdout


def test_config_round_trip(home: Path) -> None:
    """What is set is shown with the file and line that it stands in, and is gone when it is unset."""
    assert selfrag(home, "config", "set", "k", "7").returncode == 0
    assert selfrag(home, "config", "get", "k").stdout == "7\n"
    assert "config.toml:1" in selfrag(home, "config", "show").stdout
    assert selfrag(home, "config", "unset", "k").returncode == 0
    assert json.loads(selfrag(home, "config", "show", "--json").stdout)["k"] == 5


def test_config_path(home: Path) -> None:
    """The places are those below SELFRAG_HOME, and none of them is made by looking."""
    places = json.loads(selfrag(home, "config", "path", "--json").stdout)
    assert all(Path(place).is_relative_to(home) for place in places.values())
    assert not home.exists()

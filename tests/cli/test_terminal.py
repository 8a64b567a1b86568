"""What may reach a terminal."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.text import Text

from selfrag.cli import run, terminal
from selfrag.cli.console import SafeConsole

NASTY = "\x1b]0;owned\x07 \x1b[2J\x9b31m \u202eevil \x08\r"


def acts(text: str) -> set[str]:
    return {c for c in text if c in "\x1b\x07\x08\x9b\u202e\r"}


def test_a_console_shows_words_and_acts_on_none() -> None:
    """Strings, texts and tables printed by rich lose every character that acts; rich's own colours stay."""
    stream = StringIO()
    console = SafeConsole(file=stream, force_terminal=True, color_system="truecolor", width=60, markup=False, highlight=False)
    console.print(NASTY, Text(NASTY, style="red"))
    assert "owned" in stream.getvalue()
    assert not acts(stream.getvalue().replace("\x1b[31m", "").replace("\x1b[0m", ""))


def test_plain_lines_and_json_do_not_act(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of text shows U+FFFD; JSON keeps the character, as an escape of its own."""
    terminal.put(NASTY)
    terminal.say(NASTY)
    terminal.print_json({"text": NASTY})
    out, err = capsys.readouterr()
    assert not acts(out)
    assert not acts(err)
    assert json.loads(out[out.index("{") :])["text"] == NASTY


def test_escapes_of_documents_and_names_reach_no_terminal(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESC in a document, in a title and in file names comes out of no command that shows them."""
    monkeypatch.setenv("SELFRAG_EMBEDDER", "hashing")
    folder = tmp_path / "d\x1b[31mocs"
    folder.mkdir()
    (folder / "a\x1b[31mred.md").write_text("# Wr\x1b[2Jen\n\nA file about \x1b[32mwrens\x1b[0m.\n")
    (folder / "empty\x1b]0;x\x07.txt").write_text("")
    for command in (
        ["index", "--dry-run", folder],
        ["index", folder],
        ["search", "wrens", "--explain"],
        ["status"],
        ["index", "/no\x1b[1m"],
    ):
        run([str(part) for part in command])
        out, err = capsys.readouterr()
        assert out + err
        assert not acts(out + err), command


@pytest.mark.parametrize(
    ("environment", "template"),
    [
        ({"TERM": "xterm"}, "file://{path}#L{line}"),
        ({"TERM": "xterm", "SELFRAG_LINKS": "vscode://file{path}:{line}"}, "vscode://file{path}:{line}"),
        ({"TERM": "xterm", "SELFRAG_LINKS": "off"}, None),
        ({"TERM": "xterm", "SELFRAG_LINKS": "auto"}, "file://{path}#L{line}"),
        ({"TERM": "linux"}, None),
        ({"TERM": "xterm", "NO_COLOR": "1"}, None),
    ],
)
def test_links(environment: dict[str, str], template: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Citations are links on terminals that take them, in the form that is set, and nowhere else."""
    for name in ("NO_COLOR", "SELFRAG_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.links() is None  # captured: a pipe
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert terminal.links() == template

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from selfrag import ingest
from selfrag.config import settings
from selfrag.errors import ConfigError, InputError
from selfrag.ingest.formats.converters import read_converted

PYTHON = shlex.quote(sys.executable)


def command(code: str) -> str:
    return f"{PYTHON} -c {shlex.quote(code)} {{file}}"


@pytest.fixture(autouse=True)
def _no_converters_afterwards() -> Iterator[None]:
    yield
    ingest.use_converters({})


def test_a_command_reads_what_no_reader_does() -> None:
    """What it prints is the text, by paragraph; it sees the file's bytes under the file's extension, whatever its name."""
    code = "import sys; p = sys.argv[1]; print(p[-4:] + '\\n\\n' + open(p, 'rb').read()[::-1].decode())"
    ingest.use_converters({".WPD": command(code)})
    document = ingest.parse(PurePath("my $(file).wpd"), b"yrtsipat \x00"[:8])
    assert document.text.strip() == ".wpd\n\ntapistry"
    assert [chunk.place for chunk in ingest.split(document)] == ["¶1–2"]
    assert document.reader == "converted"


def test_converters_are_part_of_what_chunks_depend_on() -> None:
    """A collection that was made without a converter is told so, since the same file would give other chunks."""
    assert ingest.fingerprint() == {}
    ingest.use_converters({".x": "cat {file}"})
    assert ingest.fingerprint() == {"converters": {".x": "cat {file}"}}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; print('no such font', file=sys.stderr); sys.exit(3)", "failed with exit status 3: no such font"),
        ("pass", "printed no text"),
        ("print('x' * 10_000)", "printed more than|failed with exit status"),
        ("import time; time.sleep(60)", "took longer than 0 s"),
    ],
)
def test_commands_that_fail_say_why(code: str, reason: str) -> None:
    """An exit status with the last words, no text, too much text, and too much time are reasons to skip a file."""
    limits = ingest.Limits(seconds=0.1 if "sleep" in code else 8.0, characters=1000)
    with pytest.raises(InputError, match=reason):
        read_converted(command(code), PurePath("a.x"), b"data", limits)


def test_a_command_that_is_not_there() -> None:
    """It is named, with the place where it was named."""
    with pytest.raises(InputError, match="no-such-program cannot be started: no such file"):
        read_converted("no-such-program {file}", PurePath("a.x"), b"data", ingest.Limits())


def test_readers_in_the_settings(tmp_path: Path) -> None:
    """[readers] maps extensions to commands; an entry that can be no command is an error with its line."""
    environ = {"SELFRAG_HOME": str(tmp_path)}
    file = tmp_path / "config.toml"
    file.write_text('k = 7\n\n[readers]\n".wpd" = "wpd2text {file}"\n')
    assert settings.load(environ).readers == {".wpd": "wpd2text {file}"}
    file.write_text('[readers]\nwpd = "wpd2text"\n')
    with pytest.raises(ConfigError, match=r"config\.toml:1: \[readers\] has 'wpd' = 'wpd2text'"):
        settings.load(environ)

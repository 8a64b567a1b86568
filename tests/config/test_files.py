"""Which configuration file is read: the platform's, one that was chosen, a project's."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfrag.config import settings
from selfrag.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's file, seen from a folder below it."""
    below = tmp_path / "project" / "deep" / "folder"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path / "project" / ".selfrag.toml"


def test_a_project_overrides_the_file(home: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.selfrag.toml` above the working directory wins over the configuration file and loses to the environment; its line is
    where `config show` says that a value comes from."""
    home.mkdir()
    (home / "config.toml").write_text('k = 3\nmode = "always"\n')
    project.write_text('# ours\nk = 8\ncollection = "papers"\n')
    now = settings.load()
    assert (now.value("k"), now.value("mode"), now.collection) == (8, "always", "papers")
    assert now.origins["k"] == f"{project}:2"
    monkeypatch.setenv("SELFRAG_K", "9")
    assert settings.load().value("k") == 9


@pytest.mark.parametrize("line", ['engine = "http://evil.example/v1"', 'chroma = "https://evil.example"'])
def test_a_project_names_no_server(home: Path, project: Path, line: str) -> None:
    """A project's file comes with foreign files: it cannot send questions and passages to a server."""
    project.write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"\.selfrag\.toml:1: \w+ names a server"):
        settings.load()


def test_a_project_names_no_command(home: Path, project: Path) -> None:
    """A project's file comes with foreign files: it cannot name a converter, which would be run; the user's own file can."""
    project.write_text('k = 3\n[readers]\n".wpd" = "wpd2text {file}"\n')
    with pytest.raises(ConfigError, match=r"\.selfrag\.toml:2: \[readers\] names commands"):
        settings.load()
    project.unlink()
    home.mkdir()
    (home / "config.toml").write_text('[readers]\n".wpd" = "wpd2text {file}"\n')
    assert settings.load().readers == {".wpd": "wpd2text {file}"}


def test_a_project_chooses_no_links(home: Path, project: Path) -> None:
    """A project's file comes with foreign files: it cannot choose the program that a click on a citation opens."""
    project.write_text('links = "odd://{path}"\n')
    with pytest.raises(ConfigError, match=r"\.selfrag\.toml:1: links open programs"):
        settings.load()


def test_a_chosen_file(home: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SELFRAG_CONFIG names the one file that is read and written; no project's is; one that does not exist is an error."""
    project.write_text("k = 8\n")
    chosen = tmp_path / "other.toml"
    monkeypatch.setenv("SELFRAG_CONFIG", str(chosen))
    with pytest.raises(ConfigError, match="no such configuration file"):
        settings.load()
    chosen.write_text("k = 2\n")
    assert settings.load().value("k") == 2
    settings.save(settings.find_paths(), "k", "4")
    assert chosen.read_text() == "k = 4\n"

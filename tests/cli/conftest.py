"""A home with a tiny model and two documents, for the tests of the whole command without the embedded model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from selfrag import cli, index


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny reflection model, which knows by heart what the capital of Korea is."""
    from tests.engines import tiny  # here, since it loads torch: many tests of the commands need none

    return tiny.build(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for documents, and an embedder without a model."""
    monkeypatch.setenv("SELFRAG_EMBEDDER", "hashing")
    made = tmp_path / "docs"
    made.mkdir()
    return made


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SELFRAG_HOME whose collection `default` holds a text on Seoul and one on Lyon, in the folder `documents` beside it."""
    from tests.engines import tiny

    home, documents = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("documents")
    for evidence in (tiny.SEOUL, tiny.LYON):
        title, text = evidence.split("\n")
        (documents / f"{title}.txt").write_text(text, encoding="utf-8")
    index.open_collection(home / "data", create=True).sync([documents])
    return home


@pytest.fixture
def ready(home: Path, indexed: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`indexed` as the home, and the tiny model as the default one. Returns the home."""
    monkeypatch.setenv("SELFRAG_HOME", str(indexed))
    monkeypatch.setenv("SELFRAG_MODEL", str(tiny_model))
    return indexed


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with pipes for a terminal."""

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return command

"""`selfrag ask` with the bundled models as GGUF behind a real llama.cpp server: by reflection tokens, and by prompts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import selfrag
from tests.cli.test_embedded import PLAIN, SOME, WIKIPEDIA
from tests.engines import llamacpp

pytest.importorskip("xllamacpp")
pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture
def home(home_with_model: Path, tmp_path: Path) -> Path:
    """Five summaries indexed."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for name in SOME:
        shutil.copy(WIKIPEDIA / f"{name}.md", folder)
    assert selfrag(home_with_model, "index", folder, "--quiet").returncode == 0
    return home_with_model


def ask(home: Path, *arguments: str) -> dict[str, Any]:
    done = selfrag(home, "ask", PLAIN, "--json", "--no-history", *arguments, LOOPBACK="1")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def through(home: Path, tmp_path: Path, model: str, *arguments: str) -> dict[str, Any]:
    """The answer of the model ``model``, served by llama.cpp."""
    file = llamacpp.to_gguf(home / "cache" / "models" / model, tmp_path / "model.gguf")
    try:
        with llamacpp.served(file, model, window=8192) as url:
            return ask(home, "--engine", url, "--model", model, *arguments)
    finally:
        file.unlink()  # half a gigabyte


def test_the_bundled_model(home: Path, tmp_path: Path) -> None:
    """Its reflection tokens work as GGUF: the answer and its critique are those of the model in process."""
    served, local = through(home, tmp_path, "smollm2-135m-selfrag"), ask(home)
    assert (served["reflection"], served["exact"], local["exact"]) == ("tokens", False, True)
    assert served["answer"] == local["answer"]
    assert "Berzelius" in served["answer"]
    assert [each["text"] for each in served["citations"]] == [each["text"] for each in local["citations"]]
    for far, near in zip(served["segments"], local["segments"], strict=True):
        for name in ("isrel", "issup", "isuse"):
            assert far["critique"][name] == pytest.approx(near["critique"][name], abs=1e-4)


def test_the_plain_instruct_model(home: Path, tmp_path: Path) -> None:
    """A model without reflection tokens is asked by prompts; its judgements are probabilities that the server reports."""
    name = "smollm2-135m-instruct"
    pulled = selfrag(home, "models", "pull", name)
    assert pulled.returncode == 0, pulled.stderr
    document = through(home, tmp_path, name, "--reflection", "prompted", "--mode", "always", "-k", "2")
    assert (document["reflection"], document["exact"]) == ("prompted", False)
    judged = {name: each for segment in document["segments"] for name, each in segment["distributions"].items()}
    assert {"ISREL", "ISSUP"} <= judged.keys()  # ISUSE where an answer ends
    for chances in judged.values():
        assert sum(chances.values()) == pytest.approx(1)
        assert max(chances.values()) < 1  # a stated choice would be certain
    assert document["usage"]["requests"] >= 4

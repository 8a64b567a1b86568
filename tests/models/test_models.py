"""Models by name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from selfrag import models
from selfrag.algorithm.reflection import REFLECTION_TOKENS, check_weights
from selfrag.errors import ModelError
from selfrag.models.base import reflection_ids
from selfrag.models.registry import entries
from selfrag.types import Weights


def test_a_model_that_was_not_fetched_names_the_command(tmp_path: Path) -> None:
    """Resolving never downloads: it says what to run."""
    with pytest.raises(ModelError) as caught:
        models.resolve("smollm2-135m-selfrag", tmp_path)
    assert caught.value.hint == "selfrag models pull smollm2-135m-selfrag"
    assert not list(tmp_path.iterdir())


def test_folders_and_hub_names_pass_through(tmp_path: Path) -> None:
    """A checkpoint folder is itself, a Hugging Face name stays a name, and anything else is unknown."""
    (tmp_path / "config.json").write_text("{}")
    assert models.resolve(str(tmp_path), tmp_path).path == str(tmp_path.resolve())
    assert models.resolve("someone/some-model", tmp_path).path == "someone/some-model"
    for name in ("smollm", "./nowhere", "a/b/c"):
        with pytest.raises(ModelError, match="unknown model"):
            models.resolve(name, tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """A folder without config.json is no model."""
    with pytest.raises(ModelError, match=r"config\.json"):
        models.resolve(str(tmp_path), tmp_path)


def test_the_registry_is_complete() -> None:
    """Every entry says what it is and under which licence; thresholds lie on their scales; packaged files are hashed."""
    for entry in entries().values():
        assert entry.about
        assert entry.licence
        assert all(
            (-1 if name in ("isuse", "reconsider", "join") else 0) <= value <= 1 for name, value in entry.thresholds.items()
        )
        assert all(value > 0 for value in entry.temperatures.values())
        assert all(math.isfinite(value) for value in entry.biases.values())
        assert check_weights(Weights(**entry.weights))
        assert entry.base is None or len(entry.base.sha256) == 64


@pytest.mark.model
def test_the_packaged_model(home_with_model: Path) -> None:
    """It resolves to an ordinary checkpoint that transformers loads, each reflection token a single id."""
    from transformers import AutoTokenizer

    info = models.resolve("smollm2-135m-selfrag", home_with_model / "cache")
    assert info.ready
    tokenizer = AutoTokenizer.from_pretrained(info.path)
    ids = reflection_ids(tokenizer)
    assert len(set(ids)) == len(REFLECTION_TOKENS)
    split = tokenizer("in 1973 [Relevant]", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert not set(ids) & set(split)
    assert tokenizer.convert_ids_to_tokens(split)[2:6] == list("1973")
    config = json.loads((Path(info.path) / "config.json").read_text())
    assert config["vocab_size"] == len(tokenizer)

"""Training an adapter further: its weights are where the new run begins, and one that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from selfrag.cli import run as program
from selfrag.errors import InputError, UsageError
from selfrag.train import adapters
from selfrag.train.lora import AdapterConfig, load
from selfrag.train.run import run
from tests.train.test_run import SMALL, config, weights, write_rows


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("first")
    run(replace(config(base, write_rows(folder / "rows.jsonl"), folder), epochs=6), lambda _line: None)
    return folder


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line)["loss"] for line in (out / "curve.jsonl").read_text("utf-8").splitlines()]


def test_a_run_begins_where_the_adapter_ended(base: Path, first: Path) -> None:
    """LoRA matrices and token rows are those of the folder, to the last bit."""
    adapted = adapters.adapt_from(*load(base, torch.float32), SMALL, first / "adapter")
    mine, saved = get_peft_model_state_dict(adapted, save_embedding_layers=False), weights(first)
    assert mine.keys() == saved.keys()
    assert all(torch.equal(mine[name], saved[name]) for name in saved)
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == sum(v.numel() for v in saved.values())


def test_it_is_trained_further(base: Path, first: Path, tmp_path: Path) -> None:
    """The first loss of a run from an adapter is near that run's last, far below its first; and the weights move on."""
    out = tmp_path / "further"
    further = replace(config(base, first / "rows.jsonl", out), start=first / "adapter")
    run(further, lambda _line: None)
    begins, began, ended = (losses(f)[i]["ISSUP"] for f, i in ((out, 0), (first, 0), (first, -1)))
    assert abs(begins - ended) < 0.2 * (began - ended)
    assert any(not torch.equal(value, weights(first)[name]) for name, value in weights(out).items())


def test_the_adapters_shape_decides_on_the_command_line(base: Path, first: Path, tmp_path: Path) -> None:
    """`--from` alone takes base, rank and blocks from the adapter; an option that says otherwise is a usage error."""
    command = ["train", "run", str(first / "rows.jsonl"), "--dtype", "float32", "--from", str(first / "adapter"), "-q"]
    assert program([*command, "-o", str(tmp_path / "a")]) == 0
    written = json.loads((tmp_path / "a" / "config.json").read_text("utf-8"))
    assert written["adapter"]["rank"] == SMALL.rank
    assert written["adapter"]["first_block"] == SMALL.first_block
    assert written["base"] == str(base)
    assert program([*command, "-o", str(tmp_path / "b"), "--rank", "8"]) == 2
    assert program([*command, "-o", str(tmp_path / "b"), "--first-block", "2"]) == 2


def test_it_can_be_widened_to_lower_blocks(base: Path, first: Path) -> None:
    """With a lower first block the new blocks get weights to train, and until then the model writes what the adapter's does."""
    wider = adapters.adapt_from(*load(base, torch.float32), replace(SMALL, first_block=0), first / "adapter")
    same = adapters.adapt_from(*load(base, torch.float32), SMALL, first / "adapter")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert torch.equal(wider(ids).logits, same(ids).logits)
    trained = {name for name, p in wider.named_parameters() if p.requires_grad}
    assert len([n for n in trained if ".layers.0." in n]) == len([n for n in trained if ".layers.1." in n]) == 14


@pytest.mark.parametrize(("option", "given"), [("rank", replace(SMALL, rank=8)), ("first-block", replace(SMALL, first_block=2))])
def test_another_shape_is_refused(base: Path, first: Path, option: str, given: AdapterConfig) -> None:
    """The message names the option, its value and the adapter's."""
    with pytest.raises(UsageError, match=rf"--{option} is \d, and of the adapter .*adapter it is \d"):
        adapters.adapt_from(*load(base, torch.float32), given, first / "adapter")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"use_rslora": True}, "use_rslora is True"),
        ({"target_modules": ["q_proj"]}, "target_modules"),
        ({"trainable_token_indices": {"embed_tokens": [1, 2]}}, "other ids"),
    ],
)
def test_an_adapter_of_another_kind_or_base_is_refused(
    base: Path, first: Path, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    """What would be read otherwise than it was trained is refused, not loaded in part."""
    folder = shutil.copytree(first / "adapter", tmp_path / "adapter")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changed), encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        adapters.adapt_from(*load(base, torch.float32), SMALL, folder)


def test_weights_of_another_size_are_refused(base: Path, first: Path, tmp_path: Path) -> None:
    """An adapter of a model with wider layers is refused, and the base it was trained on is named."""
    folder = shutil.copytree(first / "adapter", tmp_path / "adapter")
    wider = {name: torch.cat([value, value], -1) for name, value in weights(first).items()}
    save_file(wider, folder / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"29 of 29 weights do not fit") as caught:
        adapters.adapt_from(*load(base, torch.float32), SMALL, folder)
    assert str(base) in str(caught.value.hint)


def test_what_is_no_adapter_is_refused(first: Path, tmp_path: Path) -> None:
    """A folder without an adapter, a model without one, and a file that describes none are named, with what to name instead."""
    with pytest.raises(InputError, match="holds no adapter") as caught:
        adapters.find(str(first))
    assert caught.value.hint == f"name {first / 'adapter'}"
    with pytest.raises(InputError, match="no adapter comes with smollm2-135m-instruct"):
        adapters.find("smollm2-135m-instruct")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="does not describe a LoRA adapter"):
        adapters.shape(tmp_path)


def test_the_packaged_adapter_can_be_named() -> None:
    """A registry name gives the adapter's folder, and the plain model it was trained on as the base."""
    folder = adapters.find("smollm2-135m-selfrag")
    assert adapters.shape(folder).rank > 0
    assert adapters.base_of("smollm2-135m-selfrag") == "smollm2-135m-instruct"


def test_a_merged_checkpoint_writes_what_the_adapted_model_writes(base: Path, first: Path, tmp_path: Path) -> None:
    """It is an ordinary checkpoint with the reflection tokens; a second one is not written over it."""
    command = ["train", "merge", str(first / "adapter"), "-o", str(tmp_path / "merged")]
    assert program(command) == 0
    merged, tokenizer = load(tmp_path / "merged", torch.float32)
    adapted = adapters.adapt_from(*load(base, torch.float32), SMALL, first / "adapter")
    ids = tokenizer("Where is Paris?[Relevant]", return_tensors="pt").input_ids
    with torch.no_grad():
        difference = (merged(ids).logits - adapted(ids).logits).abs().max()
    assert 0 < difference < 0.05  # bfloat16
    assert "lora" not in " ".join(name for name, _ in merged.named_parameters())
    before = (tmp_path / "merged" / "config.json").stat().st_mtime_ns
    assert program(command) == 2
    assert (tmp_path / "merged" / "config.json").stat().st_mtime_ns == before


def test_a_base_that_is_not_there_is_told(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither merging nor training ends in an internal error where the base cannot be loaded."""
    nowhere = str(tmp_path / "none")
    assert program(["train", "merge", str(first / "adapter"), "-o", str(tmp_path / "out"), "--base", nowhere]) == 1
    assert program(["train", "run", str(first / "rows.jsonl"), "-o", str(tmp_path / "run"), "--base", nowhere]) == 1
    said = capsys.readouterr().err
    assert said.count(nowhere) >= 2
    assert "internal" not in said
    assert not (tmp_path / "out").exists()

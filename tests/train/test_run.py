"""A real, tiny training run: it learns, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from selfrag.algorithm.reflection import FULLY, NO_SUPPORT, RELEVANT
from selfrag.errors import InputError, Interrupted, SelfragError, UsageError
from selfrag.train.lora import AdapterConfig
from selfrag.train.rows import END, control, evidence, packed, prompt, text, to_json
from selfrag.train.run import WEIGHTS, RunConfig, run, weights_of

SMALL = AdapterConfig(rank=2, first_block=1)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl")


def write_rows(file: Path) -> Path:
    made = [
        packed(f"r{i}", "test", (prompt(f"Where is {i}?"), *evidence("Paris", f"Paris {i} is in France.")),
             [(control(RELEVANT), text("France", 1.0), control(FULLY), END),
              (control(RELEVANT, 0.0), text("Spain"), control(NO_SUPPORT))])
        for i in range(24)
    ]  # fmt: skip
    file.write_text("".join(to_json(row) + "\n" for row in made), encoding="utf-8")
    return file


def config(base: Path, rows: Path, out: Path) -> RunConfig:
    return RunConfig(base=str(base), rows=rows, out=out, epochs=2, batch_tokens=300, dtype="float32", warmup=2, log_every=1,
                     lr=1e-2, rows_lr=1e-2, checkpoint_minutes=0.0, adapter=SMALL)  # fmt: skip


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter" / "adapter_model.safetensors")


def test_it_learns(base: Path, rows: Path, tmp_path: Path) -> None:
    """The loss of every group falls, and the run's folder tells how."""
    state = run(config(base, rows, tmp_path / "run"), lambda _line: None)
    curve = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    assert len(curve) == state.step
    first, last = curve[0]["loss"], curve[-1]["loss"]
    assert all(last[name] < first[name] for name in ("ISREL", "ISSUP", "text"))
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert len(written["rows_sha256"]) == 64


@pytest.mark.skipif(shutil.which("g++") is None, reason="wants a C++ compiler")
def test_compiled_blocks_learn_the_same(base: Path, rows: Path, tmp_path: Path) -> None:
    """A run with compiled blocks ends with the weights of one without, but for rounding."""
    everywhere = replace(SMALL, first_block=0)
    for name, compiled in (("plain", False), ("compiled", True)):
        run(replace(config(base, rows, tmp_path / name), compiled=compiled, epochs=1, adapter=everywhere), lambda _line: None)
    plain, made = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert plain.keys() == made.keys()
    assert all(torch.allclose(plain[name], made[name], atol=1e-3) for name in plain)


def test_compiling_without_a_compiler_is_told(base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained, and with what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"wants a C\+\+ compiler") as caught:
        run(replace(config(base, rows, tmp_path / "run"), compiled=True), lambda _line: None)
    assert "leave out --compile" in str(caught.value.hint)
    assert not (tmp_path / "run" / "curve.jsonl").exists()


def test_a_killed_run_goes_on_to_the_same_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    """A process killed in the middle and started again ends with exactly the weights of one that was never killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(config(base, rows, whole), lambda _line: None)
    code = (
        "import sys; from pathlib import Path; from tests.train.test_run import config; from selfrag.train.run import run;"
        f"run(config(Path({str(base)!r}), Path({str(rows)!r}), Path({str(killed)!r})), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    curve = killed / "curve.jsonl"
    while process.poll() is None and (not curve.exists() or len(curve.read_text().splitlines()) < 4):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    steps_before = len(curve.read_text().splitlines())
    lines: list[str] = []
    run(config(base, rows, killed), lines.append)
    assert any("going on from step" in line for line in lines)
    assert steps_before < len((whole / "curve.jsonl").read_text().splitlines())
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(killed)[name]), name


def test_other_rows_are_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    """A run does not go on with other rows than it began with."""
    settings = replace(config(base, rows, tmp_path / "run"), epochs=1)
    run(settings, lambda _line: None)
    rows.write_text(rows.read_text().replace("Paris", "Lyons"), encoding="utf-8")
    with pytest.raises(UsageError, match="other rows"):
        run(settings, lambda _line: None)


@pytest.mark.parametrize("changed", [{"batch_tokens": 400}, {"max_tokens": 500}, {"seed": 2}])
def test_another_order_of_batches_is_refused(base: Path, rows: Path, tmp_path: Path, changed: dict[str, int]) -> None:
    """A run does not go on with what would put other rows into the steps that are left."""
    settings = replace(config(base, rows, tmp_path / "run"), epochs=1)
    run(settings, lambda _line: None)
    with pytest.raises(UsageError, match=f"was begun with --{next(iter(changed)).replace('_', '-')}"):
        run(replace(settings, **changed), lambda _line: None)  # type: ignore[arg-type]


def test_weights_of_the_loss() -> None:
    """A weight names a group and a number, or is refused with the groups that there are."""
    assert weights_of(["ISREL=5", "text=0.5"]) == dict(WEIGHTS) | {"ISREL": 5.0, "text": 0.5}
    for wrong in ("ISRELL=1", "ISREL=-1", "ISREL=", "ISREL"):
        with pytest.raises(UsageError, match="cannot read the weight"):
            weights_of([wrong])


def test_a_run_can_be_stopped(base: Path, rows: Path, tmp_path: Path) -> None:
    """After the step in hand it saves and says so; the same command resumes from there to the same weights."""
    settings, stop = config(base, rows, tmp_path / "run"), threading.Event()

    def third(line: str) -> None:
        if line.startswith("step 3/"):
            stop.set()

    with pytest.raises(Interrupted, match="stopped after step"):
        run(settings, third, stop)
    lines: list[str] = []
    run(settings, lines.append)
    run(config(base, rows, tmp_path / "whole"), lambda _line: None)
    assert "going on from step 3" in lines or "going on from step 4" in lines
    assert all(torch.equal(value, weights(tmp_path / "run")[name]) for name, value in weights(tmp_path / "whole").items())


def test_what_cannot_be_is_told(base: Path, rows: Path, tmp_path: Path) -> None:
    """A number type that is none, rows that are not there, a file in the place of the folder, a disk that is full."""
    settings = config(base, rows, tmp_path / "run")
    with pytest.raises(UsageError, match="--dtype is 'int8'"):
        run(replace(settings, dtype="int8"))
    with pytest.raises(InputError, match="cannot read the rows"):
        run(replace(settings, rows=tmp_path / "none.jsonl"))
    with pytest.raises(UsageError, match="cannot be the folder of a run"):
        run(replace(settings, out=rows))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curve.jsonl").symlink_to("/dev/full")
    with pytest.raises(SelfragError, match=r"cannot write to .*No space left"):
        run(settings, lambda _line: None)


def test_rows_without_labels_are_refused(base: Path, tmp_path: Path) -> None:
    """A file that teaches nothing is no training data."""
    file = tmp_path / "rows.jsonl"
    file.write_text(to_json(packed("a", "test", (prompt("Hi"),))) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="no usable training row"):
        run(config(base, file, tmp_path / "run"), lambda _line: None)

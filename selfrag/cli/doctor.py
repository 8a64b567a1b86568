"""`selfrag doctor`: checks the installation, one line per check, with the command that fixes a failure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json
from selfrag.errors import FAILED, SelfragError

if TYPE_CHECKING:
    from rich.text import Text

    from selfrag.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """``mend`` is the command that fixes a failed check, None if there is nothing to fix."""

    name: str
    ok: bool
    detail: str
    mend: str | None = None


def doctor(json: Json = False) -> None:
    """Check the installation, the models and the collections.

    Every check is one line; a failure names the command that fixes it. The exit status is 1 if anything failed.

    \b
    Examples:
      selfrag doctor
      selfrag doctor --json | jq '.[] | select(.ok | not)'
    """
    checks = []
    for check in run_checks():
        checks.append(check)
        if not json:
            terminal.show(as_line(check))
    if json:
        terminal.print_json([asdict(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def as_line(check: Check) -> Text:
    from rich.text import Text

    from selfrag._util import clean

    mark = Text("✓ ", style="green") if check.ok else Text("✗ ", style="red")
    line = Text.assemble(mark, (f"{check.name:<22}", "bold"), " ", clean(check.detail))
    return line.append(f"  → {clean(check.mend)}", style="yellow") if check.mend else line


def run_checks() -> Iterator[Check]:
    """All checks in order, each run when its result is needed."""
    from selfrag.config import settings

    yield from guarded("python", check_python)
    yield from guarded("packages", check_packages)
    try:
        now = settings.load()
    except SelfragError as error:
        yield Check("settings", False, error.message, error.hint)
        return
    yield Check("settings", True, f"{len(now.origins)} set; collections in {now.paths.data}")
    yield from guarded("model", lambda: check_model(now))
    yield from guarded("embedder", lambda: check_embedder(now))
    yield from guarded("collections", lambda: check_collections(now))
    yield from guarded("gpu", check_gpu)


def guarded(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """The checks; an error in one of them counts as its failure."""
    try:
        yield from checks()
    except SelfragError as error:
        yield Check(name, False, error.message, error.hint)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        yield Check(name, False, f"{type(error).__name__}: {error}", "pip install --force-reinstall selfrag")


def check_python() -> Iterator[Check]:
    yield Check("python", True, ".".join(map(str, sys.version_info[:3])))


def check_packages() -> Iterator[Check]:
    """The dependencies of selfrag are installed, in versions that it accepts."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requires("selfrag") or []]
    for need in (need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})):
        try:
            found = version(need.name)
        except PackageNotFoundError:
            yield Check(need.name, False, "not installed", f'pip install "{need}"')
            continue
        fits = need.specifier.contains(found, prereleases=True)
        yield Check(
            need.name,
            fits,
            found if fits else f"{found}, but {need.specifier} is needed",
            None if fits else f'pip install "{need}"',
        )


def check_model(now: Settings) -> Iterator[Check]:
    """The model that `ask` uses is fetched, unchanged and complete."""
    from selfrag import models

    info = models.show(now.model, now.paths.cache)
    if info.ready is None:
        yield Check("model", True, f"{info.name}, from the hub; not checked until it is opened")
        return
    mend = None if info.ready else f"selfrag models pull {info.name}"
    yield Check("model", info.ready, f"{info.name} in {info.path}" if info.ready else f"{info.name} has not been fetched", mend)
    if info.ready:
        yield from guarded("model weights", partial(check_weights, info.path))
    yield from guarded("model base", partial(check_base, info.name, now))


def check_weights(folder: str) -> Iterator[Check]:
    """The checkpoint's files can be opened and are complete."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as tensors:
                detail = f"{file.name}, {len(tensors.keys())} tensors, {file.stat().st_size / 2**20:.0f} MiB"
            yield Check("model weights", True, detail)
        except SafetensorError as error:
            yield Check(
                "model weights",
                False,
                f"{file} is damaged: {error}",
                f"rm -r {folder} && selfrag models pull {Path(folder).name}",
            )


def check_base(name: str, now: Settings) -> Iterator[Check]:
    """The base file of a packaged model has the hash in the registry."""
    from selfrag.models import build, registry

    entry = registry.entries().get(name)
    if entry and entry.base and build.has_base(entry.base, now.paths.cache):
        build.check(build.base_file(entry.base, now.paths.cache), entry.base)
        yield Check("model base", True, f"{entry.base.wheel}, sha256 {entry.base.sha256[:12]}…")


def check_embedder(now: Settings) -> Iterator[Check]:
    """The embedder of new collections works."""
    from selfrag.index.embedders import open_embedder

    embedder = open_embedder(now.embedder)
    shape = embedder.queries(["Does it work?"]).shape
    yield Check("embedder", shape == (1, embedder.dimension), f"{embedder.name}, {embedder.dimension} dimensions")


def check_collections(now: Settings) -> Iterator[Check]:
    """Every collection's catalog and vectors agree."""
    from selfrag import index

    for name in index.names(now.paths.data):
        yield from guarded(f"collection {name}", partial(check_collection, now, name))


def check_collection(now: Settings, name: str) -> Iterator[Check]:
    from selfrag import index
    from selfrag.index import maintenance

    found = maintenance.status(index.open_collection(now.paths.data, name, chroma_url=now.chroma))
    detail = f"{found.sources:,} sources, {found.chunks:,} chunks" + "".join(f"; {problem}" for problem in found.problems)
    if found.consistent is None:
        detail += f"; process {found.writer} is writing to it"
    sound = found.consistent is not False
    yield Check(f"collection {name}", sound, detail, None if sound else found.mend)


def check_gpu() -> Iterator[Check]:
    """Never a failure: without a GPU the CPU is used."""
    import torch

    found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; the CPU is used"
    yield Check("gpu", True, found)

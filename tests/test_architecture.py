"""The house: which part may import which, and what is not imported before it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import selfrag

PACKAGE = Path(selfrag.__file__).parent

LAYERS = (
    ("errors", "types", "_util", "_version", "_http", "environment", "prompts", "telemetry"),
    ("algorithm", "config"),
    ("reflectors", "answers"),
    ("agent",),
    ("batch",),
    ("evaluation",),
    ("service",),
    ("cli",),
)
"""A module may import its own layer and the ones before it."""
GROUND = {*LAYERS[0], "algorithm"}
PARTS = {
    "engines": GROUND,
    "ingest": GROUND,
    "index": GROUND | {"ingest"},
    "models": GROUND,
    "conversation": GROUND,
    "train": GROUND | {"models", "engines", "reflectors", "evaluation", "index"},
}
"""What stands beside the layers and may import only these; only the agent and what stands on it may import them."""
HEAVY = (
    "torch",
    "transformers",
    "vllm",
    "chromadb",
    "sentence_transformers",
    "httpx",
    "scipy",
    "numpy",
    "onnxruntime",
    "peft",
    "matplotlib",
)


def imports(file: Path) -> Iterator[str]:
    """The parts of selfrag that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "selfrag":
            names = [f"selfrag.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (name.split(".")[1] for name in names if name.startswith("selfrag."))


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [file for file in sorted(PACKAGE.rglob("*.py")) if part_of(file) not in ("__init__", "__main__", "_version")]


def allowed(part: str) -> set[str]:
    if part in PARTS:
        return PARTS[part] | {part}
    depth = next((i for i, layer in enumerate(LAYERS) if part in layer), None)
    assert depth is not None, f"{part} has no place in the house yet: put it into LAYERS or PARTS"
    below = {name for layer in LAYERS[: depth + 1] for name in layer}
    on_the_agent = depth >= next(i for i, layer in enumerate(LAYERS) if "agent" in layer)
    return below | set(PARTS) if on_the_agent else below


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_direction_of_imports(file: Path) -> None:
    """Every module imports only what lies below it."""
    beyond = set(imports(file)) - allowed(part_of(file))
    assert not beyond, f"{part_of(file)} may not import {beyond}"


def python(code: str, tmp_path: Path) -> str:
    env = {**os.environ, "SELFRAG_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_library_is_light(tmp_path: Path) -> None:
    """`import selfrag` loads no heavy library."""
    code = f"import sys, selfrag, selfrag.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python(code, tmp_path) == "[]"


def test_help_is_light(tmp_path: Path) -> None:
    """The help of every command, and of every command of a command, loads no heavy library."""
    code = f"""
import sys
from contextlib import redirect_stdout
from io import StringIO
from selfrag import cli
from tests.cli.commands import every_command

for path, _ in every_command():
    with redirect_stdout(StringIO()):
        assert cli.run([*path, "--help"]) == 0, path
    if found := [m for m in {HEAVY!r} if m in sys.modules]:
        print(path, found)
        break
"""
    assert python(code, tmp_path) == ""


def test_asking_for_help_loads_one_command(tmp_path: Path) -> None:
    """`selfrag ask --help` loads the module of `ask` and the table of options alone."""
    code = """
import sys
from contextlib import redirect_stdout
from io import StringIO
from selfrag import cli
with redirect_stdout(StringIO()):
    cli.run(["ask", "--help"])
print(sorted(m for m in sys.modules if m.startswith("selfrag")))
"""
    loaded = python(code, tmp_path)
    assert "selfrag.cli.ask" in loaded
    assert not any(name in loaded for name in ("selfrag.agent", "selfrag.cli.chat", "selfrag.answers", "selfrag.algorithm"))

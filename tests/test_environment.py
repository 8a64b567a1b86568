"""The table of environment variables is complete."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import selfrag
from selfrag.config.settings import TABLE
from selfrag.environment import VARIABLES

PACKAGE = Path(selfrag.__file__).parent
MODULES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.name != "environment.py"]
DECLARED = {each.name for each in VARIABLES}


def read_by_name(tree: ast.AST) -> Iterator[str]:
    """The variables that code reads from an ``environ`` by a name written there; what it sets for libraries is not read."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=of, attr="get" | "pop"), args=[ast.Constant(value=str(name)), *_]):
                pass
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str(name)), *_]):
                yield name
                continue
            case ast.Subscript(value=of, slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                pass
            case _:
                continue
        if ast.unparse(of) in ("os.environ", "environ") and name != "TQDM_DISABLE":  # set by selfrag, for a library
            yield name


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_variable_is_declared(file: Path) -> None:
    """A module reads the environment through the table alone, and no text names a SELFRAG_ variable that does not exist."""
    text = file.read_text("utf-8")
    assert list(read_by_name(ast.parse(text))) == []
    settings = {f"SELFRAG_{name.upper()}" for name in TABLE}
    assert set(re.findall(r"\bSELFRAG_[A-Z_]+\b", text)) <= DECLARED | settings


def test_an_undeclared_variable_is_found() -> None:
    """The walk over the code finds each way to read a variable."""
    code = 'os.environ["A"]; os.environ.get("B", ""); os.getenv("C"); environ.pop("D"); os.environ["E"] = "1"'
    assert sorted(read_by_name(ast.parse(code))) == ["A", "B", "C", "D"]


def test_no_variable_stands_for_two_things() -> None:
    """No declared variable is that of a setting, and none is declared twice."""
    assert len(DECLARED) == len(VARIABLES)
    assert not DECLARED & {f"SELFRAG_{name.upper()}" for name in TABLE}

"""The library: its public names, and that it gives the answers of the command line."""

from __future__ import annotations

import asyncio
import io
import json
import re
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import selfrag
from tests.cli.conftest import Run

README = Path(__file__).parents[2] / "README.md"


def test_public_names() -> None:
    """Every public name can be imported, is listed once and in order, and has a docstring."""
    assert sorted(selfrag.__all__, key=str.lower) == sorted(set(selfrag.__all__), key=str.lower)
    for name in selfrag.__all__:
        found = getattr(selfrag, name)
        assert name == "__version__" or found.__doc__, name


def test_unknown_name() -> None:
    """A name that does not exist is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="nothing"):
        _ = selfrag.nothing  # type: ignore[attr-defined]


def test_version() -> None:
    """The package says the version that the command prints."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", selfrag.__version__)


def test_the_library_answers_like_the_command(ready: Path, run: Run) -> None:
    """`open_agent(...).ask` and `selfrag ask --json` give the same document, times apart."""
    question = "What is the capital of Korea?"

    async def answer() -> str:
        async with selfrag.open_agent() as agent:
            return json.dumps(selfrag.answer_json(await agent.ask(question)))

    documents = [json.loads(asyncio.run(answer())), json.loads(run("ask", question, "--json").out)]
    for document in documents:
        del document["timing_ms"], document["usage"]
    assert documents[0] == documents[1]


def test_the_example_of_the_readme(ready: Path, run: Run) -> None:
    """The README's program runs as it stands and prints what `selfrag ask` answers."""
    text = README.read_text("utf-8")
    code = textwrap.dedent(text[text.index("    import asyncio, selfrag") : text.index("It gives the answer of")])
    code = code.replace('"demo"', '"default"').replace("Which phylum do earthworms belong to?", "What is the capital of Korea?")
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    asked = json.loads(run("ask", "What is the capital of Korea?", "--json").out)
    assert printed.getvalue().startswith(asked["answer"])
    assert str(asked["citations"][0]["chunk"]) in printed.getvalue()

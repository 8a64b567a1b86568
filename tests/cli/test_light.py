"""What the commands on a model with a graph do without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "sentence_transformers", "peft", "accelerate", "scipy", "sympy", "pandas")

COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from selfrag import cli

found = {}
for name, *arguments in json.loads(sys.argv[1]):
    sys.stdin = io.StringIO("What is the capital of Korea?\\n/quit\\n")
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.run([name, *arguments])
    assert code in (0, 3), (name, code, err.getvalue())
    found[name] = [m for m in json.loads(sys.argv[2]) if m in sys.modules]
print(json.dumps(found))
"""


def test_neither_torch_nor_transformers_is_imported(tiny_model: Path, tmp_path: Path) -> None:
    """`index`, `search`, `ask`, `chat` and `batch` import neither torch nor transformers, nor what comes with them, and those
    that read no documents do not import the readers."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "seoul.txt").write_text("Seoul is the capital and largest city of South Korea.")
    (tmp_path / "questions.jsonl").write_text('{"question": "What is the capital of Korea?"}\n')
    asking = [
        ["search", "capital"],
        ["ask", "What is the capital of Korea?"],
        ["chat"],
        ["batch", "questions.jsonl", "-o", "out.jsonl"],
    ]
    env = {**os.environ, "SELFRAG_HOME": str(tmp_path / "home"), "SELFRAG_MODEL": str(tiny_model)}
    for commands, unwanted in (([["index", "documents"]], HEAVY), (asking, (*HEAVY, "selfrag.ingest"))):
        command = [sys.executable, "-c", COMMANDS, json.dumps(commands), json.dumps(unwanted)]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {name: [] for name, *_ in commands}

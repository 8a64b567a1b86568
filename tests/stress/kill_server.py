"""Kills vLLM's server in the middle of `selfrag batch`, starts it again, and counts: is every question answered once?

    python -m tests.stress.kill_server MODEL --server-python .venv-vllm/bin/python --questions 200 --kills 1

MODEL is a reflection checkpoint's folder; ``--server-python`` an interpreter that has vLLM. The batch runs in this interpreter's
environment, over a collection of the example articles, in a SELFRAG_HOME of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from selfrag.engines.vllm.server import Serving, command, environment

CORPUS = Path(__file__).parents[2] / "corpora" / "wikipedia"


class Server:
    """vLLM's server on one port, through several lives."""

    def __init__(self, python: str, model: Path, port: int) -> None:
        self.serving = Serving(str(model), (model.name, str(model)), port=port, max_model_len=2048)
        self.words = command(self.serving, cpu=True, program=(python, "-m", "vllm.entrypoints.openai.api_server"))

    def start(self) -> None:
        environ = environment(cpu=True)
        self.process = subprocess.Popen(
            self.words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def wait(self) -> None:
        while not self.healthy():
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}")
            time.sleep(0.5)

    def healthy(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.serving.url}/health", timeout=5).status == 200
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def questions(path: Path, count: int) -> None:
    rows = [json.loads(line) for line in (CORPUS / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [rows[i % len(rows)] for i in range(count)]
    path.write_text("".join(json.dumps({"id": i, "question": row["question"]}) + "\n" for i, row in enumerate(chosen)))


def finished(out: Path) -> list[dict[str, object]]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--server-python", default=sys.executable)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("-k", type=int, default=2)
    arguments = parser.parse_args()
    server = Server(arguments.server_python, arguments.model.resolve(), arguments.port)
    server.start()
    server.wait()
    with tempfile.TemporaryDirectory() as folder:
        found = run(arguments, server, Path(folder))
    server.kill()
    print(json.dumps(found))
    sys.exit(found["answered_once"] != arguments.questions)


def run(arguments: argparse.Namespace, server: Server, folder: Path) -> dict[str, object]:
    environ = {**os.environ, "SELFRAG_HOME": str(folder / "home")}
    source, out = folder / "questions.jsonl", folder / "answers.jsonl"
    questions(source, arguments.questions)
    selfrag = [sys.executable, "-m", "selfrag"]
    subprocess.run([*selfrag, "index", str(CORPUS / "arts"), "--quiet"], env=environ, check=True, stdout=subprocess.DEVNULL)
    asked = [*selfrag, "batch", str(source), "-o", str(out), "--model", str(arguments.model), "--engine", server.serving.url]
    asked += ["-k", str(arguments.k), "--max-segments", "1", "--concurrency", "16", "--quiet"]
    began = time.monotonic()
    batch = subprocess.Popen(asked, env=environ)
    killed_at = []
    for kill in range(arguments.kills):
        goal = arguments.questions * (kill + 1) // (arguments.kills + 1)
        while len(finished(out)) < goal and batch.poll() is None:
            time.sleep(0.2)
        killed_at.append(len(finished(out)))
        server.kill()
        server.start()
        server.wait()
    status = batch.wait()
    rows = finished(out)
    times = Counter(str(row["id"]) for row in rows if row["status"] != "error")
    return {
        "questions": arguments.questions,
        "killed_after_rows": killed_at,
        "rows": len(rows),
        "answered_once": sum(count == 1 for count in times.values()),
        "failed_rows": sum(row["status"] == "error" for row in rows),
        "exit_status": status,
        "seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    main()

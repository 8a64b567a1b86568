"""Load on `selfrag api` over loopback: many clients at once, the memory of the service, and a kill with a restart in between.

    python -m tests.stress.service_load --tiny --clients 50 --seconds 600 -c wikipedia
    python -m tests.stress.service_load --tiny --clients 50 --seconds 180 --kill -c wikipedia

Every client asks one question after another until the time is up, then the last ones are waited for. A request is lost if it got
neither the answer to its own question nor a refusal with Retry-After, after which it is sent again. With --kill the service is
killed (SIGKILL) half-way and started again on the same port; requests in flight then fail by connection, are counted apart, and
sent again. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from selfrag.models.weights import add_graph
from tests.engines import tiny

EXPORT = Path(__file__).parents[2] / "tools" / "export_llama.py"


@dataclass
class Load:
    """What became of the requests. ``refused`` and ``broken`` ones were sent again, ``lost`` ones were not."""

    url: str
    questions: list[str]
    options: dict[str, Any]
    replies: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


async def client(load: Load, number: int, until: float, web: httpx.AsyncClient) -> None:
    draw = random.Random(number)
    while time.monotonic() < until:
        question = draw.choice(load.questions)
        began = time.monotonic()
        while True:
            try:
                reply = await web.post(f"{load.url}/v1/ask", json={"question": question, "options": load.options})
            except httpx.TransportError as error:
                load.broken[type(error).__name__] += 1
                await asyncio.sleep(1)
                continue
            if reply.status_code not in (429, 503) or "retry-after" not in reply.headers:
                break
            load.refused[str(reply.status_code)] += 1
            await asyncio.sleep(float(reply.headers["retry-after"]))
        load.seconds.append(time.monotonic() - began)
        if reply.status_code == 200 and (document := reply.json())["question"] == question:
            load.replies[document["status"]] += 1
        else:
            load.lost[f"{reply.status_code} {reply.text[:200]}"] += 1


def start(arguments: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "selfrag", "api", "-c", arguments.collection, "--port", str(arguments.port)]
    command += ["--concurrency", str(arguments.concurrency), "--waiting", str(arguments.waiting), *arguments.model]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert service.stderr is not None
    for line in service.stderr:
        print(line, end="", file=sys.stderr)
        if line.startswith("serving"):
            return service
    raise SystemExit("the service did not start")


async def memory(process: psutil.Process, megabytes: list[int]) -> None:
    """Once a second, until the process has ended."""
    with suppress(psutil.NoSuchProcess):
        while process.is_running():
            megabytes.append(process.memory_info().rss >> 20)
            await asyncio.sleep(1)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = Path(arguments.questions).read_text("utf-8").splitlines()  # noqa: ASYNC240 (before anything runs)
    questions = [json.loads(row)["question"] for row in rows][: arguments.most]
    load = Load(f"http://127.0.0.1:{arguments.port}", questions, {"k": 3, "max_segments": 1} if arguments.tiny else {})
    services: list[list[int]] = []

    def watched() -> tuple[subprocess.Popen[str], asyncio.Task[None]]:
        service = start(arguments)
        services.append([])
        return service, loop.create_task(memory(psutil.Process(service.pid), services[-1]))

    loop, began = asyncio.get_running_loop(), time.monotonic()
    service, watching = watched()
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=arguments.clients)) as web:
        asked = [asyncio.create_task(client(load, n, began + arguments.seconds, web)) for n in range(arguments.clients)]
        if arguments.kill:
            await asyncio.sleep(arguments.seconds / 2)
            os.kill(service.pid, signal.SIGKILL)
            service.wait()
            await watching
            service, watching = await asyncio.to_thread(watched)
        await asyncio.gather(*asked)
        counts = (await web.get(f"{load.url}/v1/status")).json()["questions"]
    took = time.monotonic() - began
    service.send_signal(signal.SIGTERM)
    status = await asyncio.to_thread(service.wait, 120)
    watching.cancel()
    ordered = sorted(load.seconds)
    return {
        "clients": arguments.clients,
        "seconds": round(took, 1),
        "killed": arguments.kill,
        "requests": len(ordered),
        "replies": load.replies,
        "lost": load.lost,
        "refused_and_sent_again": load.refused,
        "broken_and_sent_again": load.broken,
        "requests_per_second": round(len(ordered) / took, 2),
        "seconds_p50": round(ordered[len(ordered) // 2], 2),
        "seconds_p95": round(ordered[len(ordered) * 95 // 100], 2),
        "seconds_most": round(ordered[-1], 2),
        "memory_mb": [_flat(each) for each in services],
        "service": counts,
        "exit_status": status,
    }


def _flat(megabytes: list[int]) -> dict[str, int]:
    """The memory of a process at its first request, after a tenth of its time, half-way, at the end, and at most."""
    last = len(megabytes) - 1
    places = {"first": 0, "tenth": last // 10, "half": last // 2, "end": last}
    return {name: megabytes[at] for name, at in places.items()} | {"most": max(megabytes)}


def tiny_model(folder: Path) -> Path:
    """The tests' model with a window that holds five whole passages. What it writes makes no sense, and takes little time."""
    built = tiny.build(folder / "model")
    config = json.loads((built / "config.json").read_text("utf-8"))
    (built / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}), encoding="utf-8")
    graph = folder / "graph"
    subprocess.run([sys.executable, EXPORT, built / "config.json", graph], check=True, stdout=subprocess.DEVNULL)
    add_graph(graph, built)
    return built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("-c", "--collection", default="default")
    parser.add_argument("--questions", default="corpora/wikipedia/questions.jsonl")
    parser.add_argument("--most", type=int, default=50, help="questions of the file that are asked")
    parser.add_argument("--port", type=int, default=8399)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--waiting", type=int, default=64)
    parser.add_argument(
        "--tiny", action="store_true", help="the tests' model, which writes in no time: load on the service alone"
    )
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.model = ["--model", str(tiny_model(Path(folder)))] if arguments.tiny else []
        print(json.dumps(asyncio.run(run(arguments)), indent=1))


if __name__ == "__main__":
    main()

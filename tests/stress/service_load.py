"""Load on `selfrag api` over loopback: many clients at once, the memory of the service, and a kill with a restart in between.

    python -m tests.stress.service_load --clients 50 --seconds 600 --kill -c demo --questions corpora/wikipedia/questions.jsonl

Every client asks one question after another until the time is up, then the last ones are waited for. A request is lost if it got
neither an answer nor an error of the service that says what to do (503 with Retry-After, after which it is sent again). With
--kill the service is killed (SIGKILL) half-way and started again on the same port; requests in flight then fail by connection,
are counted apart, and sent again. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.engines import tiny


@dataclass
class Load:
    """What became of the requests."""

    url: str
    questions: list[str]
    answered: int = 0
    abstained: int = 0
    waited: int = 0  # refused with 503 and sent again
    broken: int = 0  # connection lost, sent again
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


async def client(load: Load, number: int, until: float, web: httpx.AsyncClient) -> None:
    draw = random.Random(number)
    while time.monotonic() < until:
        question = draw.choice(load.questions)
        began = time.monotonic()
        while True:
            try:
                reply = await web.post(f"{load.url}/v1/ask", json={"question": question})
            except httpx.TransportError:
                load.broken += 1
                await asyncio.sleep(1)
                continue
            if reply.status_code == 503:
                load.waited += 1
                await asyncio.sleep(float(reply.headers["retry-after"]))
                continue
            break
        load.seconds.append(time.monotonic() - began)
        status = reply.json().get("status")
        if reply.status_code == 200 and status in ("answered", "abstained"):
            setattr(load, status, getattr(load, status) + 1)
        else:
            load.lost.append(f"{reply.status_code} {reply.text[:200]}")


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


async def memory(process: psutil.Process, megabytes: list[int], every: float) -> None:
    while process.is_running():
        megabytes.append(process.memory_info().rss >> 20)
        await asyncio.sleep(every)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = Path(arguments.questions).read_text("utf-8").splitlines()  # noqa: ASYNC240 (before anything runs)
    questions = [json.loads(row)["question"] for row in rows][: arguments.most]
    service = start(arguments)
    load = Load(f"http://127.0.0.1:{arguments.port}", questions)
    began = time.monotonic()
    megabytes: list[int] = []
    watching = asyncio.create_task(memory(psutil.Process(service.pid), megabytes, 1.0))
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=arguments.clients)) as web:
        asked = [asyncio.create_task(client(load, n, began + arguments.seconds, web)) for n in range(arguments.clients)]
        if arguments.kill:
            await asyncio.sleep(arguments.seconds / 2)
            os.kill(service.pid, signal.SIGKILL)
            service.wait()
            watching.cancel()
            service = await asyncio.to_thread(start, arguments)
            watching = asyncio.create_task(memory(psutil.Process(service.pid), megabytes := [], 1.0))
        await asyncio.gather(*asked)
        counts = (await web.get(f"{load.url}/v1/status")).json()["questions"]
    watching.cancel()
    took = time.monotonic() - began
    service.send_signal(signal.SIGTERM)
    third = max(1, len(megabytes) // 3)
    return {
        "clients": arguments.clients,
        "seconds": round(took, 1),
        "killed": arguments.kill,
        "requests": len(load.seconds),
        "answered": load.answered,
        "abstained": load.abstained,
        "lost": load.lost,
        "refused_and_sent_again": load.waited,
        "broken_and_sent_again": load.broken,
        "requests_per_second": round(len(load.seconds) / took, 2),
        "seconds_median": round(statistics.median(load.seconds), 2),
        "seconds_most": round(max(load.seconds), 2),
        "memory_mb_thirds": [
            round(statistics.mean(megabytes[at : at + third])) for at in (0, third, 2 * third) if megabytes[at:]
        ],
        "memory_mb_most": max(megabytes),
        "service": counts,
        "exit_status": service.wait(timeout=120),
    }


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
        arguments.model = ["--model", str(tiny.build(Path(folder)))] if arguments.tiny else []
        print(json.dumps(asyncio.run(run(arguments)), indent=1))


if __name__ == "__main__":
    main()

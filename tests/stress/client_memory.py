"""Peak memory of the client over a long batch against a server that costs nothing: does it stay flat?

    python -m tests.stress.client_memory MODEL --questions 10000

MODEL is a reflection checkpoint's folder, of which the tokenizer is used. The server is the tests' hand-written one, in a
process of its own; it judges every passage relevant and answers in a few words. Each question has one given passage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from selfrag.agent import Agent
from selfrag.batch.rows import Row
from selfrag.batch.run import Batch, Plan, Tally
from selfrag.engines.http.client import Policy
from selfrag.engines.http.engine import ServerEngine
from selfrag.engines.tokenizer import PromptTokenizer
from selfrag.reflectors.tokens import TokenReflector
from selfrag.types import Passage, SearchOptions
from tests.engines.fake_server import FakeServer

WRITTEN = ("[Relevant]", "The", " answer", " is", " known", ".", "[Fully supported]", "[Utility:5]")
OPTIONS = SearchOptions(k=1, mode="always", beam_width=1, max_segments=1)


class OnePassage:
    name = "one passage"

    async def search(self, query: str, _k: int) -> list[Passage]:
        return [Passage("0", "A title", f"What is known of {query}. " * 10, "notes.md", (1, 2))]


class Nowhere:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self.done: dict[str, str] = {}

    def append(self, row: object) -> None:
        pass


def serve(model: str, tell: Connection) -> None:
    tokenizer = PromptTokenizer.load(model)
    ids = [tokenizer.control.get(word) or tokenizer.text_ids(word)[0] for word in WRITTEN]
    after = dict(pairwise(ids))

    def next_id(prompt: Sequence[int]) -> int:
        return after.get(prompt[-1], ids[0])

    async def run() -> None:
        async with FakeServer(next_id, model=model, window=8192) as server:
            server.requests = Forgetful()
            server.paths = Forgetful()
            tell.send(server.url)
            await asyncio.Event().wait()

    asyncio.run(run())


class Forgetful(list[object]):
    def append(self, item: object) -> None:
        pass


def questions(count: int) -> Iterator[Row]:
    for i in range(count):
        yield Row(i + 1, i, f"What is number {i} best known for?", str(i))


def mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def work(model: str, url: str, count: int, concurrency: int) -> None:
    engine = ServerEngine([url], model, policy=Policy(in_flight=256))
    agent = Agent(TokenReflector(engine), OnePassage(), OPTIONS)
    began = time.monotonic()

    def tell(tally: Tally) -> None:
        if tally.finished and tally.finished % max(1, count // 10) == 0:
            said = {"answered": tally.answered, "failed": tally.failed, "peak_mib": round(mebibytes(), 1)}
            print(json.dumps(said | {"seconds": round(time.monotonic() - began, 1)}), flush=True)

    await Batch(agent.ask, OPTIONS, Nowhere(), Plan(concurrency), tell=tell).run(questions(count))
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    here, there = Pipe()
    server = Process(target=serve, args=(arguments.model, there), daemon=True)
    server.start()
    asyncio.run(work(arguments.model, here.recv(), arguments.questions, arguments.concurrency))
    server.terminate()


if __name__ == "__main__":
    main()

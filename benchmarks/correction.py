"""Measures corrective retrieval: the same questions with and without it, those that the documents do not answer, too.

    python benchmarks/correction.py QUESTIONS -c COLLECTION [--ways off on] [--half 0|1] [--sample N] [--out FILE]
    python benchmarks/correction.py QUESTIONS -c COLLECTION --strips --ways refined:1+2 words:1+2

QUESTIONS is JSONL with question and answers (none: the documents do not answer it), such as corpora/wikipedia/questions.jsonl.
``off`` and ``on`` are `--no-correct` and `--correct`. ``refined:N`` is the last step of CRAG (decompose, filter, recompose): of
each passage the model reads the N sentences most like the question, by the embedder, in their order; ``refined:1+N`` the first
sentence, which says what the others are about, and N more. Ways are chosen on half 0 and reported on half 1. They take turns in
being first, since the engine keeps what it has read. ``words:N`` takes the sentences with the most words of the question instead.

--strips asks no model: of the first five passages that hold an answer, how many still hold it in the sentences that are kept?
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
from numpy.typing import NDArray

from selfrag.agent import Agent, open_agent, open_retriever
from selfrag.algorithm.correction import key_terms
from selfrag.algorithm.sentences import units
from selfrag.config.settings import load
from selfrag.evaluation import intervals
from selfrag.evaluation.tables import markdown_table
from selfrag.index.embedders import EMBEDDED, Embedder, open_embedder
from selfrag.train.passages import holds
from selfrag.types import Corrected, Event, Passage, Retriever


class Refined:
    """A retriever whose passages are cut to the sentences that matter."""

    def __init__(self, inner: Retriever, way: str, embedder: Embedder) -> None:
        found = re.fullmatch(r"(refined|words):(1\+)?(\d+)", way)
        if found is None:
            raise SystemExit(f"{way} is no way")
        self.inner, self.way, self.name = inner, way, inner.name
        self.embedder = embedder if found[1] == "refined" else None
        self.first, self.count = bool(found[2]), int(found[3])

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.inner.warnings

    def describe(self) -> Mapping[str, object]:
        return {**self.inner.describe(), "refined": self.way}

    async def search(self, query: str, k: int) -> list[Passage]:
        return [self.refined(query, passage) for passage in await self.inner.search(query, k)]

    def refined(self, query: str, passage: Passage) -> Passage:
        parts = units(passage.text)
        if len(parts) <= self.count + self.first:
            return passage
        texts = [passage.text[part.start : part.end] for part in parts]
        likeness = self.likeness(query, texts)
        if self.first:
            likeness[0] = np.inf
        kept = sorted(np.argsort(-likeness, kind="stable")[: self.count + self.first])
        return replace(passage, text=" ".join(texts[at] for at in kept))

    def likeness(self, query: str, texts: list[str]) -> NDArray[np.float32]:
        if self.embedder:
            return np.asarray(self.embedder.documents(texts) @ self.embedder.queries([query])[0], np.float32)
        asked = beginnings(" ".join(key_terms(query)))
        return np.array([len(asked & beginnings(text)) for text in texts], np.float32)

    async def close(self) -> None:
        await self.inner.close()


def beginnings(text: str) -> set[str]:
    """The words of a text, without what inflection changes, as far as five letters tell."""
    return {word.casefold()[:5] for word in re.findall(r"\w+", text)}


async def strips(rows: list[dict[str, Any]], collection: str, ways: list[str]) -> list[list[str]]:
    """For each way how many passages with an answer keep it, and the share of words that is kept of all passages."""
    retriever = open_retriever(load(), (collection,))
    embedder = open_embedder(EMBEDDED)
    found = [(row, passage) for row in rows for passage in await retriever.search(row["question"], 5)]
    told = []
    for way in ways:
        refined = Refined(retriever, way, embedder)
        kept = [(row, passage.text, refined.refined(row["question"], passage).text) for row, passage in found]
        holding = [(row, text) for row, whole, text in kept if holds(whole, row["answers"])]
        before = sum(len(whole.split()) for _, whole, _ in kept)
        after = sum(len(text.split()) for _, _, text in kept)
        still = sum(holds(text, row["answers"]) for row, text in holding)
        told.append([way, f"{still} of {len(holding)}", f"{100 * after / before:.0f} %"])
    await retriever.close()
    return told


async def ask(agent: Agent, row: dict[str, Any], correct: bool) -> dict[str, Any]:
    """Status, whether the answer is right, the rounds that it took, tokens read and written, seconds of the processor."""
    events: list[Event] = []
    started = time.process_time()
    answer = await agent.ask(row["question"], replace(agent.options, correct=correct), events.append)
    return {
        "status": answer.status,
        "text": answer.text,
        "right": answer.status == "answered" and bool(row.get("answers")) and holds(answer.text, row["answers"]),
        "rounds": [(event.standing, event.best, event.query) for event in events if isinstance(event, Corrected)],
        "tokens": answer.usage.prompt_tokens - answer.usage.cached_tokens + answer.usage.completion_tokens,
        "seconds": time.process_time() - started,
    }


def way_of(agent: Agent, way: str, embedder: Embedder) -> Agent:
    if way in ("off", "on"):
        return agent
    assert agent.retriever is not None
    return Agent(agent.reflector, Refined(agent.retriever, way, embedder), agent.options)


def lines(rows: list[dict[str, Any]], ways: list[str]) -> list[list[str]]:
    """A line for each way; differences from the first one are paired."""
    told = []
    able = [each for each in rows if each["answers"]]
    unable = [each for each in rows if not each["answers"]]
    right = {way: np.array([float(each[way]["right"]) for each in able]) for way in ways}
    for way in ways:
        ones = np.ones_like(right[way])
        found = intervals.paired(right[ways[0]], ones, right[way], ones)
        value, low, high = (100 * (each or 0.0) for each in (found.value, found.low, found.high))
        told.append(
            [
                way,
                f"{sum(each[way]['status'] == 'answered' for each in able)} of {len(able)}",
                f"{int(right[way].sum())}",
                "" if way == ways[0] else f"{value:+.1f} ({low:+.1f} to {high:+.1f})",
                f"{sum(each[way]['status'] == 'answered' for each in unable)} of {len(unable)}",
                f"{np.mean([each[way]['tokens'] for each in rows]):.0f}",
                f"{np.mean([each[way]['seconds'] for each in rows]):.2f}",
                f"{sum(len(each[way]['rounds']) for each in rows)}",
            ]
        )
    return told


async def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("-c", "--collection", required=True)
    parser.add_argument("--ways", nargs="*", default=["off", "on"])
    parser.add_argument("--half", type=int, choices=(0, 1), help="only the questions with even (0) or odd numbers")
    parser.add_argument("--sample", type=int, help="so many answerable ones at random; the others are all asked")
    parser.add_argument(
        "--strips", action="store_true", help="ask no model; only say what the sentences that are kept still hold"
    )
    parser.add_argument("--out", type=Path, help="keeps what was answered, question by question")
    given = parser.parse_args()
    rows = [json.loads(each) for each in given.questions.read_text("utf-8").splitlines()]
    if given.half is not None:
        rows = rows[given.half :: 2]
    answerable = [row for row in rows if row.get("answers")]
    random.Random(0).shuffle(answerable)
    asked = [row for row in rows if not row.get("answers")] + answerable[: given.sample]
    if given.strips:
        table = await strips(answerable, given.collection, given.ways)
        print(markdown_table(["way", "passages that keep the answer", "words kept"], table))
        return
    found: list[dict[str, Any]] = []
    async with open_agent(given.collection) as agent:
        embedder = open_embedder(EMBEDDED)
        for row in asked:
            order = given.ways[:: -1 if len(found) % 2 else 1]
            answers = {way: await ask(way_of(agent, way, embedder), row, way != "off") for way in order}
            found.append({"question": row["question"], "answers": row.get("answers") or [], **answers})
            if given.out:
                given.out.write_text("".join(json.dumps(each) + "\n" for each in found), "utf-8")
            print(f"{len(found)} of {len(asked)}", flush=True)
    head = [
        "way",
        "answered",
        "right",
        "right, against the first way, points",
        "unanswerable: answered",
        "tokens",
        "CPU s",
        "rounds",
    ]
    print(markdown_table(head, lines(found, given.ways)))


if __name__ == "__main__":
    asyncio.run(main())

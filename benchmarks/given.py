"""Answers from a passage that is given, as SQuAD asks: does the shown quote hold the answer, and is a missing one noticed?

    python benchmarks/given.py DATA [--model MODEL] [--quotes 120] [--spans 150] [--work runs/given] [--out …/given.md]

- quotes: answerable questions of SQuAD 2.0's development part (a random sample) and all of Natural Questions' gold passages in
  dev/sentence_answers, asked as typed, nothing withheld. What is shown is the quote.
- spans: other questions of SQuAD 2.0, answerable and not, with the wording of its task ("Answer in a few words."), under the
  model's thresholds. EM and F1 over the questions that have an answer, over those that have none (1 for abstaining), and all.

Answers are kept below --work; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
from corpus import read_rows

from selfrag import prompts
from selfrag.agent import Agent, open_agent
from selfrag.algorithm.options import ABSTAINS_NEVER
from selfrag.answers.schema import answer_json, shown_answer
from selfrag.config.library_env import silence_libraries
from selfrag.evaluation import curves, metrics
from selfrag.evaluation.tables import markdown_table
from selfrag.types import Passage, SearchOptions

Row = dict[str, Any]


def squad(data: Path) -> list[Row]:
    found = list(read_rows(data / "dev" / "squad2_halfdev.jsonl.gz"))
    random.Random(18).shuffle(found)
    golds = ({**row, "answers": [a["text"] for a in row["answers"]], "passage": row["context"]} for row in found)
    return [{**row, "set": "SQuAD 2.0", "title": row["title"].replace("_", " ")} for row in golds]


def quoted(data: Path, count: int) -> list[Row]:
    natural = [row for row in read_rows(data / "dev" / "sentence_answers.jsonl.gz") if row["set"] == "nq_gold_sentences"]
    answerable = [row for row in squad(data) if not row["unanswerable"]]
    return answerable[:count] + [{**row, "set": "Natural Questions"} for row in natural if row["answers"]]


def read(out: Path) -> dict[str, Row]:
    """The answers that are there, by the ids of their questions."""
    return {row["id"]: row for row in map(json.loads, out.open())} if out.exists() else {}


def append(out: Path, row: Row) -> None:
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")


async def ask_all(agent: Agent, rows: Sequence[Row], out: Path, options: SearchOptions, wording: str | None) -> list[Row]:
    """What was shown and judged for each row."""
    known = read(out)
    waiting = asyncio.Semaphore(4)

    async def one(row: Row) -> None:
        async with waiting:
            passage = Passage(row["id"], row["title"], row["passage"], row["title"])
            instruction = prompts.load(wording).render(question=row["question"]) if wording else None
            asked = Agent(agent.reflector, harness.Given({row["question"]: [passage]}), options)
            answer = answer_json(await asked.ask(row["question"], instruction=instruction))
        kept = {"status": answer["status"], "answer": answer["answer"], "segments": answer["segments"]}
        known[row["id"]] = {"id": row["id"], "shown": shown_answer(answer), **kept}
        append(out, known[row["id"]])
        print(f"\r{out.name} {len(known)}/{len(rows)}  ", end="", file=sys.stderr)

    await asyncio.gather(*(one(row) for row in rows if row["id"] not in known))
    return [known[row["id"]] for row in rows]


def quotes_table(rows: Sequence[Row], answers: Sequence[Row]) -> str:
    lines = []
    for name in [*dict.fromkeys(row["set"] for row in rows), "both"]:
        pairs = [(row, a) for row, a in zip(rows, answers, strict=True) if name in (row["set"], "both")]
        written = np.array([metrics.accuracy(a["answer"], row["answers"]) for row, a in pairs])
        shown = np.array([metrics.accuracy(a["shown"], row["answers"]) for row, a in pairs])
        use = np.array([(a["segments"][-1]["critique"]["isuse"] + 1) / 2 if a["segments"] else 0.0 for _, a in pairs])
        error, area = curves.ece(use, written), curves.auroc(use, written)
        lines.append(
            [name, str(len(pairs)), *(f"{value:.3f}" for value in (shown.mean(), written.mean(), error or 0, area or 0))]
        )
    return markdown_table(["set", "questions", "quote holds the answer", "own words hold it", "ISUSE ECE", "ISUSE AUROC"], lines)


def spans_table(rows: Sequence[Row], answers: Sequence[Row]) -> str:
    em, f1 = np.array(list(scored(rows, answers))).T
    empty = np.array([row["unanswerable"] for row in rows])
    lines = []
    for name, here in (("HasAns", ~empty), ("NoAns", empty), ("all", np.ones_like(empty))):
        lines.append([name, str(here.sum()), f"{100 * em[here].mean():.1f}", f"{100 * f1[here].mean():.1f}"])
    return markdown_table(["SQuAD 2.0", "questions", "EM", "F1"], lines)


def scored(rows: Sequence[Row], answers: Sequence[Row]) -> Iterator[tuple[float, float]]:
    for row, answer in zip(rows, answers, strict=True):
        said = answer["answer"] if answer["status"] == "answered" else ""
        if row["unanswerable"]:
            yield float(not said), float(not said)
        else:
            yield metrics.exact_match(said, row["answers"]), metrics.token_f1(said, row["answers"])


async def main(given: argparse.Namespace) -> None:
    given.work.mkdir(parents=True, exist_ok=True)
    async with open_agent(mode="never", model=given.model) as agent:
        always = replace(agent.options, mode="always", join_isuse=1.0)
        free = replace(always, **ABSTAINS_NEVER)
        asked = quoted(given.data, given.quotes)
        quotes = quotes_table(asked, await ask_all(agent, asked, given.work / "quotes.jsonl", free, None))
        asked = squad(given.data)[-given.spans :]
        spans = spans_table(asked, await ask_all(agent, asked, given.work / "spans.jsonl", always, "tasks/squad"))
        head = harness.provenance(agent.reflector.engine.model)
    harness.write(given.out, "The passage given", (__doc__ or "").partition("\n\n")[0], quotes, spans, head=head)


if __name__ == "__main__":
    parser = harness.parser(__doc__, "given.md")
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--quotes", type=int, default=120)
    parser.add_argument("--spans", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs/given"))
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

"""Distracting passages (The Power of Noise): what do related and random ones do to answers with reflection, and without?

    python benchmarks/distractors.py corpora/wikipedia/questions.jsonl -c COLLECTION [--sample 60] [-k 3] [--counts 2 4]
        [--work runs/distractors] [--out benchmarks/results/distractors.md]

The same model answers each question in three ways, from k passages alone, and with each of `counts` related or random ones more:
with reflection (short form, the model's thresholds and weights); from the first passage, without judgements; and from one prompt
that holds all passages, in the order of the search, without judgements. The first passage is never a distractor, so that row is
the control. Requests that are equal are computed once. Each run keeps its rows under --work; the same command goes on.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import harness
import numpy as np
from ablation import Remembered, answer, rows
from baselines import attempted

from selfrag.agent import Agent, open_agent
from selfrag.batch.questions import open_questions
from selfrag.config.library_env import silence_libraries
from selfrag.evaluation import intervals
from selfrag.evaluation.distractors import Distracted, Distractors, golds_of
from selfrag.evaluation.report import evaluate, outcomes_of, read_run
from selfrag.evaluation.tables import limits, markdown_table, number
from selfrag.types import Passage, Retriever


class Joined:
    """A retriever that gives all passages of ``inner`` as one."""

    def __init__(self, inner: Retriever) -> None:
        self.inner, self.name = inner, inner.name

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.inner.warnings

    def describe(self) -> dict[str, object]:
        return {**self.inner.describe(), "joined": True}

    async def search(self, query: str, k: int) -> list[Passage]:
        found = await self.inner.search(query, k)
        if not found:
            return []
        text = "\n\n".join(f"{each.title}\n{each.text}" if each.title else each.text for each in found)
        return [replace(found[0], title="", text=text)]

    async def close(self) -> None:
        await self.inner.close()


async def main() -> None:
    parser = harness.parser(__doc__, "distractors.md")
    parser.add_argument("questions")
    parser.add_argument("-c", "--collection", required=True)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("-k", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--work", type=Path, default=Path("runs/distractors"))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    questions = open_questions(given.questions, count=given.sample, seed=0)
    kinds: dict[str, Distractors | None] = {"none": None}
    kinds |= {f"{kind}, {count}": Distractors.of(f"{kind}:{count}") for count in given.counts for kind in ("related", "random")}
    lines = []
    right: dict[tuple[str, str], list[float]] = {}
    async with open_agent(given.collection, k=given.k) as agent:
        engine = Remembered(agent.reflector.engine)
        reflector = replace(agent.reflector, engine=engine)  # type: ignore[type-var]
        known = rows(agent.options)
        ways = {"reflection": known["full"][1], "first passage": known["plain"][1], "all passages": known["plain"][1]}
        for way, options in ways.items():
            for kind, distractors in kinds.items():
                if way == "first passage" and distractors:
                    continue
                retriever: Retriever = agent.retriever  # type: ignore[assignment]
                if distractors:
                    retriever = Distracted(agent.retriever, distractors, golds_of(questions.rows()))  # type: ignore[arg-type]
                if way == "all passages":
                    retriever, options = Joined(retriever), replace(options, k=given.k)
                out = given.work / f"{way} {kind}.jsonl".replace(",", "").replace(" ", "-")
                seconds = await answer(Agent(reflector, retriever, options), options, questions, out, 1)
                print(f"{way}, {kind}: {seconds:.0f} s", file=sys.stderr, flush=True)
                found = read_run(out)
                report = evaluate(outcomes_of(found))
                able = [row for row in found if row.get("answers")]
                right[way, kind] = [float(row["status"] == "answered" and attempted(row).right) for row in able]
                refused = sum(row["status"] != "answered" for row in found if not row.get("answers"))
                values = np.array(right[way, kind])
                share = intervals.ratios(values[:, None], np.ones((len(values), 1)))[0]
                shown = report["accuracy"]
                lines.append(
                    [
                        way,
                        kind,
                        f"{number(share.value)} {limits(share)}",
                        f"{number(shown.value)} {limits(shown)}",
                        f"{sum(row['status'] == 'answered' for row in able)} of {len(able)}",
                        f"{refused} of {len(found) - len(able)}",
                    ]
                )
    head = ["way", "distractors", "right, of all answerable", "right, of those answered", "answered", "unanswerable: abstained"]
    paired = [
        f"- {way}, {kind} against none: {told(right[way, kind], right[way, 'none'])}" for way, kind in right if kind != "none"
    ]
    note = (
        "Right: the shown text holds a gold answer. 95 % percentile bootstrap intervals over questions; differences are paired."
    )
    harness.write(given.out, "Distractors", markdown_table(head, lines), note, "\n".join(paired))


def told(ours: list[float], theirs: list[float]) -> str:
    """The difference of two shares over the same questions, with its interval."""
    ones = np.ones(len(ours))
    found = intervals.paired(np.array(theirs), ones, np.array(ours), ones)
    return f"{found.value or 0.0:+.3f} ({found.low or 0.0:+.3f} to {found.high or 0.0:+.3f})"


if __name__ == "__main__":
    silence_libraries()
    asyncio.run(main())

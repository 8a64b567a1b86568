"""What exact pruning saves: the same questions with pruning and without it, which must give the same answers.

    python benchmarks/pruning.py corpora/wikipedia/questions.jsonl -c demo [--limit 50] [--model M] [--out FILE]

The collection must be indexed. Each question is asked twice with the defaults of `selfrag ask` (beam 2, up to 4 segments), alone
in the engine; which of the two goes first alternates. An answer is the same when its status, words and citations are equal and
its scores differ by less than 1e-4: batches of another make-up round differently in the last digits.
"""

from __future__ import annotations

import asyncio
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import harness

from selfrag.agent import Agent, open_agent
from selfrag.batch.questions import open_questions
from selfrag.config.library_env import silence_libraries
from selfrag.engines.local.engine import LocalEngine
from selfrag.types import Answer


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's two answers with their wall and CPU seconds: pruned, unpruned."""

    question: str
    answers: tuple[Answer, Answer]
    seconds: tuple[float, float]
    cpu: tuple[float, float]

    @property
    def same(self) -> bool:
        a, b = self.answers
        scores = zip((s.score for s in a.segments), (s.score for s in b.segments), strict=False)
        return outcome(a) == outcome(b) and all(abs(x - y) < 1e-4 for x, y in scores)


def outcome(answer: Answer) -> tuple[object, ...]:
    return answer.status, answer.text, tuple((s.segment.text, s.citation) for s in answer.segments)


async def ask(agent: Agent, question: str, prune: bool) -> tuple[Answer, float, float]:
    engine = agent.reflector.engine
    if isinstance(engine, LocalEngine):
        engine._scheduler.cache.clear()  # the second of the two would find every passage read
    began, cpu = time.perf_counter(), time.process_time()
    answer = await agent.ask(question, replace(agent.options, prune=prune))
    return answer, time.perf_counter() - began, time.process_time() - cpu


async def measure(questions: list[str], collection: str, model: str) -> list[Asked]:
    asked = []
    async with open_agent(collection, model=model) as agent:
        await ask(agent, questions[0], prune=True)  # what is loaded lazily is loaded now
        for index, question in enumerate(questions):
            found = {prune: await ask(agent, question, prune) for prune in ((True, False) if index % 2 else (False, True))}
            (first, wall, cpu), (second, other_wall, other_cpu) = found[True], found[False]
            asked.append(Asked(question, (first, second), (wall, other_wall), (cpu, other_cpu)))
            print(f"{index + 1}/{len(questions)} {'same' if asked[-1].same else 'DIFFERENT'} {question}", file=sys.stderr)
    return asked


def report(asked: list[Asked], command: str, model: str) -> str:
    """Markdown: totals of both runs and their ratio."""
    commit = harness.COMMIT
    figures: dict[str, Callable[[Asked, int], float]] = {
        "tokens written": lambda a, i: a.answers[i].usage.completion_tokens,
        "prompt tokens computed": lambda a, i: a.answers[i].usage.prompt_tokens - a.answers[i].usage.cached_tokens,
        "candidates written to the end": lambda a, i: a.answers[i].expanded,
        "candidates given up": lambda a, i: a.answers[i].pruned,
        "seconds": lambda a, i: a.seconds[i],
        "CPU seconds": lambda a, i: a.cpu[i],
    }
    lines = ["| | pruned | unpruned | ratio |", "|---|---:|---:|---:|"]
    for name, read in figures.items():
        with_it, without = (sum(read(a, i) for a in asked) for i in (0, 1))
        lines.append(f"| {name} | {with_it:,.0f} | {without:,.0f} | {with_it / without:.2f} |" if without else
                     f"| {name} | {with_it:,.0f} | {without:,.0f} | |")  # fmt: skip
    same = sum(a.same for a in asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    different = "".join(f"\n- {a.question}" for a in asked if not a.same)
    return (
        "# Exact pruning\n\n"
        f"`{command}`, commit {commit}, {platform.machine()}, two CPU cores, {len(asked)} questions, {model}.\n\n"
        f"Same answer, citations and scores: {same} of {len(asked)}.{different}\n\n"
        + "\n".join(lines)
        + f"\n\nPeak memory of the process: {peak:,.0f} MiB.\n"
    )


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("-c", "--collection", default="demo")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--model")
    parser.add_argument("--name", default="smollm2-135m-selfrag", help="what the report calls the model")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    silence_libraries()
    questions = [row.question for row in open_questions(str(given.questions), limit=given.limit).rows()]
    asked = asyncio.run(measure(questions, given.collection, given.model))
    command = f"python benchmarks/pruning.py {given.questions} -c {given.collection} --limit {given.limit}"
    text = report(asked, command, given.name)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

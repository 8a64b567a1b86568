"""What each part of Self-RAG is worth: the same questions with one part changed at a time, as in table 3 of the paper.

    python benchmarks/ablation.py corpora/wikipedia/questions.jsonl -c wikipedia --model MODEL [--thresholds-of NAME]
        [--sample 60] [--rows full,plain,none] [--work runs/ablation] [--out benchmarks/results/ablation.md]

The collection must be indexed. The model is loaded once; each row keeps its answers under --work and goes on where it stopped.
Every row is short form (one segment) but those with a beam. `plain` is plain RAG with the same model: always the first passage,
always written from (the smallest relevance above 0 is enough), no scores and no abstention. Rows share what the model has
written: times and counts of tokens are therefore not told here but by benchmarks/evaluation.py.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness

from selfrag.agent import OPTION_OF, Agent, open_agent
from selfrag.algorithm.options import ABSTAINS_NEVER
from selfrag.batch.questions import Questions, open_questions
from selfrag.batch.resume import answer_all, open_sink
from selfrag.batch.run import Plan
from selfrag.config.library_env import silence_libraries
from selfrag.config.settings import DEFAULT_MODEL, find_paths
from selfrag.evaluation.compare import Comparison, compare
from selfrag.evaluation.outcome import Outcome
from selfrag.evaluation.report import Report, evaluate, outcomes_of, read_run
from selfrag.evaluation.tables import limits, markdown_table, number
from selfrag.models import resolve
from selfrag.models.build import sha256
from selfrag.models.registry import entries
from selfrag.types import Completion, Engine, OnToken, Request, SearchOptions, Weights

COLUMNS = (
    "accuracy",
    "em",
    "f1",
    "contains",
    "answer_rate",
    "abstention_f1",
    "retrieval_rate",
    "recall@5",
    "citation_precision_gold",
)


def rows(base: SearchOptions) -> dict[str, tuple[str, SearchOptions]]:
    """Each row's label, with the flags that make it, and its options."""
    short = replace(base, max_segments=1)
    weights, nothing = base.weights, Weights(0.0, 0.0, 0.0, True)
    answered = replace(short, **{**ABSTAINS_NEVER, "abstain_isrel": 1e-9})
    unjudged = replace(answered, reconsider_isuse=-1.0)
    plain = replace(unjudged, mode="always", k=1, weights=nothing)
    found = {
        "full": ("full, short form: `--max-segments 1`", short),
        "none": ("no retrieval: `--mode never`", replace(short, mode="never")),
        "plain": ("plain RAG: `--mode always -k 1`, no abstention, no second look", plain),
        "always": ("always retrieve: `--mode always`", replace(short, mode="always")),
        "top1": ("top-1 passage: `-k 1`", replace(short, k=1)),
        "no-issup": ("without ISSUP: `--w-sup 0`", replace(short, weights=replace(weights, sup=0.0))),
        "no-isrel": ("without ISREL: `--w-rel 0`", replace(short, weights=replace(weights, rel=0.0))),
        "no-sequence": ("without the sequence term: `--no-sequence`", replace(short, weights=replace(weights, sequence=False))),
        "hard": ("hard constraint: `--require-support full`", replace(short, require_support="full")),
        "answer-all": (
            "no abstention: `--abstain-isrel 1e-9 --abstain-issup 0 --abstain-isuse -1 --abstain-confidence 0`",
            answered,
        ),
    }
    for threshold in (0.1, 0.5, 0.9):
        found[f"threshold-{threshold}"] = (f"`--threshold {threshold}`", replace(short, threshold=threshold))
    for width in (1, 2, 4):
        label = f"long form: `--max-segments 3 --beam-width {width}`"
        found[f"beam-{width}"] = (label, replace(base, max_segments=3, beam_width=width))
    return found


class Remembered:
    """An engine that computes no request twice: decoding is greedy, so that an answer to the same prompt is the same."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.model, self.exact = engine.name, engine.model, engine.exact
        self.known: dict[str, Completion] = {}

    async def complete(self, request: Request, on_token: OnToken | None = None) -> Completion:
        key = repr(request)
        if (done := self.known.get(key)) is None:
            done = await self.engine.complete(request, on_token)
            if done.finish != "cancelled":
                self.known[key] = done
            return done
        for count, token in enumerate(done.tokens, 1):
            if on_token and not on_token(token):
                return replace(done, tokens=done.tokens[:count], finish="cancelled")
        return done

    async def close(self) -> None:
        await self.engine.close()


def set_up(agent: Agent, options: SearchOptions) -> Agent:
    """The agent that `selfrag ask` would open with these options: what is relevant enough for an answer is written from."""
    return Agent(replace(agent.reflector, relevant_above=options.abstain_isrel), agent.retriever, options)  # type: ignore[type-var]


async def answer(agent: Agent, options: SearchOptions, questions: Questions, out: Path, concurrency: int) -> float:
    """Runs one row, or the rest of it; returns the seconds that it took now."""
    begun, asked = time.monotonic(), set_up(agent, options)
    with open_sink(out, asked, options, questions, "refuse") as sink:
        tally = await answer_all(asked, options, questions, sink, Plan(concurrency, keep_passages=True))
    if tally.stopped:
        raise SystemExit("interrupted; the same command goes on")
    return time.monotonic() - begun


def model_flags(given: argparse.Namespace) -> dict[str, Any]:
    """The model, and the registry's thresholds of another name for a folder that has none of its own."""
    fitted = entries()[given.thresholds_of].thresholds if given.thresholds_of else {}
    return {"model": given.model, **{OPTION_OF[name]: value for name, value in fitted.items()}}


def outcomes(out: Path) -> list[Outcome]:
    return outcomes_of(read_run(out))


async def main(given: argparse.Namespace) -> None:
    questions = open_questions(given.questions, count=given.sample, seed=given.seed)
    given.work.mkdir(parents=True, exist_ok=True)
    async with open_agent(given.collection, **model_flags(given)) as agent:
        agent.reflector = replace(agent.reflector, engine=Remembered(agent.reflector.engine))  # type: ignore[type-var]
        table = rows(agent.options)
        chosen = given.rows.split(",") if given.rows else list(table)
        for name in chosen:
            seconds = await answer(agent, table[name][1], questions, given.work / f"{name}.jsonl", given.concurrency)
            print(f"{name}: {seconds:.0f} s", file=sys.stderr)
            write(given, {each: table[each][0] for each in chosen[: chosen.index(name) + 1]}, agent.options)


def write(given: argparse.Namespace, labels: Mapping[str, str], options: SearchOptions) -> None:
    found = {name: outcomes(given.work / f"{name}.jsonl") for name in labels}
    reports = {name: evaluate(each) for name, each in found.items()}
    first = next(iter(labels))
    drawn = f" --sample {given.sample} --seed {given.seed}" if given.sample else ""
    command = f"python benchmarks/ablation.py {Path(given.questions).name} -c {given.collection}{drawn}"
    told = circumstances(command, given, {Path(given.questions): reports[first].questions}, thresholds(options))
    blocks = [
        "# Ablations",
        told,
        markdown_table(["run", *COLUMNS], [cells(label, reports[name]) for name, label in labels.items()]),
        "95 % intervals in brackets: percentile bootstrap over questions, 1,000 draws. –: nothing to measure.",
    ]
    if len(labels) > 1:
        head = ["run", "accuracy, difference", "95 % interval", "McNemar p", "now right / now wrong"]
        lines = [paired(labels[name], compare(found[first], found[name])) for name in labels if name != first]
        blocks += [f"Against `{first}`, question by question:", markdown_table(head, lines)]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def paired(label: str, found: Comparison) -> list[str]:
    accuracy = next(d for d in found.differences if d.name == "accuracy")
    better = sum(change.stages[1] == "right" for change in found.changes)
    p = "–" if accuracy.p is None else f"{accuracy.p:.3f}"
    difference = "–" if accuracy.difference.value is None else f"{accuracy.difference.value:+.3f}"
    return [label, difference, limits(accuracy.difference), p, f"{better} / {len(found.changes) - better}"]


def cells(label: str, report: Report) -> list[str]:
    found = [report[name] for name in COLUMNS]
    return [label, *(f"{number(i.value)} ({limits(i)})" if i.value is not None else "–" for i in found)]


# --- under which circumstances -------------------------------------------------------------------------------------------------


def thresholds(options: SearchOptions) -> str:
    abstain = f"ISREL {options.abstain_isrel:g}, ISSUP {options.abstain_issup:g}, ISUSE {options.abstain_isuse:g}"
    return f"retrieve {options.threshold:g}, abstain below {abstain}"


def circumstances(command: str, given: argparse.Namespace, asked: Mapping[Path, int], *more: str) -> str:
    """Command, commit, machine, data and model as a list; the model by the name of its folder and the digest of its weights.

    ``asked``: how many questions of which files.
    """
    lines = [
        f"command: `{command} --model MODEL`, commit {harness.COMMIT}",
        f"machine: {os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}, no GPU",
        *(f"data: {file.name} (sha256 {sha256(file)[:12]}…), {count} questions" for file, count in asked.items()),
        f"model: {checkpoint(given.model)}",
        *more,
    ]
    return "\n".join(f"- {line}" for line in lines)


def checkpoint(model: str | None) -> str:
    """Which checkpoint: its name, and the digest of its weights."""
    found = resolve(model or DEFAULT_MODEL, find_paths().cache)
    file = Path(found.path) / "model.safetensors"
    return found.name + (f" (weights sha256 {sha256(file)[:12]}…)" if file.is_file() else "")


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("questions")
    parser.add_argument("-c", "--collection", default="default")
    parser.add_argument("--model")
    parser.add_argument("--thresholds-of", metavar="NAME", help="the registry's thresholds of NAME, where MODEL is a folder")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", help="names of rows, separated by commas; the first is what the others are compared with")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation.md"))
    parser.add_argument("--concurrency", type=int, default=8)
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

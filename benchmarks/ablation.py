"""What each part of Self-RAG is worth: the same questions with one part changed at a time, as in table 3 of the paper.

    python benchmarks/ablation.py corpora/wikipedia/questions.jsonl -c wikipedia [--sample 60] [--rows full,plain,none]
        [--model M] [--work runs/ablation] [--out benchmarks/results/ablation.md]

The collection must be indexed. The model is loaded once; each row keeps its answers under --work and goes on where it stopped.
Every row is short form (one segment) but those with a beam. `plain` is plain RAG with the same model: always the first passage,
no scores and no abstention.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from selfrag.batch.questions import Questions, open_questions
from selfrag.cli.options import AgentFlags, open_agent
from selfrag.cli.running import RunFlags, opened, run
from selfrag.evaluation.compare import compare
from selfrag.evaluation.report import Report, evaluate, outcomes_of, read_run, run_of
from selfrag.evaluation.tables import limits, markdown_table, number
from selfrag.search import Agent
from selfrag.telemetry import silence_libraries
from selfrag.types import SearchOptions, Weights

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
    willing = replace(short, abstain_isrel=0.0, abstain_issup=0.0)
    found = {
        "full": ("full, short form: `--max-segments 1`", short),
        "none": ("no retrieval: `--mode never`", replace(short, mode="never")),
        "plain": ("plain RAG: `--mode always -k 1`, no abstention", replace(willing, mode="always", k=1, weights=nothing)),
        "always": ("always retrieve: `--mode always`", replace(short, mode="always")),
        "top1": ("top-1 passage: `-k 1`", replace(short, k=1)),
        "no-issup": ("without ISSUP: `--w-sup 0`", replace(short, weights=replace(weights, sup=0.0))),
        "no-isrel": ("without ISREL: `--w-rel 0`", replace(short, weights=replace(weights, rel=0.0))),
        "no-sequence": ("without the sequence term: `--no-sequence`", replace(short, weights=replace(weights, sequence=False))),
        "hard": ("hard constraint: `--require-support full`", replace(short, require_support="full")),
        "answer-all": ("no abstention: `--abstain-isrel 0 --abstain-issup 0`", willing),
    }
    for threshold in (0.1, 0.5, 0.9):
        found[f"threshold-{threshold}"] = (f"`--threshold {threshold}`", replace(short, threshold=threshold))
    for width in (1, 2, 4):
        label = f"long form: `--max-segments 3 --beam-width {width}`"
        found[f"beam-{width}"] = (label, replace(base, max_segments=3, beam_width=width))
    return found


async def answer(agent: Agent, options: SearchOptions, questions: Questions, out: Path) -> float:
    """Runs one row, or the rest of it; returns the seconds that it took now."""
    begun, flags = time.monotonic(), RunFlags(concurrency=2)
    with opened(out, agent, options, flags, questions) as sink:
        tally = await run(agent, options, questions, sink, flags.plan(keep_passages=True), False, out.stem)
    if tally.stopped:
        raise SystemExit("interrupted; the same command goes on")
    return time.monotonic() - begun


async def main(given: argparse.Namespace) -> None:
    questions = open_questions(given.questions, count=given.sample, seed=given.seed)
    given.work.mkdir(parents=True, exist_ok=True)
    flags = AgentFlags(collection=[given.collection], model=given.model)
    async with open_agent(flags) as agent:
        table = rows(agent.options)
        chosen = given.rows.split(",") if given.rows else list(table)
        for name in chosen:
            seconds = await answer(agent, table[name][1], questions, given.work / f"{name}.jsonl")
            print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    write(given, {name: table[name][0] for name in chosen})


def write(given: argparse.Namespace, labels: dict[str, str]) -> None:
    runs = {name: read_run(given.work / f"{name}.jsonl") for name in labels}
    outcomes = {name: outcomes_of(found) for name, found in runs.items()}
    reports = {name: evaluate(found, run_of(runs[name])) for name, found in outcomes.items()}
    first = next(iter(labels))
    lines = [f"# {given.title}", "", *circumstances(given, reports[first]), ""]
    lines += [
        markdown_table(["run", *COLUMNS, "tokens p50"], [cells(label, reports[name]) for name, label in labels.items()]),
        "",
    ]
    lines += ["Intervals at 95 %, percentile bootstrap over questions, 1,000 draws. – : nothing to measure.", ""]
    if len(labels) > 1:
        lines += [f"Against `{first}`, question by question:", ""]
        found = {name: compare(outcomes[first], outcomes[name]) for name in labels if name != first}
        told = []
        for name, comparison in found.items():
            by_name = {d.name: d for d in comparison.differences}
            acc = by_name["accuracy"]
            better = sum(c.stages[1] == "right" for c in comparison.changes)
            change = f"{better} / {len(comparison.changes) - better}"
            told.append([labels[name], f"{acc.difference.value:+.3f}", limits(acc.difference), f"{acc.p:.3f}", change])
        lines += [
            markdown_table(["run", "accuracy, difference", "95 % interval", "McNemar p", "now right / now wrong"], told),
            "",
        ]
    if given.note:
        lines += [given.note, ""]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines), encoding="utf-8")


def cells(label: str, report: Report) -> list[str]:
    found = [report[name] for name in COLUMNS]
    shown = [f"{number(i.value)} ({limits(i)})" if i.value is not None else "–" for i in found]
    return [label, *shown, number(report["generated_p50"].value)]


def circumstances(given: argparse.Namespace, report: Report) -> list[str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    arguments = " ".join(a if not a.startswith("/") else Path(a).name for a in sys.argv[1:])
    data = hashlib.sha256(Path(given.questions).read_bytes()).hexdigest()[:12]
    drawn = f", a sample of {given.sample} with seed {given.seed}" if given.sample else ""
    return [
        f"- command: `python benchmarks/ablation.py {arguments}`, commit {commit}",
        f"- machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, shared with other work",
        f"- data: {Path(given.questions).name} (sha256 {data}…), {report.questions} questions{drawn}",
        f"- collection: {given.collection}",
        f"- model: {Path(str(report.run.get('model'))).name}, engine {report.run.get('engine')}",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions")
    parser.add_argument("-c", "--collection", default="default")
    parser.add_argument("--model")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", help="names of rows, separated by commas; the first is what the others are compared with")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablation.md"))
    parser.add_argument("--title", default="Ablation")
    parser.add_argument("--note", default="")
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

"""Which weights of a score choose best among the passages of a question: fitted on one half of the questions, told on the other.

    python benchmarks/weights.py DATA [--model MODEL] [--thresholds-of NAME] [--limit N] [--work runs/evaluation]
        [--out benchmarks/results/weights.md]

Questions and documents are those of benchmarks/evaluation.py (squad, nq), where they are indexed. Every question is asked once in
short form, evidence always, nothing pruned, an answer written from each of five passages; what the model and the search say of
each candidate is kept in --work, and choosing again under other weights costs nothing. Halves: every other question of nq; of
squad, every other article.

The wanted answer is right, or withheld where there is none: each counts 1. An answer is withheld where the chosen candidate lies
below the thresholds of the model; those are not fitted here.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation import circumstances, model_flags, thresholds
from corpus import read_rows
from evaluation import TABLES, Table, indexed
from numpy.typing import NDArray

from selfrag.batch.questions import open_questions
from selfrag.cli.options import AgentFlags, open_agent
from selfrag.evaluation import metrics
from selfrag.evaluation.tables import markdown_table
from selfrag.search import Agent
from selfrag.telemetry import silence_libraries
from selfrag.types import Event, Expanded, SearchOptions

ALWAYS = 1e-9
GRID = {
    "rel": (0.0, 0.25, 0.5, 1.0, 2.0),
    "sup": (0.0, 0.25, 0.5, 1.0, 2.0),
    "use": (0.0, 0.25, 0.5, 1.0),
    "ret": (0.0, 0.25, 0.5, 1.0, 2.0, 4.0),
}
PAPER, FIRST = (1.0, 1.0, 0.5, 0.0), (0.0, 0.0, 0.0, 1e6)
TERMS = ("isrel", "issup", "isuse", "retrieval", "sequence")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's candidates in order of retrieval. ``terms``: (k, 5) in the order of TERMS; ``right``: (k,)."""

    terms: NDArray[Any]
    right: NDArray[Any]
    answerable: bool
    fitting: bool


# --- asking --------------------------------------------------------------------------------------------------------------------


def known(out: Path) -> set[Any]:
    return {json.loads(line)["id"] for line in out.open()} if out.exists() else set()


async def ask_all(agent: Agent, table: Table, out: Path, limit: int | None, at_once: int) -> None:
    """Writes a line a question to ``out``; those that are there are not asked again."""
    done = known(out)
    waiting = asyncio.Semaphore(at_once)
    options = replace(agent.options, mode="always", max_segments=1, prune=False, abstain_isrel=0.0, abstain_issup=0.0)

    async def one(row: Any) -> None:
        async with waiting:
            events: list[Event] = []
            await agent.ask(row.question, options, events.append)
        record = {"id": row.id, **row.extra, "candidates": [candidate(e) for e in events if isinstance(e, Expanded)]}
        append(out, record)
        print(f"\r{table.name} {row.id}   ", end="", file=sys.stderr)

    rows = [row for row in open_questions(str(table.questions), limit=limit).rows() if row.id not in done]
    await asyncio.gather(*(one(row) for row in rows))


def append(out: Path, record: dict[str, Any]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def candidate(event: Expanded) -> dict[str, Any]:
    critique = event.segment.critique
    return {"id": event.candidate, "text": event.segment.text, **{name: getattr(critique, name) for name in TERMS}}


def read(out: Path, articles: dict[str, int]) -> Iterator[Asked]:
    for number, line in enumerate(sorted(out.open())):
        row = json.loads(line)
        golds = tuple(a["text"] if isinstance(a, dict) else a for a in row.get("answers") or ())
        found = sorted(row["candidates"], key=lambda c: c["id"])
        if found:
            right = np.array([metrics.accuracy(c["text"], golds) if golds else 0.0 for c in found])
            half = articles.get(row.get("context", ""), number)
            yield Asked(np.array([[c[name] for name in TERMS] for c in found]), right, bool(golds), half % 2 == 0)


# --- choosing ------------------------------------------------------------------------------------------------------------------


def outcomes(asked: Sequence[Asked], weights: Sequence[float], options: SearchOptions) -> NDArray[Any]:
    """1 for each question whose answer is right, or rightly withheld."""
    return np.array([outcome(each, np.array([*weights, 1.0]), options) for each in asked])


def outcome(asked: Asked, weights: NDArray[Any], options: SearchOptions) -> float:
    relevant = asked.terms[:, 0] >= options.abstain_isrel
    if not relevant.any():
        return float(not asked.answerable)
    scores = np.where(relevant, asked.terms @ weights, -np.inf)
    chosen = int(scores.argmax())
    if asked.terms[chosen, 1] < options.abstain_issup:
        return float(not asked.answerable)
    return float(asked.right[chosen])


def fit(groups: Sequence[Sequence[Asked]], options: SearchOptions) -> tuple[float, ...]:
    """The weights with the best mean over the groups; of equals, those nearest to the paper's."""

    def key(weights: tuple[float, ...]) -> tuple[float, float]:
        value = float(np.mean([outcomes(group, weights, options).mean() for group in groups]))
        return round(value, 6), -sum(abs(a - b) for a, b in zip(weights, PAPER, strict=True))

    return max(itertools.product(*GRID.values()), key=key)


def line(name: str, weights: Sequence[float], groups: Sequence[Sequence[Asked]], options: SearchOptions) -> list[str]:
    cells = []
    for group in groups:
        mine, paper = outcomes(group, weights, options), outcomes(group, PAPER, options)
        draws = np.random.default_rng(0).integers(0, len(group), (2000, len(group)))
        low, high = np.quantile((mine - paper)[draws].mean(axis=1), [0.025, 0.975])
        cells += [f"{mine.mean():.3f}", f"{mine.mean() - paper.mean():+.3f} ({low:+.3f} – {high:+.3f})"]
    return [name, *cells]


def told(weights: Sequence[float]) -> str:
    return " ".join(f"{name} {value:g}" for name, value in zip(GRID, weights, strict=True))


async def main(given: argparse.Namespace) -> None:
    given.work.mkdir(parents=True, exist_ok=True)
    contexts = {row["context"]: row["title"] for row in read_rows(given.data / "dev" / "squad2_halfdev.jsonl.gz")}
    titles = sorted(set(contexts.values()))
    articles = {context: titles.index(title) for context, title in contexts.items()}
    groups, options, tables = [], SearchOptions(), []
    for name in ("squad", "nq"):
        table = TABLES[name](given.data, given.work)
        indexed(table)
        out = given.work / f"{name}.candidates.jsonl"
        async with open_agent(AgentFlags(collection=[name], **model_flags(given))) as agent:
            options = agent.options
            agent.reflector = replace(agent.reflector, relevant_above=ALWAYS)  # type: ignore[type-var]
            await ask_all(agent, table, out, given.limit, given.concurrency)
        groups.append(list(read(out, articles)))
        tables.append(table)
    fitted = fit([[a for a in group if a.fitting] for group in groups], options)
    print(told(fitted), file=sys.stderr)
    given.out.write_text(document(given, tables, groups, fitted, options), encoding="utf-8")


def document(
    given: argparse.Namespace, tables: Sequence[Table], groups: Sequence[Sequence[Asked]], fitted: Sequence[float], options: Any
) -> str:
    free = replace(options, abstain_isrel=0.0, abstain_issup=0.0)
    only = (*PAPER[:3], fitted[3])
    runs = (
        ("the first passage found", FIRST),
        (f"paper: {told(PAPER)}", PAPER),
        (f"with the search's score: {told(only)}", only),
        (f"fitted: {told(fitted)}", fitted),
    )
    head = ["weights", *itertools.chain(*((t.name, "against the paper's (95 %)") for t in tables))]
    blocks = ["# Weights of a segment's score", circumstances("python benchmarks/weights.py DATA", given, tables[1].questions,
              sum(map(len, groups)), f"thresholds: {thresholds(options)}")]  # fmt: skip
    for title, fitting, how in (
        ("Held-out half, answers and abstentions", False, options),
        ("Held-out half, questions that have an answer, never abstaining", False, free),
        ("The half that the weights were fitted on, answers and abstentions", True, options),
    ):
        chosen = [[a for a in g if a.fitting == fitting and (how is options or a.answerable)] for g in groups]
        counts = " and ".join(str(len(group)) for group in chosen)
        blocks += [f"## {title}: {counts} questions", markdown_table(head, [line(*run, chosen, how) for run in runs])]
    return "\n\n".join([*blocks, NOTE]) + "\n"


NOTE = (
    "Share of questions answered rightly (a gold answer within), or rightly withheld; intervals: paired bootstrap over questions,"
    f" 2,000 draws. Grid: {' × '.join(f'{name} {list(values)}' for name, values in GRID.items())}, the sequence term always on."
)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--thresholds-of", metavar="NAME", help="the registry's thresholds of NAME, where MODEL is a folder")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/weights.md"))
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

"""Which weights choose best among the passages of a question, and below which thresholds to answer nothing: fitted on one half of
the questions, told on the other.

    python benchmarks/weights.py DATA [--model MODEL] [--limit N] [--work runs/evaluation] [--out benchmarks/results/weights.md]

Documents and questions are those of benchmarks/evaluation.py (squad, nq), where they are indexed; of SQuAD another draw of
questions, twice as many. Every question is asked once in short form, evidence always, nothing pruned, an answer written from each
of five passages; what the model and the search say of each candidate is kept in --work, and choosing again under other weights
costs nothing. Halves: every other question of nq; of squad, every other article.

Weights: of those within a standard error of the ones with most right answers (to the questions that have one, nothing
withheld), the nearest to the paper's. The best of 600 on two hundred questions is luck: taken as it was, it has been behind the
paper's on the other half.

Thresholds (ISREL of the passages that are written from, ISSUP of the chosen answer): of those that keep 9 in 10 right answers,
the pair that withholds most wrong ones, whether there is a right one or not. What withholding costs a person is right answers,
so that is what is bounded.

How well the search tells the unanswerable questions of squad, whatever that costs: thresholds of the best macro-F1 of abstaining
and answering, the rule of `selfrag train eval`, fitted on each half and told on the other. The registry does not use these.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import harness
import numpy as np
from ablation import circumstances
from corpus import read_rows, write_rows
from evaluation import TABLES, Table, indexed, sample
from numpy.typing import NDArray

from selfrag.agent import Agent, open_agent
from selfrag.algorithm.options import ABSTAINS_NEVER
from selfrag.batch.questions import open_questions
from selfrag.config.library_env import silence_libraries
from selfrag.evaluation import intervals, metrics, thresholds
from selfrag.evaluation.tables import markdown_table
from selfrag.types import Event, Expanded, SearchOptions

ALWAYS = 1e-9
KEPT = 0.9
STEP = 0.025
SQUAD = 400  # the table's 200 hold 86 with an answer, 31 of them in the half to fit on: too few for four weights
LEAST = 0.001  # at 0 the model's own [Irrelevant] decides whether to write from a passage
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


def asked_of(squad: Sequence[dict[str, Any]], data: Path, work: Path) -> list[Table]:
    """The tables; ``squad`` are the rows to draw from."""
    drawn = work / "squad.fitting.jsonl"
    if not drawn.exists():
        write_rows(drawn, sample(squad, SQUAD, seed=1))
    return [replace(TABLES["squad"](data, work), questions=drawn), TABLES["nq"](data, work)]


def known(out: Path) -> set[Any]:
    return {json.loads(line)["id"] for line in out.open()} if out.exists() else set()


async def ask_all(agent: Agent, table: Table, out: Path, limit: int | None, at_once: int) -> None:
    """Writes a line a question to ``out``; those that are there are not asked again."""
    done = known(out)
    waiting = asyncio.Semaphore(at_once)
    options = replace(
        agent.options,
        mode="always",
        max_segments=1,
        prune=False,
        **ABSTAINS_NEVER,
    )

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
    at = chosen(asked, weights, options)
    return float(not asked.answerable) if at is None else float(asked.right[at])


def chosen(asked: Asked, weights: NDArray[Any], options: SearchOptions) -> int | None:
    """Which candidate is the answer; None where it is withheld."""
    relevant = asked.terms[:, 0] >= options.abstain_isrel
    at = int(np.where(relevant, asked.terms @ weights, -np.inf).argmax())
    return at if relevant[at] and asked.terms[at, 1] >= options.abstain_issup else None


def abstains(asked: Sequence[Asked], weights: Sequence[float], options: SearchOptions) -> NDArray[Any]:
    """True for each question whose answer is withheld."""
    return np.array([chosen(each, np.array([*weights, 1.0]), options) is None for each in asked])


def fit(groups: Sequence[Sequence[Asked]], free: SearchOptions) -> tuple[float, ...]:
    """Of the weights whose mean over the groups is within a standard error of the best, those nearest to the paper's."""
    found = {weights: [outcomes(group, weights, free) for group in groups] for weights in itertools.product(*GRID.values())}
    means = {weights: float(np.mean([group.mean() for group in each])) for weights, each in found.items()}
    best = max(means, key=means.__getitem__)
    error = float(np.sqrt(sum(group.var() / len(group) for group in found[best]))) / len(groups)
    within = [weights for weights, mean in means.items() if mean >= means[best] - error]
    return min(within, key=lambda weights: sum(abs(a - b) for a, b in zip(weights, PAPER, strict=True)))


def fit_thresholds(groups: Sequence[Sequence[Asked]], weights: Sequence[float], free: SearchOptions) -> SearchOptions:
    """``free`` with the thresholds that keep KEPT of the right answers and withhold most wrong ones, groups counting the same."""
    right = [[a for a in group if outcomes([a], weights, free)[0]] for group in groups]
    wrong = [[a for a in group if not outcomes([a], weights, free)[0]] for group in groups]

    def value(options: SearchOptions) -> float:
        kept = np.mean([outcomes(group, weights, options).mean() for group in right]) >= KEPT
        return float(np.mean([abstains(group, weights, options).mean() for group in wrong])) if kept else -1.0

    return best_of(free, 0.6, value)


def fit_telling(group: Sequence[Asked], weights: Sequence[float], free: SearchOptions) -> SearchOptions:
    """``free`` with the thresholds of the best macro-F1 of abstaining and answering."""
    good = np.array([each.answerable for each in group])
    return best_of(free, 0.95, lambda options: thresholds.macro_f1(~abstains(group, weights, options), good))


def best_of(free: SearchOptions, most: float, value: Callable[[SearchOptions], float]) -> SearchOptions:
    """A threshold changes which candidate is the answer, so the grid is fixed instead of lying between scores."""
    grid = np.linspace(0.0, most, round(most / STEP) + 1)
    pairs = itertools.product(np.maximum(grid, LEAST), grid)

    def options(pair: thresholds.Thresholds) -> SearchOptions:
        return replace(free, abstain_isrel=pair[0], abstain_issup=pair[1])

    return options(
        thresholds.best(((round(float(a), 4), round(float(b), 4)) for a, b in pairs), lambda pair: value(options(pair)))
    )


async def main(given: argparse.Namespace) -> None:
    given.work.mkdir(parents=True, exist_ok=True)
    squad = list(read_rows(given.data / "dev" / "squad2_halfdev.jsonl.gz"))
    titles = sorted({row["title"] for row in squad})
    articles = {row["context"]: titles.index(row["title"]) for row in squad}
    tables = asked_of(squad, given.data, given.work)
    groups = []
    for table in tables:
        indexed(table)
        out = given.work / f"{table.name}.candidates.jsonl"
        async with open_agent(table.name, model=given.model) as agent:
            agent.reflector = replace(agent.reflector, relevant_above=ALWAYS)  # type: ignore[type-var]
            await ask_all(agent, table, out, given.limit, given.concurrency)
        groups.append(list(read(out, articles)))
    free = SearchOptions(abstain_isrel=0.0, abstain_issup=0.0)
    fitting, testing = ([[a for a in group if a.fitting is half] for group in groups] for half in (True, False))
    weights = fit([[a for a in group if a.answerable] for group in fitting], free)
    options = fit_thresholds(fitting, weights, free)
    print(told(weights), options.abstain_isrel, options.abstain_issup, file=sys.stderr)
    given.out.write_text(document(given, tables, (fitting, testing), weights, options), encoding="utf-8")


def document(
    given: argparse.Namespace, tables: Sequence[Table], halves: Sequence[Any], fitted: Sequence[float], options: SearchOptions
) -> str:
    free = replace(options, abstain_isrel=0.0, abstain_issup=0.0)
    asked = {table.questions: sum(map(len, both)) for table, *both in zip(tables, *halves, strict=True)}
    fitted_to = f"fitted thresholds: ISREL {options.abstain_isrel:g}, ISSUP {options.abstain_issup:g}"
    told_of = circumstances("python benchmarks/weights.py DATA", given, asked, fitted_to)
    blocks = ["# Weights and thresholds of an answer", told_of]
    for title, half in zip(("The half that was fitted on", "Held-out half"), halves, strict=True):
        with_answer = [[a for a in group if a.answerable] for group in half]
        without = [a for group in half for a in group if not a.answerable]
        found = rows(tables, with_answer, without, fitted, free, options)
        blocks += [f"## {title}", markdown_table(HEAD, list(found))]
    apart = markdown_table(TELLING, list(telling([half[0] for half in halves], fitted, free)))
    blocks += [NOTE, "## Telling the unanswerable questions of squad", apart, TOLD]
    return "\n\n".join(blocks) + "\n"


HEAD = [
    "questions",
    "weights",
    "right, nothing withheld",
    "against the first passage (95 %)",
    "with the thresholds: right",
    "withheld",
]


def rows(
    tables: Sequence[Table], with_answer: Sequence[Sequence[Asked]], without: Sequence[Asked], fitted: Sequence[float],
    free: SearchOptions, options: SearchOptions,
) -> Iterator[list[str]]:  # fmt: skip
    runs: dict[str, Sequence[float]] = {"the first passage found": FIRST, f"paper: {told(PAPER)}": PAPER}
    if fitted != PAPER:
        runs[f"fitted: {told(fitted)}"] = fitted
    for table, group in zip(tables, with_answer, strict=True):
        for name, weights in runs.items():
            yield [f"{table.name}, {len(group)} with an answer", name, *line(weights, group, free, options)]
    yield [f"{len(without)} without", f"fitted: {told(fitted)}", "", "", "", f"{abstains(without, fitted, options).mean():.3f}"]


def line(weights: Sequence[float], group: Sequence[Asked], free: SearchOptions, options: SearchOptions) -> list[str]:
    mine, first = outcomes(group, weights, free), outcomes(group, FIRST, free)
    ones = np.ones(len(group))
    found = intervals.paired(np.asarray(first, dtype=np.float64), ones, np.asarray(mine, dtype=np.float64), ones)
    apart = f"{found.value or 0.0:+.3f} ({found.low or 0.0:+.3f} – {found.high or 0.0:+.3f})"
    kept = outcomes(group, weights, options).mean()
    return [f"{mine.mean():.3f}", apart, f"{kept:.3f}", f"{abstains(group, weights, options).mean():.3f}"]


TELLING = [
    "asked",
    "thresholds, fitted on the other half",
    'F1 of "unanswerable"',
    "precision",
    "recall",
    "F1, all withheld",
    "right of those with an answer",
    "the same, nothing withheld",
]


def telling(halves: Sequence[Sequence[Asked]], weights: Sequence[float], free: SearchOptions) -> Iterator[list[str]]:
    """A row for each half, and one for both together."""
    found = []
    for half, other in zip(halves, reversed(halves), strict=True):
        options = fit_telling(other, weights, free)
        empty = [not each.answerable for each in half]
        right, before = outcomes(half, weights, options), outcomes(half, weights, free)
        found.append(np.array([empty, abstains(half, weights, options), right, before]))
        yield told_apart(f"ISREL {options.abstain_isrel:g}, ISSUP {options.abstain_issup:g}", found[-1])
    yield told_apart("", np.concatenate(found, axis=1))


def told_apart(name: str, found: NDArray[Any]) -> list[str]:
    """``found``: (4, n) of questions without an answer, withheld, right, and right were nothing withheld."""
    empty, said = found[:2] > 0
    right, before = found[2:, ~empty].mean(axis=1)
    apart = thresholds.f1(said, empty), empty[said].mean(), said[empty].mean(), thresholds.f1(np.ones_like(empty), empty)
    return [f"{len(empty)}, {empty.sum()} of them without an answer", name, *(f"{n:.3f}" for n in (*apart, right, before))]


def told(weights: Sequence[float]) -> str:
    return " ".join(f"{name} {value:g}" for name, value in zip(GRID, weights, strict=True))


NOTE = (
    "Shares of the questions: a gold answer within what was answered; nothing answered. Intervals: paired bootstrap over"
    f" questions, 2,000 draws. Thresholds keep {KEPT:.0%} of the right answers of the half that was fitted on."
    f" Grid: {' × '.join(f'{name} {list(values)}' for name, values in GRID.items())}, the sequence term always on."
)

TOLD = (
    "Found by a search of all paragraphs, an answer written from each of five, the best chosen. Halves are articles: nothing of"
    " an article that is told of was fitted on. More than half of these questions have no answer, so that withholding everything"
    " scores high by this F1 alone; the two columns on the right say what it costs."
)


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/weights.md"))
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

"""Self-RAG beside plain RAG with the same model and beside no retrieval, on three sets of questions.

    python benchmarks/evaluation.py DATA --model MODEL [--thresholds-of NAME] [--tables wikipedia,squad,nq] [--limit 6]
        [--work runs/evaluation] [--out benchmarks/results]

- wikipedia: the questions of corpora/wikipedia over its 411 summaries.
- squad: SQuAD 2.0, each distinct paragraph of the development part a document, a random sample of its questions, answerable and
  not. A question counts as unanswerable if its own paragraph does not answer it.
- nq: Natural Questions over 10,033 Wikipedia summaries.

DATA is the folder with corpora/ and dev/. Documents are written below --work and indexed into a collection named after the table,
under SELFRAG_HOME (one --work for one home); a second run finds them there. Every row keeps its answers under --work; the same
command goes on where it stopped. The rows are those of benchmarks/ablation.py; `full` is the program with its defaults but short
form, as in the paper.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
from ablation import answer, circumstances, model_flags, outcomes, rows, thresholds
from baselines import attempted, best_sentence, margin
from corpus import Corpus, read_rows, wikipedia, write_rows

from selfrag import index
from selfrag.agent import open_agent
from selfrag.batch.questions import open_questions
from selfrag.config.library_env import silence_libraries
from selfrag.config.settings import find_paths
from selfrag.evaluation import intervals
from selfrag.evaluation.compare import compare
from selfrag.evaluation.curves import auroc
from selfrag.evaluation.outcome import Outcome
from selfrag.evaluation.report import Report, evaluate, read_run
from selfrag.evaluation.tables import comparison_markdown, limits, markdown_table, number

ROWS = ("full", "plain", "none")
FITTED = (
    "The registry's weights and thresholds were fitted on questions like half of these, and on some of these "
    "(benchmarks/weights.py): what is told of `full` flatters."
)


@dataclass(frozen=True, slots=True)
class Table:
    """Questions, and the folder of the documents that they are asked of. ``note`` says what a reader must know besides."""

    name: str
    title: str
    questions: Path
    folder: Path
    note: str = ""


# --- the data ------------------------------------------------------------------------------------------------------------------


def examples(_: Path, __: Path) -> Table:
    folder = Path(__file__).parents[1] / "corpora" / "wikipedia"
    return Table("wikipedia", "The questions of corpora/wikipedia over its summaries", folder / "questions.jsonl", folder)


def squad(data: Path, work: Path) -> Table:
    return drawn("squad", data / "dev" / "squad2_halfdev.jsonl.gz", 200, work)


def drawn(name: str, file: Path, size: int, work: Path) -> Table:
    """``size`` questions of a file of SQuAD over its distinct paragraphs."""
    found = list(read_rows(file))
    paragraphs = {row["context"]: row["title"].replace("_", " ") for row in found}
    title = f"SQuAD 2.0: {size} of {len(found):,} questions over its {len(paragraphs)} paragraphs"
    documents = Corpus(name, tuple(paragraphs.values()), tuple(paragraphs), (), ())
    return written(name, title, sample(found, size, seed=0), documents, work)


def sample(found: Sequence[Mapping[str, Any]], size: int, seed: int) -> list[dict[str, Any]]:
    """``size`` rows of SQuAD as questions of a batch; `context` rides along."""
    kept = ("id", "question", "answers", "unanswerable", "context")
    return [{name: row[name] for name in kept} for row in random.Random(seed).sample(found, size)]


def natural_questions(data: Path, work: Path) -> Table:
    corpus = wikipedia(data)
    asked = read_rows(data / "dev" / "nq_wikipedia_vital.jsonl.gz")
    numbered = [{"id": f"nq-{number}", **row} for number, row in enumerate(asked, 1)]
    title = f"Natural Questions over {len(corpus.titles):,} Wikipedia summaries"
    return written("nq", title, numbered, corpus, work)


TABLES = {"wikipedia": examples, "squad": squad, "nq": natural_questions}


def written(name: str, title: str, questions: Iterable[Mapping[str, Any]], documents: Corpus, work: Path) -> Table:
    """Puts development questions and their documents into files below ``work``, unless they are there."""
    table = Table(name, title, work / f"{name}.questions.jsonl", work / f"{name}.documents", FITTED)
    if not table.questions.exists():
        table.folder.mkdir(parents=True, exist_ok=True)
        documents.write(table.folder)
        write_rows(table.questions, questions)
    return table


def indexed(table: Table) -> None:
    collection = index.open_collection(find_paths().data, table.name, create=True)
    found = collection.sync([str(table.folder)])
    print(f"{table.name}: {found.new} new, {found.unchanged} unchanged, {found.seconds:.0f} s", file=sys.stderr)
    collection.close()
    with collection.opened(collection.generation()) as catalog:
        if others := catalog.roots().keys() - {str(table.folder.absolute())}:
            raise SystemExit(f"the collection {table.name} also holds {', '.join(others)}: selfrag rm -c {table.name} --yes")


# --- the runs ------------------------------------------------------------------------------------------------------------------


async def study(given: argparse.Namespace, table: Table) -> None:
    """Runs the table's rows, or the rest of them, and writes its file."""
    questions = open_questions(str(table.questions), limit=given.limit)
    async with open_agent(table.name, **model_flags(given)) as agent:
        known = rows(agent.options)
        for name in ROWS:
            seconds = await answer(agent, known[name][1], questions, given.work / f"{table.name}.{name}.jsonl", given.concurrency)
            print(f"{table.name} {name}: {seconds:.0f} s", file=sys.stderr)
    found = {name: outcomes(given.work / f"{table.name}.{name}.jsonl") for name in ROWS}
    labels = {name: known[name][0] for name in ROWS}
    text = document(given, table, found, labels, thresholds(agent.options))
    (given.out / f"evaluation-{table.name}.md").write_text(text, encoding="utf-8")


# --- what is written -----------------------------------------------------------------------------------------------------------


def document(
    given: argparse.Namespace, table: Table, found: Mapping[str, list[Outcome]], labels: Mapping[str, str], said: str
) -> str:
    reports = {name: evaluate(each) for name, each in found.items()}
    command = f"python benchmarks/evaluation.py DATA --tables {table.name}" + (f" --limit {given.limit}" if given.limit else "")
    asked = next(iter(reports.values())).questions
    blocks = [
        f"# {table.title}",
        circumstances(command, given, {table.questions: asked}, f"{given.concurrency} questions at once", said),
        "\n".join(f"- `{name}`: {label}" for name, label in labels.items()),
        markdown_table(["metric", *reports], metrics(reports)),
        "95 % intervals in brackets: percentile bootstrap over questions, 1,000 draws. –: nothing to measure. "
        "*: judged by the model's own critique.",
        *([table.note] if table.note else []),
    ]
    blocks += against_baselines(given, table)
    for other in ROWS[1:]:
        blocks.append(comparison_markdown(compare(found[other], found["full"]), (other, "full"), changes=5).strip())
    return "\n\n".join(blocks) + "\n"


def against_baselines(given: argparse.Namespace, table: Table) -> list[str]:
    """`full` beside rules that need less, each answering as many questions as it, the ones that it is surest of."""
    full, plain = (read_run(given.work / f"{table.name}.{name}.jsonl") for name in ("full", "plain"))
    others = {
        "the first passage, with a threshold of its own": [attempted(row) for row in plain],
        "the sentence with most of the question's words, no model": [best_sentence(row) for row in full],
    }
    lines = []
    for name, attempts in others.items():
        found = margin(full, attempts)
        signed = "–" if found.difference.value is None else f"{found.difference.value:+.3f}"
        lines.append([name, f"{found.run:.3f}", f"{found.baseline:.3f}", signed, limits(found.difference)])
    head = ["baseline", "full", "baseline", "difference", "95 % interval"]
    said = "Share of all questions that are answered rightly (what is shown holds the gold answer), at the coverage of `full`:"
    return [said, markdown_table(head, lines), whole(full)]


def whole(rows: Sequence[Mapping[str, Any]]) -> str:
    """How well the confidence tells right from wrong over all questions; the table above knows those that were answered."""
    attempts = [attempted(row) for row in rows]
    sure, right = (np.array([getattr(a, name) for a in attempts], dtype=np.float64) for name in ("confidence", "right"))
    found = intervals.statistic(auroc, sure, right)
    told = "–" if found.value is None else f"{found.value:.3f} ({limits(found)})"
    return f"AUROC of the confidence over all questions, what was withheld judged, too, and 0 where nothing was written: {told}."


def metrics(reports: Mapping[str, Report]) -> list[list[str]]:
    """A line for each metric that at least one of the runs has."""
    counts = [["answered / abstained / failed", *(f"{r.answered} / {r.abstained} / {r.failed}" for r in reports.values())]]
    lines = zip(*(report.lines for report in reports.values()), strict=True)
    shown = ([each[0].label, *(cell(line.interval, line.unit) for line in each)] for each in lines)
    return counts + [row for row in shown if set(row[1:]) != {"–"}]


def cell(found: Any, unit: str) -> str:
    return "–" if found.value is None else f"{number(found.value, unit)} ({limits(found, unit)})"


async def main(given: argparse.Namespace) -> None:
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    for name in given.tables.split(","):
        table = TABLES[name](given.data, given.work)
        indexed(table)
        if not given.index_only:
            await study(given, table)


if __name__ == "__main__":
    parser = harness.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--thresholds-of", metavar="NAME", help="the registry's thresholds of NAME, where MODEL is a folder")
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--index-only", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    silence_libraries()
    asyncio.run(main(parser.parse_args()))

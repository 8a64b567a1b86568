"""`selfrag compare`: two runs over the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json
from selfrag.errors import UsageError


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="An output of `batch` or `eval -o`.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, over the same questions.")],
    questions: Annotated[
        str | None, typer.Option(metavar="FILE", help="File of the known answers, if the rows lack them.")
    ] = None,
    changes: Annotated[int, typer.Option(metavar="N", min=0, help="Number of changed questions to show.")] = 10,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print it as Markdown.")] = False,
    json: Json = False,
) -> None:
    """Compare two runs over the same questions, pair by pair.

    Every difference is B minus A, with a paired bootstrap interval, and McNemar's p for metrics that are 0 or 1 for each
    question. Then come the questions that are right in one run only, and the step that lost them: retrieval, relevance, support.

    \b
    Examples:
      selfrag compare plain.jsonl selfrag.jsonl
      selfrag compare a.jsonl b.jsonl --changes 50
      selfrag compare a.jsonl b.jsonl --json | jq .differences
    """
    from selfrag.batch.questions import open_questions
    from selfrag.evaluation import tables
    from selfrag.evaluation.compare import compare as compared
    from selfrag.evaluation.compare import comparison_json
    from selfrag.evaluation.report import gold_by_id, outcomes_of, read_run

    if json and markdown:
        raise UsageError("--json and --markdown exclude each other", "run it twice")
    gold = gold_by_id(open_questions(questions).rows()) if questions else None
    found = compared(outcomes_of(read_run(first), gold), outcomes_of(read_run(second), gold))
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    if json:
        terminal.print_json(comparison_json(found))
    else:
        shown = tables.comparison_markdown if markdown else tables.comparison_text
        terminal.put(shown(found, names, changes))

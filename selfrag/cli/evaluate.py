"""`selfrag eval`: the metrics of a run, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.cli.batch_runs import RunFlags, exit_code, rows_of
from selfrag.cli.options import AgentFlags, Json, Quiet, with_flags
from selfrag.errors import InputError, UsageError

if TYPE_CHECKING:
    from selfrag.evaluation.report import Report

Rows = list[dict[str, Any]]


@with_flags
def eval_(
    flags: AgentFlags,
    running: RunFlags,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Questions with known answers, or an output of `batch`.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="Store the run's rows, and resume from them.")
    ] = None,
    results: Annotated[Path | None, typer.Option(metavar="RUN", help="Score this output of `batch` without a model.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw reliability and risk against coverage: .svg, .png, .pdf; needs selfrag[plot]."),
    ] = None,
    distractors: Annotated[
        str | None,
        typer.Option(metavar="KIND:N", help="Add N passages without the answer to every search: related:N or random:N."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer and score a file of questions with known answers, or score existing answers.

    Rows have "question" and "answers" (or "unanswerable": true), and may have "sources" (paths, file names or titles that hold
    the answer) or "context" (the paragraph). Known data sets are read as they are published. Every metric has a 95 % bootstrap
    interval. Options that change the search make the ablations of the Self-RAG paper: see the examples.

    \b
    Examples:
      selfrag eval corpora/wikipedia/questions.jsonl -c wikipedia
      selfrag eval questions.jsonl -o run.jsonl --markdown --plot run.svg
      selfrag eval run.jsonl --json
      selfrag eval questions.jsonl --results run.jsonl
      selfrag eval dev-v2.0.json --sample 200 -o squad.jsonl
      selfrag eval questions.jsonl --mode never                  (ablation: no retrieval)
      selfrag eval questions.jsonl --mode always                 (always retrieve)
      selfrag eval questions.jsonl -k 1                          (only the first passage)
      selfrag eval questions.jsonl --w-sup 0                     (without ISSUP)
      selfrag eval questions.jsonl --require-support full        (hard constraint)
      selfrag eval questions.jsonl --no-sequence                 (without the sequence term)
      selfrag eval questions.jsonl --distractors related:5       (with near misses among the passages)
    """
    import asyncio

    from selfrag.evaluation.report import evaluate as report_of
    from selfrag.evaluation.report import gold_by_id, is_run, outcomes_of, read_run, report_json, run_of

    if json and markdown:
        raise UsageError("--json and --markdown exclude each other", "run it again on the kept rows: selfrag eval RUN --markdown")
    if plot:
        from selfrag.evaluation.plot import check_plot, save_plot

        check_plot(plot)  # before the questions are answered, which may take a night
    code, gold = 0, None
    if results is None and file != "-" and Path(file).is_file() and is_run(Path(file)):
        if distractors:
            raise UsageError(f"{file} is a finished run: --distractors change what is searched", "name the file of its questions")
        rows = read_run(Path(file))
    else:
        questions = running.questions(file)
        if distractors and (results is not None or file == "-"):
            raise UsageError("--distractors need a search over a file of questions", "leave out --results, and name a file")
        if results is not None:
            rows = read_run(results)
        else:
            rows, code = asyncio.run(ran(flags, running, file, out, quiet, distractors))
        gold = gold_by_id(questions.rows()) if file != "-" else None
    if not (outcomes := outcomes_of(rows, gold)):
        raise InputError(f"{file} holds no question" + (f" that {results} answers" if results else ""), "name another file")
    if not any(each.gold.answerable is not None for each in outcomes):
        raise InputError(
            f"no row of {file} has known answers, so there is nothing to compare with",
            'give rows "answers" or "unanswerable": true; `selfrag batch` answers questions without',
        )
    report = report_of(outcomes, run_of(rows))
    if plot:
        save_plot(report, plot, f"{Path(file).name}, {report.questions} questions")
    if json:
        terminal.print_json(report_json(report))
    else:
        terminal.put(text(report, markdown, Path(file).name))
    raise typer.Exit(code)


def text(report: Report, markdown: bool, title: str) -> str:
    from selfrag.evaluation.tables import report_markdown, report_text

    return report_markdown(report, title) if markdown else report_text(report)


async def ran(
    flags: AgentFlags, running: RunFlags, file: str, out: Path | None, quiet: bool, distractors: str | None
) -> tuple[Rows, int]:
    """The rows of a run over the questions of ``file``, and the exit status."""
    from selfrag.evaluation.distractors import Distracted, Distractors, golds_of
    from selfrag.index.retriever import CollectionRetriever

    wanted = Distractors.of(distractors) if distractors else None
    questions = running.questions(file)
    async with flags.open(quiet=quiet) as agent:
        if wanted:
            if not isinstance(agent.retriever, CollectionRetriever):
                raise UsageError("--distractors need a search, and --mode never makes none", "leave one of them out")
            agent.retriever = Distracted(agent.retriever, wanted, golds_of(questions.rows()))
        rows, tally = await rows_of(agent, agent.options, questions, running, out, quiet)
    return rows, exit_code(tally)

"""`selfrag batch`: answers a file of questions and writes each row as soon as it is finished."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag.cli.batch_runs import RunFlags, exit_code, run_questions
from selfrag.cli.options import AgentFlags, Quiet, with_flags

if TYPE_CHECKING:
    from selfrag.batch.questions import Questions
    from selfrag.batch.run import Tally


@with_flags
def batch(
    flags: AgentFlags,
    running: RunFlags,
    input: Annotated[str, typer.Argument(metavar="INPUT|-", help='JSON Lines or CSV with "question"; - is stdin.')],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="JSON Lines, or CSV if its name ends so.  [-]")
    ] = None,
    keep_passages: Annotated[bool, typer.Option("--keep-passages", help="Write the text of all retrieved passages.")] = False,
    quiet: Quiet = False,
) -> None:
    """Answer a file of questions; run it again to resume where it stopped.

    Rows may have "id", "choices" (a closed set), "instruction" (what the model reads instead of the question) and any other
    column; those are kept. Each row of the output is what `ask --json` prints, on disk as soon as it is finished. Finished rows
    are matched by id and question; failed rows are tried again. OUT.meta.json holds the settings of the run. The exit status
    is 0, or 4 if rows failed (each says why), 130 if interrupted, 1 if --fail-on-error stopped it.

    \b
    Examples:
      selfrag batch questions.jsonl -o answers.jsonl -c papers
      selfrag batch questions.csv -o answers.csv --concurrency 32 --engine http://localhost:8000
      jq -c '{question: .title}' items.jsonl | selfrag batch - --quiet | jq -r .answer
      selfrag batch questions.jsonl -o sample.jsonl --sample 100 --seed 1 --timeout 120
      selfrag batch dev-v2.0.json -o squad.jsonl --mode always -k 1
    """
    import asyncio

    questions = running.questions(input)
    to = None if out is None or str(out) == "-" else out
    tally = asyncio.run(answered(flags, running, questions, to, keep_passages, quiet))
    raise typer.Exit(exit_code(tally))


async def answered(
    flags: AgentFlags, running: RunFlags, questions: Questions, out: Path | None, keep_passages: bool, quiet: bool
) -> Tally:
    """Opens the agent and asks it every question."""
    from selfrag.batch.journal import StdoutSink
    from selfrag.batch.resume import open_sink

    plan = running.plan(keep_passages)
    async with flags.open(quiet=quiet) as agent:
        if out is None:
            return await run_questions(agent, agent.options, questions, StdoutSink(), plan, quiet)
        with open_sink(out, agent, agent.options, questions, running.on_change()) as sink:
            return await run_questions(agent, agent.options, questions, sink, plan, quiet)

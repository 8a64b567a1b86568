"""`selfrag calibrate`: fits a model's temperatures, biases and thresholds on labelled questions, and keeps them as a profile."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfrag.cli import terminal
from selfrag.cli.batch_runs import RunFlags, exit_code, rows_of
from selfrag.cli.options import AgentFlags, Json, Quiet, with_flags
from selfrag.errors import SOME_FAILED, UsageError

if TYPE_CHECKING:
    from selfrag.config.profiles import Profile
    from selfrag.evaluation.calibrate import Fit, Held
    from selfrag.types import ConfidenceWeights, SearchOptions

Rows = list[dict[str, Any]]
ANY_RELEVANCE = 1e-9
"""Treats every passage as relevant, since the relevance threshold is being fitted."""


@with_flags
def calibrate(
    flags: AgentFlags,
    running: RunFlags,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Questions with known answers, better with unanswerable ones too.")
    ] = None,
    from_history: Annotated[
        bool, typer.Option("--from-history", help="Fit the abstention thresholds on answers rated with `selfrag feedback`.")
    ] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the profile.")] = "default",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Store the two runs there, and resume them.")
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            min=0,
            max=1,
            help="Answer as many as possible with at most a share R of wrong answers.  [best F1]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report without writing a profile.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit how far the critique can be trusted, and when to retrieve and to abstain.

    The questions are answered twice, with evidence and without. ISREL and ISUSE get the temperature and the bias with which they
    are right as often as they say (Platt scaling), Retrieve a temperature. The retrieval threshold is the one that makes most
    answers right; if the questions do not decide it, it does not change. The confidence is scaled in the same way. The abstention
    thresholds maximise the macro-F1 of answerability, or satisfy --max-risk. The thresholds of the second look and of joining
    move with ISUSE. With --from-history nothing is answered: the abstention thresholds are fitted on the answers that you rated
    good or bad. Metrics before and after are reported on held-out folds. `--profile NAME` then uses the profile in ask, chat,
    batch and eval.

    \b
    Examples:
      selfrag calibrate corpora/wikipedia/questions.jsonl -c wikipedia --name wiki
      selfrag calibrate questions.jsonl --sample 200 -o runs/ --max-risk 0.2
      selfrag calibrate --from-history --name mine
      selfrag ask "Who wrote Faust?" --profile wiki
    """
    import asyncio

    if (file is None) == (not from_history):
        raise UsageError("calibrate needs a file of questions, or --from-history", "selfrag calibrate questions.jsonl")
    if file is None:
        calibrate_from_history(flags, name, max_risk, dry_run, json, quiet)
        return

    from selfrag.algorithm.reflection import GROUPS
    from selfrag.config import profiles
    from selfrag.config.profiles import Profile
    from selfrag.config.settings import find_paths
    from selfrag.evaluation.calibrate import crossed, examples, fit

    if "mode" in {name for name, value in flags.given.items() if value is not None} or file == "-":
        raise UsageError("calibrate runs a file of questions with and without retrieval", "leave out --mode; name a file")
    folder = find_paths().profiles
    profiles.path_of(name, folder)
    if out:
        out.mkdir(parents=True, exist_ok=True)
    with_evidence, alone, now, confidence = asyncio.run(both(flags, running, file, out, quiet))
    found = examples(with_evidence, {str(row["id"]): row for row in alone})
    fitted = fit(found, now.thresholds, max_risk)
    held = crossed(found, now.thresholds, max_risk=max_risk)
    model = next((row["model"] for row in with_evidence if row["status"] != "error"), "")
    scaling = fitted.scaling.after(now.scaling)
    sure = asdict(fitted.scaling.weights(confidence))
    temperatures, biases = ({g: v for g, v in each.items() if g in GROUPS} for each in (scaling.temperatures, scaling.biases))
    profile = Profile(name, model, fitted.thresholds, temperatures, biases, sure)
    keep(profile, fitted, held, len(found), f"questions of {Path(file).name}", None if dry_run else folder, json, quiet)
    if len(found) < len(with_evidence):
        terminal.say(f"{len(with_evidence) - len(found)} questions failed or have no label, and were left out", quiet)
    if any(row["status"] == "error" for row in with_evidence):
        raise typer.Exit(SOME_FAILED)


def calibrate_from_history(flags: AgentFlags, name: str, max_risk: float | None, dry_run: bool, json: bool, quiet: bool) -> None:
    """Fits on the rated answers of the model that the flags name, and keeps the profile."""
    from selfrag.agent import find_model, find_profile, fitted_options
    from selfrag.cli.history import open_history
    from selfrag.config import profiles, settings
    from selfrag.config.options import search_options
    from selfrag.config.profiles import Profile
    from selfrag.evaluation import feedback

    now = settings.load(**flags.given)
    profiles.path_of(name, now.paths.profiles)
    model = find_model(now)
    options = search_options(now.search, fitted_options(model, find_profile(now)))
    with open_history() as history:
        found, kept, left = feedback.examples(history.rated(), model.name)
    for reason, count in left.items():
        terminal.say(f"{count} rated answers were left out: {reason}", quiet)
    fitted = feedback.fit(found, max_risk)
    held = feedback.crossed(found, thresholds_of(options), max_risk)
    profile = Profile(name, model.name, fitted.thresholds, kept.temperatures, kept.biases)
    folder = None if dry_run else now.paths.profiles
    keep(profile, fitted, held, len(found), "rated answers of the history", folder, json, quiet)


def thresholds_of(options: SearchOptions) -> dict[str, float]:
    """The thresholds of a search, by the names that a profile gives them."""
    from selfrag.agent import OPTION_OF

    return {name: getattr(options, option) for name, option in OPTION_OF.items()}


async def both(
    flags: AgentFlags, running: RunFlags, file: str, out: Path | None, quiet: bool
) -> tuple[Rows, Rows, Fit, ConfidenceWeights]:
    """The rows with evidence and without it, and the scaling, the thresholds and the weights of the confidence that hold now.

    An incomplete run ends the command.
    """
    from selfrag.algorithm.options import ABSTAINS_NEVER
    from selfrag.evaluation.calibrate import Fit
    from selfrag.evaluation.temperatures import Scaling
    from selfrag.reflectors.tokens import TokenReflector

    questions = running.questions(file)
    async with flags.open(quiet=quiet) as agent:
        now, scaling = agent.options, Scaling()
        if isinstance(agent.reflector, TokenReflector):
            scaling = Scaling(agent.reflector.temperatures, agent.reflector.biases)
            agent.reflector = replace(agent.reflector, relevant_above=ANY_RELEVANCE)
        free = replace(now, **ABSTAINS_NEVER, threshold=0.0, require_support=None)
        free = replace(free, join_isuse=1.0)  # one answer, one critique
        runs = []
        for name, options in (("evidence", free), ("alone", replace(free, mode="never"))):
            to = out / f"{name}.jsonl" if out else None
            rows, tally = await rows_of(agent, options, questions, running, to, quiet, name=name)
            if tally.stopped:
                raise typer.Exit(exit_code(tally))
            runs.append(rows)
    return runs[0], runs[1], Fit(scaling, thresholds_of(now)), now.confidence


def keep(profile: Profile, fitted: Fit, held: Held, count: int, what: str, folder: Path | None, json: bool, quiet: bool) -> None:
    """Writes the profile, if there is a ``folder``, and prints it; it was fitted on ``count`` of ``what``."""
    from selfrag.config import profiles

    path = profiles.save(profile, folder, f"{count} {what}") if folder else None
    terminal.result(document(profile, fitted, held, count, path), text(profile, fitted, held, count), json)
    terminal.say(f"written to {path}" if path else "nothing was written", quiet or json)


# --- what is printed -----------------------------------------------------------------------------------------------------------


def text(profile: Profile, fitted: Fit, held: Held, count: int) -> str:
    from selfrag.evaluation.tables import number, text_table

    thresholds = "  ".join(f"{name} {value:.3f}" for name, value in profile.thresholds.items())
    temperatures = "  ".join(f"{name} {value:.2f}" for name, value in profile.temperatures.items())
    biases = "  ".join(f"{name} {value:+.2f}" for name, value in profile.biases.items())
    table = text_table(["on held-out folds", "before", "after"], [[label, number(a), number(b)] for label, a, b in held])
    notes = [f"note: {note}" for note in fitted.notes]
    head = f"profile {profile.name}: {count} questions, model {profile.model}"
    scaling = [f"temperatures  {temperatures}", f"biases        {biases}"]
    sure = "  ".join(f"{name} {value:+.2f}" for name, value in profile.confidence.items())
    scaling += [f"confidence    {sure}"] if sure else []
    return "\n".join([head, f"thresholds    {thresholds}", *scaling, *notes, "", table])


def document(profile: Profile, fitted: Fit, held: Held, count: int, path: Path | None) -> dict[str, Any]:
    return {
        "schema": "selfrag.calibration/1",
        "profile": profile.name,
        "file": str(path) if path else None,
        "model": profile.model,
        "questions": count,
        "thresholds": dict(profile.thresholds),
        "temperatures": dict(profile.temperatures),
        "biases": dict(profile.biases),
        "confidence": dict(profile.confidence),
        "held_out": [{"metric": label, "before": a, "after": b} for label, a, b in held],
        "notes": list(fitted.notes),
    }

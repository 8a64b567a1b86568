"""`selfrag trace`: shows a stored search, verifies its citations, and re-ranks it with other weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from selfrag.cli import terminal
from selfrag.cli.options import Json, group
from selfrag.errors import ABSTAINED, FAILED

File = Annotated[Path, typer.Argument(metavar="FILE", help="A trace, as `selfrag ask --save-trace FILE` writes it.")]

TRACE = """Show, verify or rescore a stored search, or write it as a page.

\b
Examples:
  selfrag ask "What is a quark?" --save-trace quark.json
  selfrag trace show quark.json
  selfrag trace verify quark.json
  selfrag trace rescore quark.json --w-sup 2
  selfrag trace html quark.json -o quark.html
"""


def show(file: File, json: Json = False) -> None:
    """Show the whole search: decisions, candidates, what was pruned, and the answer.

    \b
    Examples:
      selfrag trace show quark.json
      selfrag trace show quark.json --json | jq .answer
    """
    from selfrag.answers import render, trace
    from selfrag.answers.schema import passage_json

    found = trace.load(file)
    if json:
        terminal.print_json(found.answer)
        return
    passages = {chunk: passage_json(passage) for chunk, passage in found.passages.items()}
    terminal.show(render.tree(found.answer, found.events, passages, Path.cwd()), "")
    terminal.show(render.answer(found.answer, found.options, Path.cwd(), link=terminal.links()))


def verify(file: File, json: Json = False) -> None:
    """Compare citations and quotes with their sources as they are now. The exit status is 1 if one changed or is missing.

    \b
    Examples:
      selfrag trace verify quark.json
    """
    from rich.text import Text

    from selfrag.answers import citations, render, trace

    found = trace.load(file)
    checks = citations.verify(found.answer, cache(read_source))
    if json:
        terminal.print_json([asdict(check) for check in checks])
    else:
        styles = {"unchanged": "green", "moved": "yellow", "changed": "red", "missing": "red"}
        cited = {citation["n"]: citation for citation in found.answer["citations"]}
        for check in checks:
            quote = found.answer["segments"][check.quote - 1]["quote"] if check.quote else None
            place = render.where(quote or cited[check.n], Path.cwd())
            words = f"  “{render.flowing(quote['text']).strip()}”" if quote else ""
            terminal.show(Text.assemble(f"[{check.n}] ", (f"{check.state:<10}", styles[check.state]), place, (words, "dim")))
    if any(check.state in ("changed", "missing") for check in checks):
        raise typer.Exit(FAILED)


def read_source(source: str) -> tuple[str, bool]:
    """The text of a source as it is now, and whether its lines are those of the file."""
    from selfrag import ingest
    from selfrag.config import settings

    now = settings.load()
    ingest.use_converters(now.readers)
    ingest.use_ocr(now.ocr)
    document = ingest.read(Path(source))
    return document.text, not (document.anchors or document.pages)


def rescore(
    file: File,
    w_rel: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISREL.  [unchanged]")] = None,
    w_sup: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISSUP.  [unchanged]")] = None,
    w_use: Annotated[float | None, typer.Option(metavar="X", help="Weight of ISUSE.  [unchanged]")] = None,
    w_ret: Annotated[float | None, typer.Option(metavar="X", help="Weight of the passage's search score.  [unchanged]")] = None,
    sequence: Annotated[
        bool | None, typer.Option("--sequence/--no-sequence", help="Count the mean token probability.  [unchanged]")
    ] = None,
    require_support: Annotated[
        Literal["full", "partial"] | None, typer.Option(help="Drop segments whose most likely ISSUP is below this.")
    ] = None,
    json: Json = False,
) -> None:
    """Re-rank the stored candidates with other weights; no model is loaded.

    A search with --no-prune stores every candidate of its first step. The exit status is 3 if no candidate is good enough.

    \b
    Examples:
      selfrag trace rescore quark.json --w-sup 2 --w-use 0
      selfrag trace rescore quark.json --require-support full --json
    """
    from selfrag.answers import render, trace
    from selfrag.answers.rescore import rescore as rescored

    found = trace.load(file)
    given: dict[str, Any] = {"rel": w_rel, "sup": w_sup, "use": w_use, "ret": w_ret, "sequence": sequence}
    weights = replace(found.options.weights, **{name: value for name, value in given.items() if value is not None})
    document = rescored(found, weights, require_support)
    if json:
        terminal.print_json(document)
    else:
        terminal.show(render.answer(document, found.options, Path.cwd(), link=terminal.links()))
    if document["status"] == "abstained":
        raise typer.Exit(ABSTAINED)


def html(
    file: File,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page.  [FILE with .html]")] = None,
) -> None:
    """Write the search as one self-contained page with its tree, critiques, quotes, and sliders to re-rank it.

    \b
    Examples:
      selfrag trace html quark.json
      selfrag trace html quark.json -o search.html
    """
    from selfrag.answers import html as pages
    from selfrag.answers import trace

    target = out or file.with_suffix(".html")
    terminal.write_file(target, pages.page(trace.load(file), Path.cwd()), "-o")
    terminal.put(str(target))


trace = group(TRACE, show, verify, rescore, html)

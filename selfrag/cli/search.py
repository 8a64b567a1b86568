"""`selfrag search`: passages for a query, without a model that answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selfrag._util import clean, printable
from selfrag.cli import terminal
from selfrag.cli.options import CollectionNames, HydeModel, Json, Quiet, Sources, Where
from selfrag.errors import ABSTAINED, UsageError
from selfrag.types import Graph

if TYPE_CHECKING:
    from selfrag.index.search.hybrid import Hit
    from selfrag.types import Passage

_SHOWN = 400
_TWINS = 5
Format = Literal["table", "json", "jsonl", "csv", "paths"]


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words or a question.")],
    collection: CollectionNames = None,
    k: Annotated[int | None, typer.Option("-k", "--k", metavar="N", min=1, help="Maximum number of passages.  [5]")] = None,
    source: Sources = None,
    where: Where = None,
    neighbours: Annotated[int, typer.Option(metavar="N", min=0, help="Also show N chunks before and after each passage.")] = 0,
    hyde: HydeModel = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="E", help="Engine of --hyde: auto, onnx, transformers, vllm, a server's name or a URL.  [auto]"),
    ] = None,
    graph: Annotated[
        Graph | None, typer.Option("--graph", help="Follow names from passage to passage: on, auto or off.  [auto]")
    ] = None,
    reranker: Annotated[
        str | None, typer.Option("--reranker", metavar="R", help="Re-ranker: FILE, cross-encoder, URL or none.  [none]")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the ranks in dense and BM25 search.")] = False,
    chroma: Annotated[str | None, typer.Option("--chroma", metavar="URL", help="Chroma server.  [the collection's]")] = None,
    format: Annotated[
        Format, typer.Option(help="A table; one JSON document (--json); JSON Lines or CSV; or only the sources.")
    ] = "table",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find passages, without a model.

    Fuses the scores of dense and BM25 search; near-duplicate passages are shown once. The exit status is 3 if nothing is found.

    \b
    Examples:
      selfrag search "notice period"
      selfrag search "인공지능" -k 10 --explain
      selfrag search "who pays" -c contracts -c letters --source '2024/*.pdf' --json
      selfrag search "notice period" --format paths | xargs -d '\\n' grep -l signed
      selfrag search "photosynthesis" --where topic=biology --neighbours 1
      selfrag search "why is the sky blue" --hyde Qwen/Qwen3-0.6B
      selfrag search "notice period" --reranker http://localhost:8080/v1/rerank
    """
    import asyncio

    from selfrag.agent import open_retriever
    from selfrag.config import settings as settings_module
    from selfrag.config.options import search_options

    if not query.strip():
        raise UsageError("the query is empty", 'selfrag search "notice period"')
    settings = settings_module.load(k=k, chroma=chroma, engine=engine, reranker=reranker, graph=graph)
    retriever = open_retriever(settings, collection or (), source or (), where or (), hyde)
    hits = asyncio.run(retriever.find(query, search_options(settings.search, {}).k))
    for warning in retriever.warnings:
        terminal.say(f"warning: {warning}", quiet)
    around = {hit.passage.chunk: retriever.neighbours(hit.passage.chunk, neighbours, neighbours) for hit in hits if neighbours}
    if json and format not in ("table", "json"):
        raise UsageError(f"--json and --format {format} exclude each other", f"--format {format}")
    if format == "table" and not json:
        links = terminal.links()
        for number, hit in enumerate(hits, 1):
            _show(number, hit, explain, around.get(hit.passage.chunk), links)
    else:
        rows = [hit_json(hit, explain, around.get(hit.passage.chunk)) for hit in hits]
        write(query, rows, "json" if json else format)
    if not hits:
        terminal.say("nothing found" + ("; no source fits --source and --where" if source or where else ""), quiet)
        raise typer.Exit(ABSTAINED)


def write(query: str, rows: list[dict[str, Any]], format: Format) -> None:
    """Prints passages for a program. In CSV, ``lines`` is "first-last" and nested values are JSON; sources are printed once."""
    if format == "json":
        terminal.print_json({"query": query, "passages": rows})
    elif format == "jsonl":
        for row in rows:
            terminal.put_json_line(row)
    elif format == "paths":
        for source in dict.fromkeys(row["source"] for row in rows):
            terminal.put(source)
    else:
        import csv
        import sys

        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(rows[0] if rows else PASSAGE)
        out.writerows([_cell(name, value) for name, value in row.items()] for row in rows)


def _cell(name: str, value: Any) -> str:
    if name == "lines" and value:
        return f"{value[0]}-{value[1]}"
    if isinstance(value, str):
        return printable(value)
    return "" if value is None else terminal.as_json(value) if isinstance(value, list) else str(value)


PASSAGE = ("title", "source", "lines", "page", "place", "chunk", "text", "headers", "score", "dense", "bm25")


def hit_json(hit: Hit, explain: bool, around: list[Passage] | None) -> dict[str, Any]:
    """A passage as `search --json` prints it."""
    passage = asdict(hit.passage)
    document = {name: passage[name] for name in PASSAGE}
    if explain:
        ranks = {"dense_rank": hit.dense_rank, "bm25_rank": hit.bm25_rank, "rerank": hit.rerank}
        document |= ranks
    if hit.duplicates:
        document["duplicates"] = [
            {name: asdict(each)[name] for name in ("source", "lines", "page", "place", "chunk")} for each in hit.duplicates
        ]
    if around is not None:
        document["neighbours"] = [
            {name: asdict(each)[name] for name in ("chunk", "lines", "page", "place", "text")} for each in around
        ]
    return document


def _show(number: int, hit: Hit, explain: bool, around: list[Passage] | None, links: str | None) -> None:
    from rich.text import Text

    from selfrag.answers.render import linked, where
    from selfrag.answers.schema import passage_json

    passage = hit.passage
    place = linked(passage_json(passage), None, links, "dim")
    lines = [Text.assemble((f"{number}. {clean(passage.title)}  ", "bold"), place)]
    if explain:
        sides = [_side("dense", passage.dense, hit.dense_rank), _side("bm25", passage.bm25, hit.bm25_rank)]
        sides = ["through names"] if hit.dense_rank is None and hit.bm25_rank is None else sides
        sides += [] if hit.rerank is None else [f"re-ranker {hit.rerank:z.3f}"]
        lines.append(Text(f"   score {passage.score:.4f}  {'  '.join(sides)}", style="cyan"))
    if (above := passage.header()) and not around:
        lines.append(Text(f"   {clean(above)}", style="dim"))
    for each in around or [passage]:
        text = clean(each.text)
        lines.append(Text(f"   {text if around or len(text) <= _SHOWN else text[:_SHOWN] + ' …'}"))
    if hit.duplicates:
        twins = [where(passage_json(each), None) for each in hit.duplicates[:_TWINS]]
        more = f" and {len(hit.duplicates) - _TWINS} more" if len(hit.duplicates) > _TWINS else ""
        lines.append(Text(f"   nearly the same: {', '.join(twins)}{more}", style="dim"))
    terminal.show(*lines, "")


def _side(name: str, value: float | None, rank: int | None) -> str:
    if value is None:
        return f"{name} –"
    return f"{name} {value:z.3f}" + ("" if rank is None else f" (rank {rank})")

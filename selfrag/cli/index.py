"""`selfrag index`: bring a collection up to date with files and folders, once or for as long as they change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from selfrag._util import clean, printable_path
from selfrag.cli import terminal
from selfrag.cli.options import CollectionName, Json, Quiet, check_paths
from selfrag.errors import UsageError

if TYPE_CHECKING:
    from selfrag.config.settings import Settings
    from selfrag.index.collection import Collection
    from selfrag.index.sync.pipeline import Observer, Options, Progress, SyncReport
    from selfrag.types import Engine

_LISTED = 20

ChromaUrl = Annotated[str | None, typer.Option("--chroma", metavar="URL", help="Chroma server for the vectors.  [embedded]")]


def index(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files and folders; without any, the whole collection.")
    ] = None,
    collection: CollectionName = None,
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only files that match (git-style); may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="No files that match (git-style); may be repeated.")
    ] = None,
    context: Annotated[
        Literal["headings", "none", "llm"] | None,
        typer.Option(help="What is embedded with a chunk: its headings, nothing, or lines a model writes.  [headings]"),
    ] = None,
    graph: Annotated[
        Literal["names", "llm"] | None,
        typer.Option(help="What the graph links: names found by rule, or also those in a model's triples.  [names]"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="M", help="Instruct model for --context llm and --graph llm.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="E", help="Engine of --model: auto, transformers, vllm or a URL.  [auto]")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(metavar="E", help="Embedder: a name, a folder, or URL#MODEL.  [all-MiniLM-L6-v2]")
    ] = None,
    ocr: Annotated[
        Literal["auto", "never", "always"] | None,
        typer.Option(help="OCR for pages without text, for no page, or for all; needs selfrag[ocr].  [auto]"),
    ] = None,
    chroma: ChromaUrl = None,
    chunk_words: Annotated[
        int | None, typer.Option(metavar="N", min=20, help="Maximum words of a passage; a change needs --rebuild.  [160]")
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Rebuild from scratch, then switch over. Needed for a new embedder, context or graph."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Remove the entries of folders that are empty now, without asking.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running and index every change, until Ctrl-C.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring a collection up to date with files and folders.

    Only new and changed files are read; moved and copied text is not embedded again. `.gitignore` and `.selfragignore` are
    respected, hidden files are skipped, links are not followed. Unreadable files are listed with the reason. The folders and
    their patterns are remembered.

    \b
    Examples:
      selfrag index ~/Documents/papers
      selfrag index notes report.pdf -c work --exclude 'drafts/'
      selfrag index --dry-run ~/Documents/papers
      selfrag index ~/notes --watch
      selfrag index ~/notes --graph llm -m http://localhost:8000/v1#MODEL
      selfrag index --rebuild --embedder BAAI/bge-small-en-v1.5
      selfrag index --rebuild --embedder 'intfloat/e5-small-v2?query_prompt=query%3A%20&document_prompt=passage%3A%20'
      selfrag index --rebuild --embedder 'http://localhost:8000/v1#BAAI/bge-m3?dimension=512'
    """
    from selfrag.config import settings as settings_module
    from selfrag.index import open_collection
    from selfrag.index.sync.pipeline import Options
    from selfrag.ingest import use_converters, use_ocr

    check_paths(paths, "index")
    settings = settings_module.load(
        collection=collection, chroma=chroma, embedder=embedder, engine=engine, ocr=ocr, chunk_words=chunk_words
    )
    use_converters(settings.readers)
    use_ocr(settings.ocr)
    opened = open_collection(settings.paths.data, settings.collection, chroma_url=settings.chroma, create=True)
    options = Options(
        embedder=settings.embedder if embedder or opened.is_new() else None,
        context=context,
        graph=graph,
        include=None if include is None else tuple(include),
        exclude=None if exclude is None else tuple(exclude),
        rebuild=rebuild,
        dry_run=dry_run,
        chunk_words=settings.chunk_words if chunk_words or opened.is_new() else None,
        allow_empty=allow_empty,
    )
    if watch and (dry_run or rebuild):
        raise UsageError("--watch goes with neither --dry-run nor --rebuild", "selfrag index PATH --watch")
    with _annotating(opened, options, settings, model) as given:
        with terminal.stopping("the files in hand") as stop, progress(quiet or json) as observer:
            report = opened.sync(paths or (), given, observer, stop)
            if report.emptied and not dry_run and _confirmed(report.emptied):
                report = opened.sync(paths or (), replace(given, allow_empty=True), observer, stop)
        _print(report, dry_run, json, watch)
        if watch:
            _watch(opened, given, quiet, json)


def _confirmed(emptied: Mapping[str, int]) -> bool:
    """Whether the user confirms at a terminal that the entries of empty folders are to be removed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    folders = ", ".join(f"{printable_path(folder)} (files: {count:,})" for folder, count in emptied.items())
    return typer.confirm(f"Empty now: {folders}. Remove what is known of it?", default=False, err=True)


@contextmanager
def _annotating(collection: Collection, options: Options, settings: Settings, model: str | None) -> Iterator[Options]:
    """The options, with an instruct model for what the collection uses one for: ``model``, or the one it was made with."""
    made_with = collection.made_with()
    uses = [use for use in ("context", "graph") if (getattr(options, use) or made_with.get(use)) == "llm"]
    if model and not uses:
        raise UsageError("--model is for --context llm and --graph llm", "selfrag index PATH --graph llm --model M")
    if not uses or options.dry_run:
        yield options
        return
    from selfrag.agent import find_instruct
    from selfrag.index.sync.annotate import Annotator, InstructModel

    found = find_instruct(settings, model) if model else None
    names = {use: found.model if found else str(made_with.get(f"{use}_model", "")).rpartition(" ")[0] for use in uses}
    for use, name in names.items():
        if not name:
            raise UsageError(f"--{use} llm needs an instruct model", f"selfrag index PATH --{use} llm --model M")

    def opener(name: str) -> Callable[[], Engine]:
        return lambda: (found or find_instruct(settings, name)).open(settings.device)

    opened = {name: InstructModel(name, opener(name)) for name in names.values()}
    try:
        annotators = {use: Annotator(opened[name], "context" if use == "context" else "triples") for use, name in names.items()}
        yield replace(options, situate=annotators.get("context"), extract=annotators.get("graph"))
    finally:
        for each in opened.values():
            each.close()


# --- what is printed ------------------------------------------------------------------------------------------------------------


def report_json(report: SyncReport) -> dict[str, Any]:
    """The document that `index --json` prints."""
    document = asdict(report)
    plan = document.pop("plan")
    document.pop("embedded")
    document.pop("emptied")
    if not report.notes:
        document.pop("notes")
    if report.triples is None:
        document.pop("triples")
    return {**document, "plan": [{"action": action, "path": path} for action, path in plan]} if plan else document


def _print(report: SyncReport, dry_run: bool, json: bool, line: bool = False) -> None:
    if json and line:
        terminal.put_json_line(report_json(report))
    elif json:
        terminal.print_json(report_json(report))
    else:
        for action, path in report.plan:
            terminal.put(f"{action:>8}  {printable_path(path)}")
        terminal.put(f"{'would be: ' if dry_run else ''}{summary(report)}")
        for skipped in report.skipped[:_LISTED]:
            terminal.put(f" skipped  {printable_path(skipped.path)}: {clean(skipped.reason)}")
        if len(report.skipped) > _LISTED:
            terminal.put(f" skipped  … and {len(report.skipped) - _LISTED} more (--json lists all)")
        for note in report.notes[:_LISTED]:
            terminal.put(f"    note  {printable_path(note.path)}: {clean(note.note)}")
        if len(report.notes) > _LISTED:
            terminal.put(f"    note  … and {len(report.notes) - _LISTED} more (--json lists all)")


def summary(report: SyncReport) -> str:
    """One line about a run."""
    counts = [(name, getattr(report, name)) for name in ("new", "updated", "moved", "removed", "unchanged")]
    told = ", ".join(f"{count:,} {name}" for name, count in [*counts, ("skipped", len(report.skipped))] if count)
    files = f"{report.collection}: {told or 'no files found'}"
    return "; ".join(filter(None, [files, f"{report.chunks:,} chunks", _extracted(report), f"{report.seconds:.1f} s"]))


def _extracted(report: SyncReport) -> str:
    if not (found := report.triples):
        return ""
    return f"{found.names:,} names by triples from {found.chunks:,} chunks, {found.empty:,} of which gave none"


@contextmanager
def progress(quiet: bool) -> Iterator[Observer]:
    """A progress bar on stderr, if that is a terminal."""
    if quiet or terminal.is_plain(sys.stderr):
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files · {task.fields[embedded]} texts ·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=terminal.err(), transient=True) as bar:
        task = bar.add_task("looking", total=None, embedded=0)

        def show(step: Progress) -> None:
            bar.update(task, description=step.stage, completed=step.files, total=step.total, embedded=f"{step.embedded:,}")

        yield show


# --- watching -------------------------------------------------------------------------------------------------------------------


def _watch(collection: Collection, options: Options, quiet: bool, json: bool) -> None:
    """Indexes changes until Ctrl-C; several changes at once are one run."""
    from selfrag.index.sync.watch import watch

    terminal.say("watching; Ctrl-C ends it", quiet)
    with terminal.stopping("the files in hand") as stop:
        tell: Callable[[SyncReport], None] = lambda report: _print(report, False, json, line=True)  # noqa: E731
        watch(collection, options, stop, tell, lambda error: terminal.complain(error))

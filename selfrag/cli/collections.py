"""Maintenance of collections: `status`, `collections`, `rm`, `repair`, `export`, `import`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrag._util import clean, printable_path
from selfrag.cli import terminal
from selfrag.cli.options import CollectionName, Json, Quiet, check_paths
from selfrag.errors import FAILED, UsageError

if TYPE_CHECKING:
    from selfrag.index.collection import Collection
    from selfrag.index.maintenance import CollectionStatus

_LISTED = 10


def _open(name: str | None, create: bool = False) -> Collection:
    from selfrag.config import settings as settings_module
    from selfrag.index import open_collection

    settings = settings_module.load(collection=name)
    return open_collection(settings.paths.data, settings.collection, chroma_url=settings.chroma, create=create)


def status(collection: CollectionName = None, json: Json = False) -> None:
    """Show what a collection contains, and check it.

    Every vector in Chroma is compared with the catalog. The exit status is 1 if something is wrong.

    \b
    Examples:
      selfrag status
      selfrag status -c work --json | jq .problems
    """
    from selfrag.index import maintenance

    found = maintenance.status(_open(collection))
    if json:
        terminal.print_json(asdict(found))
    else:
        _show_status(found)
    if found.consistent is False:
        raise typer.Exit(FAILED)


def _show_status(found: CollectionStatus) -> None:
    sizes = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in found.bytes.items())
    terminal.put(f"{found.collection}: {found.sources:,} sources, {found.chunks:,} chunks, {found.vectors:,} vectors ({sizes})")
    for root in found.roots:
        terminal.put(f"  folder      {printable_path(root)}")
    terminal.put(
        f"  fingerprint {', '.join(f'{key} {value}' for key, value in found.fingerprint.items() if value not in ('', None))}"
    )
    if found.chroma:
        terminal.put(f"  chroma      {found.chroma}")
    for path, reason in found.skipped[:_LISTED]:
        terminal.put(f"  skipped     {printable_path(path)}: {clean(reason)}")
    if len(found.skipped) > _LISTED:
        terminal.put(f"  skipped     … and {len(found.skipped) - _LISTED} more (--json lists all)")
    if found.consistent is None:
        terminal.put(f"  process {found.writer or 'unknown'} is writing to it; ask again when it has ended")
    elif found.consistent:
        terminal.put("  consistent  catalog, full-text table and vectors agree")
    for problem in found.problems:
        terminal.put(f"  problem     {clean(problem)}")
    if found.problems:
        terminal.say(f"  → {found.mend}")


def collections(json: Json = False) -> None:
    """List the collections.

    \b
    Examples:
      selfrag collections
      selfrag collections --json | jq -r '.collections[].collection'
    """
    from selfrag.config import settings as settings_module
    from selfrag.index import maintenance

    found = maintenance.overview(settings_module.load().paths.data)
    if json:
        terminal.print_json({"collections": [asdict(each) for each in found]})
        return
    for each in found:
        trouble = f"  {each.problem}" if each.problem else ""
        terminal.put(
            f"{each.collection:<20} {each.sources:>8,} sources {each.chunks:>10,} chunks {each.bytes / 2**20:>9.1f} MiB{trouble}"
        )
    if not found:
        terminal.say("there are no collections yet; `selfrag index PATH` makes one")


def rm(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Sources or folders; without any, all of it.")
    ] = None,
    collection: CollectionName = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove a whole collection without asking.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove sources, or a whole collection. The files themselves are not touched.

    A source below a folder that is still indexed comes back with the next `selfrag index`; `.selfragignore` keeps it out.

    \b
    Examples:
      selfrag rm ~/Documents/papers/old.pdf
      selfrag rm -c work --yes
    """
    from selfrag.index import maintenance

    check_paths(paths, "rm")
    opened = _open(collection)
    if not paths:
        _confirm(opened.name, yes)
        if left := maintenance.delete(opened):
            terminal.say(f"warning: {left}", quiet)
        gone, told = [], f"removed the collection {opened.name}"
    else:
        gone = maintenance.remove(opened, paths)
        told = f"removed {len(gone)} {'source' if len(gone) == 1 else 'sources'} from {opened.name}"
    terminal.result({"collection": opened.name, "deleted": not paths, "removed": gone}, told, json, quiet)


def _confirm(name: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"This removes the whole collection {name!r}.", f"selfrag rm -c {name} --yes")
    typer.confirm(f"Remove the whole collection {name!r}?", abort=True, err=True)


def repair(collection: CollectionName = None, json: Json = False, quiet: Quiet = False) -> None:
    """Rebuild the vectors of a collection from its catalog. Nothing is embedded again.

    \b
    Examples:
      selfrag repair
      selfrag repair -c work
    """
    from selfrag.index import maintenance

    opened, started = _open(collection), time.monotonic()
    with terminal.waiting("writing vectors", quiet or json):
        count = maintenance.repair(opened)
    seconds = round(time.monotonic() - started, 3)
    text = f"{opened.name}: {count:,} vectors rebuilt in {seconds:.1f} s"
    terminal.result({"collection": opened.name, "vectors": count, "seconds": seconds}, text, json, quiet)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    collection: CollectionName = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a collection, its texts and vectors, to one file.

    \b
    Examples:
      selfrag export papers.selfrag -c papers
    """
    from selfrag.index import maintenance

    opened = _open(collection)
    size = maintenance.export(opened, file)
    text = f"{opened.name}: {size / 2**20:.1f} MiB written to {file}"
    terminal.result({"collection": opened.name, "file": str(file), "bytes": size}, text, json, quiet)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `selfrag export` wrote.")],
    collection: CollectionName = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a collection from a file that `selfrag export` wrote. Nothing is embedded again.

    \b
    Examples:
      selfrag import papers.selfrag -c papers
    """
    from selfrag.index import maintenance

    opened = _open(collection, create=True)
    with terminal.waiting("reading", quiet or json):
        count = maintenance.import_file(opened, file)
    terminal.result({"collection": opened.name, "chunks": count}, f"{opened.name}: {count:,} chunks", json, quiet)

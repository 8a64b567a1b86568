"""Collection maintenance: statistics, checks, repair, removal, and moving collections between machines."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from selfrag.errors import CollectionError, InputError, LockedError
from selfrag.index import generations
from selfrag.index.catalog.catalog import Catalog
from selfrag.index.collection import Collection
from selfrag.index.locks import only_writer, writing_process
from selfrag.index.tantivy_index import TantivyIndex
from selfrag.index.vectors.brute_force import FILE as MATRIX


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection's statistics. ``vectors`` counts those in Chroma, ``pending`` those that it still lacks.

    ``consistent``: catalog, FTS index and Chroma agree; None while another process (``writer``) is writing. ``mend`` is the fix
    for the ``problems``, empty without any.
    """

    collection: str
    sources: int
    chunks: int
    vectors: int
    consistent: bool | None
    fingerprint: Mapping[str, object]
    problems: tuple[str, ...]
    mend: str
    skipped: tuple[tuple[str, str], ...]
    roots: tuple[str, ...]
    pending: int
    bytes: Mapping[str, int]
    chroma: str | None
    writer: int | None


def status(collection: Collection, thorough: bool = True) -> CollectionStatus:
    """Checks a collection; ``thorough`` compares every vector with the catalog, otherwise only the files' seals are checked.

    Raises CollectionError if the collection does not exist.
    """
    generation = collection.generation()
    with collection.opened(generation) as catalog:
        mirror = collection.mirror(catalog)
        writer = writing_process(collection.folder)
        counts = catalog.counts()
        problems = catalog.problems()
        damaged = bool(problems)
        if writer is None:
            problems += mirror.check() if thorough else filter(None, [mirror.damage()])
            problems += TantivyIndex(catalog).check() if thorough else []
            problems += [f"{counts.pending} vectors are not written yet"] if counts.pending else []
        sources = catalog.sources()
        return CollectionStatus(
            collection=collection.name,
            sources=counts.sources,
            chunks=counts.chunks,
            vectors=counts.chunks - counts.pending,
            consistent=None if writer is not None else not problems,
            fingerprint={**catalog.table("made_with"), **catalog.table("vectors")},
            problems=tuple(problems),
            mend=collection.fix("index --rebuild") if damaged else mirror.mend if problems else "",
            skipped=tuple((path, source.reason) for path, source in sorted(sources.items()) if source.reason),
            roots=tuple(catalog.roots()),
            pending=counts.pending,
            bytes={"catalog": catalog.path.stat().st_size, "vectors": generations.size(mirror.folder)},
            chroma=mirror.url,
            writer=writer,
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """A line about a collection; ``problem`` if its catalog cannot be read."""

    collection: str
    sources: int
    chunks: int
    bytes: int
    embedder: str
    problem: str | None = None


def overview(home: Path) -> list[Overview]:
    """Every collection in ``home``, without a check of its vectors."""
    return [_line(Collection(home, name)) for name in generations.names(home)]


def _line(collection: Collection) -> Overview:
    generation = collection.generation()
    try:
        with collection.opened(generation) as catalog:
            counts, made_with = catalog.counts(), catalog.table("made_with")
        return Overview(
            collection.name,
            counts.sources,
            counts.chunks,
            generations.size(collection.folder),
            str(made_with.get("embedder", "")),
        )
    except CollectionError as error:
        return Overview(collection.name, 0, 0, generations.size(collection.folder), "", error.message)


def repair(collection: Collection) -> int:
    """Rebuilds the vector store from the catalog, without embedding anything; returns the number of vectors.

    Raises CollectionError if the catalog itself is damaged, LockedError while another process writes.
    """
    generation = collection.generation()
    collection.close()
    with only_writer(collection.folder, collection.name):
        generations.sweep(collection.folder)
        with collection.opened(generation, writable=True) as catalog:
            if problems := catalog.problems():
                raise CollectionError(
                    f"The catalog of {collection.name!r} is damaged: {'; '.join(problems)}.", collection.fix("index --rebuild")
                )
            catalog.drop_unused()
            with collection.mirror(catalog).writing() as writer:
                writer.apply(rebuild=True)
            TantivyIndex(catalog).write(rebuild=True)
            return catalog.counts().chunks


def remove(collection: Collection, paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Removes these sources, or all below these folders, with everything stored of their text; returns their paths.

    Raises InputError for a path that the collection does not know.
    """
    generation = collection.generation()
    wanted = [os.path.abspath(path) for path in paths]
    with (
        only_writer(collection.folder, collection.name),
        collection.opened(generation, writable=True) as catalog,
    ):
        gone = _known_below(collection, catalog, wanted)
        with collection.mirror(catalog).writing():
            catalog.remove(gone)
            for path in wanted:
                catalog.drop_root(path)
        TantivyIndex(catalog).write(rebuild=True)
        catalog.drop_unused()
        catalog.drop_unused_contexts()
        catalog.compact()
        catalog.path.with_name(MATRIX).unlink(missing_ok=True)
        return gone


def _known_below(collection: Collection, catalog: Catalog, wanted: Sequence[str]) -> list[str]:
    known, roots = catalog.sources(), catalog.roots()
    found: set[str] = set()
    for path in wanted:
        below = {each for each in known if each == path or each.startswith(os.path.join(path, ""))}
        if not below and path not in roots:
            raise InputError(f"The collection {collection.name!r} knows nothing of {path}.", collection.fix("status"))
        found |= below
    return sorted(found)


def delete(collection: Collection) -> str | None:
    """Removes the whole collection; returns what could not be removed. Raises LockedError while another process writes to it."""
    generation = collection.generation()
    if (pid := writing_process(collection.folder)) is not None:
        raise LockedError(
            f"The collection {collection.name!r} is being written to by process {pid or 'unknown'}.", "wait for it to end"
        )
    collection.close()
    left = None
    try:
        with collection.opened(generation) as catalog:
            collection.mirror(catalog).drop_on_server()
    except CollectionError as error:  # a damaged catalog, or a server that is gone for good; it is to go all the same
        left = f"what a Chroma server has of it, if any, stays there: {error.message}"
    generations.delete(collection.folder)
    return left


def export(collection: Collection, file: Path) -> int:
    """Writes the collection, its vectors with it, to one file, a SQLite database; returns its size in bytes.

    Raises CollectionError if the file cannot be written.
    """
    generation = collection.generation()
    draft = file.with_name(file.name + ".part")
    draft.unlink(missing_ok=True)
    try:
        with closing(Catalog.open(generations.catalog_in(generation))) as catalog:
            catalog.db.execute("VACUUM INTO ?", (str(draft),))
        os.replace(draft, file)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise CollectionError(f"{file} cannot be written: {error}.", "choose another place, or free some space") from error
    return file.stat().st_size


def import_file(collection: Collection, file: Path) -> int:
    """Creates the collection from a file written by `export`; returns the number of chunks.

    Raises CollectionError if the collection exists already, InputError if the file is not an export.
    """
    if generations.current(collection.folder) is not None:
        raise CollectionError(f"There is a collection {collection.name!r} already.", f"selfrag import {file} -c OTHER")
    try:
        with closing(Catalog.open(file)) as catalog:
            if catalog.problems():
                raise InputError(f"{file} is damaged: {catalog.problems()[0]}.", "export it again")
    except CollectionError as error:
        raise InputError(f"{file} is not an exported collection: {error.message}", "selfrag export FILE") from error
    with only_writer(generations.make(collection.folder), collection.name):
        generations.sweep(collection.folder)
        generation = collection.folder / "g1"
        try:
            generation.mkdir()
            shutil.copyfile(file, generations.catalog_in(generation))
        except OSError as error:
            raise CollectionError(f"{generation} cannot be written: {error.strerror}.", "free some space") from error
        with collection.opened(generation, writable=True) as catalog:
            catalog.set_meta(id=uuid4().hex, mirror=None, words=None, chroma=collection.chroma_url or "")
            with collection.mirror(catalog).writing() as writer:
                writer.apply(rebuild=True)
            TantivyIndex(catalog).write(rebuild=True)
            generations.serve(collection.folder, generation)
            return catalog.counts().chunks

"""Turns a document's chunks into catalog rows: stable keys, and the text to embed and match.

The embedded text is title › headings, then the chunk's text. A title that is only the file's name is matched but not embedded, so
that moving or renaming a file never re-embeds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import PurePath

from selfrag.index import graph
from selfrag.index.catalog.rows import Entry
from selfrag.index.search.fulltext import words
from selfrag.ingest import Chunk, Document, matchable
from selfrag.ingest.formats.text import LABELS

Written = tuple[str, str]
"""What a model wrote about a chunk: its key in the catalog, and the text."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The entries of a file, and the texts to embed for them, by hash."""

    entries: tuple[Entry, ...]
    texts: Mapping[str, str]


def digest(*parts: str | bytes) -> str:
    """128 bits over ``parts``, hexadecimal."""
    state = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def index_chunks(
    path: str,
    document: Document,
    chunks: Sequence[Chunk],
    headings: bool,
    contexts: Sequence[Written] = (),
    triples: Sequence[Written] = (),
) -> Indexed:
    """``contexts``, one per chunk, are prepended to the embedded and matched text; with ``headings`` so are title and headings.
    ``triples``, one per chunk, give names for the graph.

    A chunk's key depends on the path, its text, and how many equal texts came before it in the file: it survives an edit
    elsewhere in the file.
    """
    labels = " ".join(value for key in LABELS & document.metadata.keys() for value in document.metadata[key])
    own = own_title(path, document) if headings else ""
    seen: Counter[str] = Counter()
    entries, texts = [], {}
    for number, chunk in enumerate(chunks):
        seen[chunk.text] += 1
        headers = [each.text for each in chunk.headers if each.start == 0]
        path_of_headings = " › ".join(filter(None, [own, *((*chunk.headings, *headers) if headings else ())]))
        context = " ".join(contexts[number][1].split()) if contexts else ""
        situation = "\n".join(filter(None, [path_of_headings, context]))
        text = matchable(f"{situation}\n{chunk.text}" if situation else chunk.text)
        name = digest(text)
        texts[name] = text
        head = f"{PurePath(path).name} {document.title if headings else ''} {situation} {labels}"
        entry = _entry(digest(path, chunk.text, str(seen[chunk.text])), chunk, name, head)
        names = graph.read_triples(triples[number][1], chunk.text) if triples else ()
        written = (each[number][0] for each in (contexts, triples) if each)
        entries.append(replace(entry, names=tuple(names), written=tuple(written)))
    return Indexed(tuple(entries), texts)


def _entry(key: str, chunk: Chunk, embedding: str, head: str) -> Entry:
    return Entry(
        key=key,
        text=chunk.text,
        headings=tuple(chunk.headings),
        headers=tuple(chunk.headers),
        start=chunk.start,
        stop=chunk.end,
        lines=chunk.lines,
        page=chunk.page,
        place=chunk.place,
        embedding=embedding,
        head=words(matchable(head)),
        body=words(matchable(chunk.text)),
    )


def own_title(path: str, document: Document) -> str:
    """The title if it comes from the document itself rather than from the file's name; otherwise empty."""
    named = document.title in (PurePath(path).stem, PurePath(path).name)
    says = document.title in document.metadata.get("title", ()) or any(each.title == document.title for each in document.headings)
    return document.title if says or not named else ""

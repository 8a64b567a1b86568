"""XML: feeds entry by entry, the text of drawings, everything else as source. Runs in the worker process."""

from __future__ import annotations

import re
from pathlib import PurePath

from lxml import etree

from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats import sheets
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.html import text_of
from selfrag.ingest.formats.package import local

_ENTRIES = ("item", "entry")
_FEEDS = ("rss", "feed", "RDF")


def read_xml(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Feeds (RSS, Atom) entry by entry, the text of pictures (SVG), other XML as source; in its declared encoding."""
    source = text_of(data)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8")
    try:
        root = etree.fromstring(source.text.encode("utf-8", "replace"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return Document(source.text, path.name, "code", notes=source.notes)
    name = local(root)
    if name in _FEEDS:
        return _feed(path, root, limits)
    if name == "Workbook":
        return sheets.read_workbook(path, root, limits)
    if name == "svg":
        found = Draft(limits)
        for each in root.iter():
            if local(each) in ("text", "title", "desc"):
                found.line(" ".join(readable("".join(each.itertext())).split()), each.sourceline or 1, tight=True)
        return found.document(path, "svg")
    return Document(source.text, path.name, "code", notes=source.notes)


def _feed(path: PurePath, root: etree._Element, limits: Limits) -> Document:
    found = Draft(limits)
    title = next((_inner(each) for each in root.iter() if local(each) == "title"), "")
    found.line(title, 1, 1)
    for entry in root.iter():
        if local(entry) not in _ENTRIES:
            continue
        parts = {local(each): _inner(each) for each in entry}
        text = next((parts[name] for name in ("encoded", "content", "description", "summary") if parts.get(name)), "")
        found.line(parts.get("title", ""), entry.sourceline or 1, 2)
        date = parts.get("pubDate") or parts.get("published") or parts.get("updated") or parts.get("date") or ""
        found.line("\n".join(filter(None, [date, text])), entry.sourceline or 1)
    return found.document(path, "feed", title)


def _inner(element: etree._Element) -> str:
    """The text of a feed's element, which may be HTML as text."""
    text = "".join(element.itertext())
    if re.search(r"<\w+[^>]*>|&\w+;", text):
        try:
            tree = etree.fromstring(f"<div>{text}</div>", etree.HTMLParser(no_network=True))
            text = "".join(tree.itertext()) if tree is not None else text
        except (etree.XMLSyntaxError, ValueError):
            pass
    return " ".join(readable(text).split())

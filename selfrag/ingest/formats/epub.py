"""Books (.epub): chapters in reading order, each by the reader of HTML pages. Runs in the worker process."""

from __future__ import annotations

import posixpath
from pathlib import PurePath

from lxml import etree

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft
from selfrag.ingest.formats.html import read_html
from selfrag.ingest.formats.package import Package, attribute, below, resolved

_PAGES = (".xhtml", ".html", ".htm", ".xml")


def read_epub(path: PurePath, data: bytes, limits: Limits) -> Document:
    """Citations have the chapter and the paragraph in it: ``Arrival ¶4``. No chunk crosses a chapter.

    Raises InputError for a book whose text is encrypted, or that has none.
    """
    package = Package(data, "an EPUB book")
    if "META-INF/encryption.xml" in package and _locked(package):
        raise InputError("a protected book (DRM): its text is encrypted")
    title, chapters = _contents(package)
    draft = Draft(limits)
    before = ""
    for number, name in enumerate(chapters, 1):
        try:
            chapter = read_html(PurePath(name), package.read(name), limits, book=True)
        except InputError as error:
            if "no text" in error.message or "empty" in error.message:
                continue  # a cover, a picture
            raise
        own = chapter.title if chapter.title not in (title, PurePath(name).stem) else ""
        draft.section(goes_on=own in ("", before))  # a chapter may be cut into files
        before = own
        draft.include(chapter, _label(chapter, name, title, number), below=1, numbered=True)
    return draft.document(path, "epub", readable(title) or path.stem)


def _label(chapter: Document, name: str, title: str, number: int) -> str:
    """The name of a chapter: its first heading, else its own title, else its number."""
    own = chapter.headings[0].title if chapter.headings else chapter.title
    return own[:80] if own and own not in (title, PurePath(name).stem) else f"chapter {number}"


def _contents(package: Package) -> tuple[str, list[str]]:
    """Title, and the parts in reading order; all pages by name if the book has no order."""
    every = sorted(name for name in package.names if name.lower().endswith(_PAGES[:3]) and not name.startswith("META-INF/"))
    book = _book(package)
    if book is None:
        return "", every
    root = package.xml(book)
    items = {attribute(each, "id"): each for each in below(root, "item")}
    order = [items[ref] for each in below(root, "itemref") if (ref := attribute(each, "idref")) in items]
    names = [resolved(posixpath.dirname(book), attribute(each, "href")) for each in order]
    title = " ".join(next((each.text or "" for each in below(root, "title")), "").split())
    return title, [name for name in names if name in package and name.lower().endswith(_PAGES)] or every


def _book(package: Package) -> str | None:
    if "META-INF/container.xml" in package:
        for each in below(package.xml("META-INF/container.xml"), "rootfile"):
            if attribute(each, "full-path") in package:
                return attribute(each, "full-path")
    return next((name for name in package.names if name.endswith(".opf")), None)


def _locked(package: Package) -> bool:
    """Whether anything other than fonts is encrypted."""
    root: etree._Element = package.xml("META-INF/encryption.xml")
    return any(attribute(each, "URI").lower().endswith(_PAGES) for each in below(root, "CipherReference"))

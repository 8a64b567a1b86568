"""Documents that are ZIP archives of XML: opened within limits, with their parts and the relations between them."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote

from lxml import etree

from selfrag.errors import InputError

_UNPACKED = 256 * 2**20
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, OverflowError, NotImplementedError, EOFError, RuntimeError, OSError)


def _packed(data: bytes) -> bytes:
    """A flat OpenDocument file, which holds all parts in one, as the archive that it is otherwise."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in ("content.xml", "styles.xml", "meta.xml"):
            archive.writestr(name, data)
    return out.getvalue()


class Package:
    """An open archive; ``kind`` is the file type's common name. Raises InputError if it is no archive, or too large unpacked."""

    def __init__(self, data: bytes, kind: str) -> None:
        self.kind = kind
        if data.startswith(_OLE):
            raise InputError(_ole_reason(data, kind))
        if data.lstrip()[:5] == b"<?xml" and b"opendocument" in data[:4096]:
            data = _packed(data)
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
            entries = self._archive.infolist()
        except _BROKEN as error:
            raise InputError(f"damaged, or not {kind}: {str(error).lower()}") from None
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > _UNPACKED:
            raise InputError(f"unpacks to {unpacked / 2**20:.0f} MiB; the limit is {_UNPACKED / 2**20:.0f} MiB")
        self.names = [entry.filename for entry in entries]
        self._known = set(self.names)
        if "META-INF/manifest.xml" in self._known and b"encryption-data" in self.read("META-INF/manifest.xml"):
            raise InputError("encrypted: it needs a password")

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def read(self, name: str) -> bytes:
        """The bytes of a part. Raises InputError if it is missing or damaged."""
        try:
            return self._archive.read(name)
        except KeyError:
            raise InputError(f"damaged, or not {self.kind}: it lacks {name}") from None
        except _BROKEN as error:
            if "password" in str(error):
                raise InputError("encrypted: it needs a password") from None
            raise InputError(f"damaged: {name} cannot be unpacked: {str(error)[:100].lower()}") from None

    def xml(self, name: str) -> etree._Element:
        """The root of a part. Entities are not expanded and nothing is loaded from elsewhere."""
        try:
            root = etree.fromstring(self.read(name), _parser())
        except (etree.XMLSyntaxError, ValueError) as error:
            raise InputError(f"damaged: {name} is not well-formed: {str(error)[:150]}") from None
        if root is None:
            raise InputError(f"damaged: {name} is empty")
        return root

    def related(self, name: str) -> dict[str, tuple[str, str]]:
        """What a part refers to by relationship id: the last word of the relationship's type, and the other part's name."""
        folder, file = posixpath.split(name)
        relations = posixpath.join(folder, "_rels", f"{file}.rels")
        if relations not in self:
            return {}
        found = {}
        for each in self.xml(relations):
            target, kind = each.get("Target") or "", (each.get("Type") or "").rpartition("/")[2]
            if each.get("TargetMode") != "External":
                found[each.get("Id") or ""] = (kind, resolved(folder, target))
        return found

    def main(self, fallback: str) -> str:
        """The part that the package is about."""
        found = next((target for kind, target in self.related("").values() if kind == "officeDocument"), fallback)
        return found if found in self else fallback

    def property(self, name: str) -> str:
        """A property of Dublin Core, such as ``title``, in one line; empty where the file has none."""
        part = next((target for kind, target in self.related("").values() if kind == "core-properties"), "docProps/core.xml")
        if part not in self:
            return ""
        return " ".join(next((each.text or "" for each in self.xml(part) if local(each) == name), "").split())


def resolved(folder: str, target: str) -> str:
    """The name of the part that ``target`` refers to from ``folder``."""
    path = unquote(target.partition("#")[0])
    return posixpath.normpath(path.lstrip("/") if path.startswith("/") else posixpath.join(folder, path))


def local(element: etree._Element) -> str:
    """The name of an element without its namespace: transitional and strict documents differ only in that. None for comments."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: etree._Element | None, name: str, default: str = "") -> str:
    """An attribute by its name without namespace."""
    if element is None:
        return default
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), default)


def relation(element: etree._Element) -> str:
    """The relationship id of an element that also has an ``id`` of its own, without a prefix."""
    return next((value for key, value in element.attrib.items() if key.endswith("}id")), "")


def children(element: etree._Element | None, *names: str) -> Iterator[etree._Element]:
    """The children of these names, all of them if none is given."""
    for child in () if element is None else element:
        if not names or local(child) in names:
            yield child


def child(element: etree._Element | None, *path: str) -> etree._Element | None:
    """The first child of the first name, its first child of the second name, and so on."""
    for name in path:
        element = next(children(element, name), None)
    return element


def below(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """All elements under ``element`` of these names, in document order."""
    return (each for each in element.iter() if local(each) in names)


_WORDS = re.compile(rb"E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0")


def _ole_reason(data: bytes, kind: str) -> str:
    if _WORDS.search(data):
        return "encrypted: it needs a password"
    return f"an old binary Office file, not {kind}, whatever its name says; save it in the new format"


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)

"""What kind of document a file is by its content."""

from __future__ import annotations

import io
import mimetypes
import zipfile

# fmt: off
_PARTS = {"word/": ".docx", "ppt/": ".pptx", "xl/": ".xlsx", "META-INF/container.xml": ".epub"}
_BEGINNINGS = (
    (b"%pdf-", ".pdf"), (b"{\\rtf", ".rtf"), (b"<!doctype html", ".html"), (b"<html", ".html"), (b"<?xml", ".xml"),
    (b"begin:vcalendar", ".ics"), (b"begin:vcard", ".vcf"), (b"webvtt", ".vtt"),
)
# fmt: on
_OFFICE = (".doc", ".docx", ".docm", ".dot", ".xls", ".xlsx", ".xlsm", ".ppt", ".pptx", ".odt", ".ods")
_OLE = b"\xd0\xcf\x11\xe0"


def suffix_of(data: bytes) -> str:
    """The extension for a file with this content; empty for plain text and unknown content."""
    if data.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                names = archive.namelist()
                kind = archive.read("mimetype").decode("ascii", "replace") if "mimetype" in names else ""
        except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, OSError, EOFError):
            return ""
        found = mimetypes.guess_extension(kind.strip()) if kind else None
        return found or next((suffix for part, suffix in _PARTS.items() if any(name.startswith(part) for name in names)), "")
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((suffix for beginning, suffix in _BEGINNINGS if start.startswith(beginning)), "")


def misnamed(suffix: str, data: bytes) -> str:
    """The extension for what programs save under an Office file's: a web page or a table in text as .xls, RTF as .doc; empty if
    ``suffix`` may be right."""
    if suffix not in _OFFICE or data.startswith(_OLE):
        return ""
    if data.startswith(b"PK\x03\x04"):
        return suffix_of(data) if suffix in (".doc", ".dot", ".ppt") else ""
    table = suffix.startswith(".xls") and b"\x00" not in data[:4096] and any(sign in data[:4096] for sign in (b"\t", b";", b","))
    return suffix_of(data) or (".csv" if table else "")

"""Selects the reader for a file, and applies the checks common to all: size, kind, emptiness, time."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import BinaryIO

from selfrag.errors import InputError
from selfrag.ingest.decode import looks_like_text
from selfrag.ingest.document import Document, Limits, Ocr
from selfrag.ingest.formats import delimited, json_text, text, unsupported
from selfrag.ingest.kinds import misnamed
from selfrag.ingest.sandbox import COMMAND, Reader, isolated

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n|/annex/objects/[A-Z0-9]+-[^\n]*\n?\Z")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

_CODE = """
.py .pyi .js .jsx .mjs .ts .tsx .java .kt .scala .go .rs .c .h .cc .cpp .cxx .hpp .cs .swift .m .rb .php .pl .pm .lua .r .jl .sh
.bash .zsh .fish .ps1 .sql .hs .ml .mli .ex .exs .erl .clj .dart .zig .nim .vue .svelte .css .scss .less .proto .graphql .tf
.toml .yaml .yml .ini .cfg .conf .xsd .cmake .mk .gradle .dockerfile
"""

READERS: dict[str, Reader] = {
    ".txt": text.read_text,
    ".text": text.read_text,
    ".log": text.read_text,
    ".md": text.read_markdown,
    **dict.fromkeys((".markdown", ".mdown", ".mkd", ".mdwn", ".mdx", ".qmd", ".rmd"), text.read_markdown),
    ".rst": text.read_rst,
    ".csv": delimited.read_csv,
    ".tsv": delimited.read_csv,
    ".json": json_text.read_json,
    ".geojson": json_text.read_json,
    ".jsonl": json_text.read_jsonl,
    ".ndjson": json_text.read_jsonl,
    ".html": isolated("html"),
    ".htm": isolated("html"),
    ".xhtml": isolated("html"),
    ".pdf": isolated("pdf"),
    ".docx": isolated("docx"),
    ".docm": isolated("docx"),
    ".dotx": isolated("docx"),
    ".dotm": isolated("docx"),
    ".pptx": isolated("pptx"),
    ".pptm": isolated("pptx"),
    ".ppsx": isolated("pptx"),
    ".potx": isolated("pptx"),
    ".xlsx": isolated("sheets.read_xlsx"),
    ".xlsm": isolated("sheets.read_xlsx"),
    ".xltx": isolated("sheets.read_xlsx"),
    ".xlsb": isolated("sheets.read_xlsx"),
    ".xls": isolated("sheets.read_xls"),
    ".ods": isolated("sheets.read_ods"),
    ".ots": isolated("sheets.read_ods"),
    ".odt": isolated("opendocument.read_odt"),
    ".ott": isolated("opendocument.read_odt"),
    ".fodt": isolated("opendocument.read_odt"),
    ".fods": isolated("sheets.read_ods"),
    ".fodp": isolated("opendocument.read_odp"),
    ".odp": isolated("opendocument.read_odp"),
    ".odg": isolated("opendocument.read_odp"),
    ".epub": isolated("epub"),
    ".eml": isolated("mail.read_eml"),
    ".emlx": isolated("mail.read_eml"),
    ".mbox": isolated("mail.read_mbox"),
    ".mbx": isolated("mail.read_mbox"),
    ".mhtml": isolated("mail.read_mhtml"),
    ".mht": isolated("mail.read_mhtml"),
    ".msg": isolated("mail.read_msg"),
    ".ipynb": isolated("notebook"),
    ".rtf": isolated("rtf"),
    ".tex": isolated("latex"),
    ".latex": isolated("latex"),
    ".org": isolated("markup.read_org"),
    ".adoc": isolated("markup.read_adoc"),
    ".asciidoc": isolated("markup.read_adoc"),
    ".srt": isolated("subtitles"),
    ".vtt": isolated("subtitles"),
    ".ics": isolated("cards"),
    ".vcf": isolated("cards"),
    ".vcard": isolated("cards"),
    ".xml": isolated("xml"),
    ".svg": isolated("xml"),
    ".rss": isolated("xml"),
    ".atom": isolated("xml"),
    **dict.fromkeys(_CODE.split(), text.read_code),
}
"""Readers by file name extension. A file with another extension, or none, is read as text if it looks like text."""

PICTURED = frozenset(("pdf", "ocr", "mail", "pptx", "docx"))
"""The readers (`Document.reader`) of files that may hold pages without text or other files: OCR changes what they give."""

_CONVERTERS: dict[str, str] = {}
_PICTURES = frozenset((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"))
_OCR: list[Ocr] = ["auto"]


def use_ocr(mode: Ocr) -> None:
    """Sets OCR from now on: for pictures and pages without text (auto), for all pages (always), or never."""
    _OCR[0] = mode


def recognises() -> str:
    """The OCR engine in use; empty if none is installed or allowed."""
    return "" if _OCR[0] == "never" else installed()


def installed() -> str:
    """The OCR engine that is installed; empty if there is none."""
    return "rapidocr" if find_spec("rapidocr") else "tesseract" if shutil.which("tesseract") else ""


def keeps_recognised(before: object) -> bool:
    """Whether text recognised ``before`` is kept although no engine is installed now: OCR was not switched off."""
    return before is not None and _OCR[0] != "never" and not installed()


def use_converters(commands: Mapping[str, str]) -> None:
    """Sets commands that convert files with these extensions (``.wpd``) from now on; they print the text of ``{file}``."""
    _CONVERTERS.clear()
    _CONVERTERS.update({suffix.lower(): command for suffix, command in commands.items()})


def fingerprint() -> dict[str, object]:
    """The settings that chunks depend on, besides the readers' version: the converters, and the OCR engine if there is one."""
    found: dict[str, object] = {"converters": dict(sorted(_CONVERTERS.items()))} if _CONVERTERS else {}
    return {**found, "ocr": f"{recognises()} {_OCR[0]}"} if recognises() else found


def _reader(suffix: str) -> Reader | None:
    command = _CONVERTERS.get(suffix)
    if command is None and suffix in _PICTURES and recognises():
        return isolated("ocr.read_picture")
    return isolated(COMMAND + command) if command else READERS.get(suffix)


def supported(path: Path) -> bool:
    """Whether there is a reader for this file: by its extension, or else by its first bytes."""
    if _reader(path.suffix.lower()):
        return True
    try:
        with _opened(path) as file:
            return looks_like_text(file.read(8192))
    except (InputError, OSError):
        return False


def read(path: Path, limits: Limits = Limits()) -> Document:  # noqa: B008 (frozen)
    """The document in this file. Raises InputError with the reason, to be shown after the file's name."""
    return parse(path, load(path, limits), limits)


def load(path: Path, limits: Limits = Limits()) -> bytes:  # noqa: B008 (frozen)
    """The bytes of a regular file within the size limit, so that what is hashed is what is parsed. Raises InputError."""
    try:
        with _opened(path) as file:
            data = file.read(limits.bytes + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"cannot be opened: {(error.strerror or str(error)).lower()}") from error
    if len(data) > limits.bytes:
        raise InputError(f"too large: {max(size, len(data)) / 2**20:.0f} MiB, the limit is {limits.bytes / 2**20:.0f} MiB")
    return data


def parse(path: PurePath, data: bytes, limits: Limits = Limits()) -> Document:  # noqa: B008 (frozen)
    """The document in ``data``, by the reader for the name ``path``; the file itself is not opened. Raises InputError."""
    if not data.strip():
        raise InputError("empty")
    if pointer := _POINTER.match(data[:200]):
        kind, command = ("Git LFS", "git lfs pull") if pointer[0].startswith(b"version") else ("git-annex", "git annex get")
        raise InputError(f"a {kind} pointer; the file itself is not here, `{command}` fetches it")
    limits = replace(limits, ocr=_OCR[0] if recognises() else "never")
    suffix = path.suffix.lower()
    found = "" if suffix in _CONVERTERS else misnamed(suffix, data)
    reader = _reader(found or suffix)
    if reader is None and (reason := unsupported.what(path, data)):
        raise InputError(reason)
    document = _storable((reader or text.read_text)(path, data, limits))
    if found:
        document = replace(document, notes=(f"{found} by its content", *document.notes))
    if len(document.text) > limits.characters:
        raise InputError(f"too much text: {len(document.text):,} characters, the limit is {limits.characters:,}")
    if not document.text[document.body :].strip():
        raise InputError("no text in it")
    return document


def _storable(document: Document) -> Document:
    """Replaces characters that databases and terminals reject with U+FFFD, one for one, so that offsets stay."""
    strings = [document.text, document.title, *(each.title for each in document.headings), *sum(document.metadata.values(), ())]
    if not any(_UNSTORABLE.search(each) for each in (*strings, *document.metadata)):
        return document
    return replace(
        document,
        text=_mended(document.text),
        title=_mended(document.title),
        headings=tuple(replace(each, title=_mended(each.title)) for each in document.headings),
        metadata={_mended(key): tuple(map(_mended, values)) for key, values in document.metadata.items()},
    )


def _mended(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def _opened(path: Path) -> BinaryIO:
    # Not blocking: a named pipe without a writer would otherwise wait for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise InputError("not a regular file")
    return file

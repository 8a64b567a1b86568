"""Documents given for one question: a file, standard input (``-``), or the address of a page."""

from __future__ import annotations

import mimetypes
import os
import sys
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import httpx

from selfrag._util import is_url
from selfrag.errors import InputError
from selfrag.ingest.decode import declared
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.kinds import suffix_of
from selfrag.ingest.readers import READERS, load, parse

_SECONDS = 30.0
_REDIRECTS = 5
_AGENT = "selfrag (reads pages that its user names)"
# fmt: off
_TYPES = {
    "text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf", "text/markdown": ".md",
    "application/json": ".json", "text/csv": ".csv", "application/xml": ".xml", "text/xml": ".xml",
    "application/epub+zip": ".epub", "application/rss+xml": ".rss",
    "application/atom+xml": ".atom", "text/plain": ".txt", "message/rfc822": ".eml",
}
# fmt: on


def read_given(source: str, stdin: BinaryIO | None = None, limits: Limits = Limits()) -> Document:  # noqa: B008 (frozen)
    """The document that ``source`` names; of a page the main content. Raises InputError, naming the source and the reason."""
    reading: Callable[[], Document] = lambda: _file(source, limits)  # noqa: E731
    if source == "-":
        reading = lambda: _stdin(stdin or sys.stdin.buffer, limits)  # noqa: E731
    elif is_url(source):
        reading = lambda: _page(source, limits)  # noqa: E731
    try:
        return reading()
    except InputError as error:
        raise InputError(f"{'stdin' if source == '-' else source} cannot be read: {error.message}", error.hint) from None


def _file(source: str, limits: Limits) -> Document:
    path = Path(source)
    if path.is_dir():
        raise InputError("it is a folder", f"selfrag index {source}")
    if not os.path.lexists(path):
        raise InputError("there is no such file")
    return parse(path, load(path, limits), limits)


def _stdin(stream: BinaryIO, limits: Limits) -> Document:
    data = stream.read(limits.bytes + 1)
    if len(data) > limits.bytes:
        raise InputError(f"more than {limits.bytes / 2**20:.0f} MiB", "save it to a file and index that")
    return parse(PurePath(f"stdin{suffix_of(data)}"), data, limits)


def _page(url: str, limits: Limits) -> Document:
    """The page behind a link; redirects are followed. Raises InputError if the request fails, is refused, or the page is too
    large.
    """
    try:
        with (
            httpx.Client(follow_redirects=True, max_redirects=_REDIRECTS, timeout=_SECONDS) as client,
            client.stream("GET", url, headers={"User-Agent": _AGENT}) as response,
        ):
            if response.status_code >= 400:
                raise InputError(f"the server answers {response.status_code} {response.reason_phrase}".rstrip())
            data = _body(response, limits.bytes)
    except httpx.HTTPError as error:
        raise InputError(str(error) or type(error).__name__) from None
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError(f"not an address that can be asked: {error}") from None
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (label := response.charset_encoding) and kind.startswith("text/"):
        data = declared(data, label).text.encode()
    return parse(PurePath(f"{PurePath(name).stem or urlsplit(url).hostname}{_suffix(kind, name, data)}"), data, limits)


def _body(response: httpx.Response, limit: int) -> bytes:
    pieces: list[bytes] = []
    length = 0
    for piece in response.iter_bytes():
        length += len(piece)
        if length > limit:
            raise InputError(f"more than {limit / 2**20:.0f} MiB")
        pieces.append(piece)
    return b"".join(pieces)


def _suffix(kind: str, name: str, data: bytes) -> str:
    """The extension that selects a page's reader: by its type, or if that is unspecific, by its name or content."""
    named = PurePath(name).suffix.lower()
    known = _TYPES.get(kind) or mimetypes.guess_extension(kind) or ""
    if kind in ("text/plain", "application/octet-stream", "binary/octet-stream", "application/zip", "") or known not in READERS:
        return named if named in READERS else suffix_of(data) or known
    return known

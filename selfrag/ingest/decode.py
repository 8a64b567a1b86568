"""Bytes to text: which encoding a file is in, and whether it is text at all."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

from selfrag.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 32 * 1024
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decode(data: bytes) -> str:
    """The text of ``data``, with ``\\n`` for every newline and without a byte-order mark.

    UTF-8 first; then a guess from the first 32 KiB (charset-normalizer), for every text that is not UTF-8. A file that is
    UTF-8 but for a stray byte in a thousand keeps its text, the stray bytes as U+FFFD.

    Raises InputError if it is no text, or its encoding cannot be told.
    """
    return _newlines(_decode(data))


def looks_like_text(data: bytes) -> bool:
    """Whether the beginning of a file may be text: it has a byte-order mark, or hardly any control characters."""
    if data.startswith(tuple(mark for mark, _ in _MARKS)):
        return True
    return b"\x00" not in data and len(_CONTROL.findall(data)) * 100 <= len(data)


def _decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(data, encoding)
    if not looks_like_text(data[:_SAMPLE]):
        raise InputError("binary, not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        repaired = data.decode("utf-8", errors="replace")
        if repaired.count("\ufffd") * 1000 <= len(repaired):
            return repaired
        return _strictly(data, _guess(data, error))


def _guess(data: bytes, error: UnicodeDecodeError) -> str:
    around = data[max(0, error.start - _SAMPLE // 2) :][:_SAMPLE]  # where it is more than ASCII
    best = from_bytes(around).best()
    if best is None:
        raise InputError("text in an encoding that cannot be told; save it as UTF-8")
    return best.encoding


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"text that is not valid {encoding.removesuffix('-sig')} (byte {error.start}); save it as UTF-8"
        ) from None


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

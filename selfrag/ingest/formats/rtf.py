"""Rich Text Format: striprtf's plain text, as paragraphs. Runs in the worker process."""

from __future__ import annotations

import re
from pathlib import PurePath

from striprtf.striprtf import rtf_to_text

from selfrag.errors import InputError
from selfrag.ingest.clean import readable
from selfrag.ingest.document import Document, Limits
from selfrag.ingest.formats.draft import Draft

_TITLE = re.compile(r"\{\\title ([^{}\\]{1,200})\}")
_BINARY = re.compile(rb"\{\\\*?\\?(?:pict|objdata)[^{}]{2000,}\}")
_OPTIONAL_HYPHEN = re.compile(r"(?<!\\)\\-")


def read_rtf(path: PurePath, data: bytes, limits: Limits) -> Document:
    """A citation names the paragraph: ``¶12``."""
    if not data.lstrip().startswith(b"{\\rtf"):
        raise InputError("not RTF, whatever its name says")
    source = _BINARY.sub(b"", data).decode("latin-1")
    source = _OPTIONAL_HYPHEN.sub("", source)
    try:
        text: str = rtf_to_text(source, errors="replace")  # type: ignore[no-untyped-call]
    except (ValueError, LookupError, IndexError, TypeError) as error:
        raise InputError(f"damaged RTF: {str(error)[:150]}") from None
    draft = Draft(limits)
    number = 0
    for line in readable(text).split("\n"):
        cells = [cell.strip() for cell in line.split("|")]
        paragraph = " | ".join(cells).rstrip(" |") if len(cells) > 2 else line.strip()
        if paragraph:
            number += 1
            draft.add(paragraph, "¶", str(number))
    title = _TITLE.search(source)
    return draft.document(path, "rtf", title[1].strip() if title else "")

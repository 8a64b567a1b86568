"""Files to documents to chunks.

document = read(path)        # the text of a file and where it lies in the file; InputError says why not
for chunk in split(document):
    chunk.text, chunk.headings, chunk.lines, chunk.page, chunk.place
"""

from __future__ import annotations

from selfrag.ingest.clean import matchable
from selfrag.ingest.document import Chunk, Document, Heading, Limits, Place, Span
from selfrag.ingest.readers import PICTURED, fingerprint, keeps_recognised, load, parse, read, supported, use_converters, use_ocr
from selfrag.ingest.split import CAPACITY, WORDS, capacity_of, split

FINGERPRINT = {"readers": "7", "cleaner": "2", "chunker": "structure 3"}
"""Versions of what chunks depend on; increased whenever the same file would give other chunks."""

__all__ = [
    "CAPACITY",
    "FINGERPRINT",
    "PICTURED",
    "WORDS",
    "Chunk",
    "Document",
    "Heading",
    "Limits",
    "Place",
    "Span",
    "capacity_of",
    "fingerprint",
    "keeps_recognised",
    "load",
    "matchable",
    "parse",
    "read",
    "split",
    "supported",
    "use_converters",
    "use_ocr",
]

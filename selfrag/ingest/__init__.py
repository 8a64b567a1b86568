"""Files to documents to chunks.

document = read(path)        # the text of a file and where it lies in the file; InputError says why not
for chunk in split(document):
    chunk.text, chunk.headings, chunk.lines, chunk.page, chunk.place
"""

from __future__ import annotations

from selfrag.ingest.clean import matchable
from selfrag.ingest.document import Chunk, Document, Heading, Limits, Place
from selfrag.ingest.readers import load, parse, read, supported
from selfrag.ingest.split import CAPACITY, split

FINGERPRINT = {"readers": "2", "cleaner": "1", "chunker": f"semantic-text-splitter {CAPACITY} 1"}
"""Versions of what chunks depend on; raised when the same file would give other chunks."""

__all__ = [
    "FINGERPRINT",
    "Chunk",
    "Document",
    "Heading",
    "Limits",
    "Place",
    "load",
    "matchable",
    "parse",
    "read",
    "split",
    "supported",
]

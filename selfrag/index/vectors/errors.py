"""Errors of a vector store, in process or behind a server."""

from __future__ import annotations


class VectorError(Exception):
    """Chroma failed: its files are damaged or missing, or, if ``silent``, its server does not answer."""

    def __init__(self, message: str, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent

"""What goes wrong with a vector store, whichever way it is reached."""

from __future__ import annotations


class VectorError(Exception):
    """Chroma could not do it: its files are damaged or gone, or, if ``silent``, its server does not answer."""

    def __init__(self, message: str, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent

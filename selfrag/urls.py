"""What is an address on the web, and not the name of a file, a model or an engine."""

from __future__ import annotations


def is_url(text: str) -> bool:
    """Whether ``text`` begins with http:// or https://."""
    return text.startswith(("http://", "https://"))

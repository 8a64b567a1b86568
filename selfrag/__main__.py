"""`python -m selfrag`."""

from __future__ import annotations

from selfrag.cli import main

main()

"""Limits the questions that run and wait at the same time, and counts their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from selfrag.errors import EngineBusy


@dataclass
class Counts:
    """Questions since the start."""

    running: int = 0
    waiting: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0


class Queue:
    """Runs ``running`` questions at once, in order; ``waiting`` more wait, and further ones are refused."""

    def __init__(self, running: int = 4, waiting: int = 64) -> None:
        self.waiting = waiting
        self.counts = Counts()
        self._turns = asyncio.Semaphore(running)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises EngineBusy at once where too many wait."""
        if self._turns.locked() and self.counts.waiting >= self.waiting:
            self.counts.refused += 1
            raise EngineBusy(f"{self.counts.waiting} questions are waiting already", "try again in a moment")
        self.counts.waiting += 1
        try:
            await self._turns.acquire()
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            raise
        finally:
            self.counts.waiting -= 1
        self.counts.running += 1
        try:
            yield
            self.counts.answered += 1
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            raise
        except Exception:
            self.counts.failed += 1
            raise
        finally:
            self.counts.running -= 1
            self._turns.release()

"""Choices that look random and are the same everywhere, for ever."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

T = TypeVar("T")


class Picker:
    """A stream of choices; random.Random promises the same choices only within a version."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._drawn = 0

    def _draw(self) -> bytes:
        self._drawn += 1
        return hashlib.sha256(f"{self._seed}/{self._drawn}".encode()).digest()

    def number(self, low: int, high: int) -> int:
        """Pick from low to high, both included."""
        return low + int.from_bytes(self._draw()[:6], "big") % (high - low + 1)

    def one(self, choices: Sequence[T]) -> T:
        """Pick one of the choices."""
        return choices[self.number(0, len(choices) - 1)]

    def chance(self, percent: int) -> bool:
        """Say yes in so many of a hundred cases."""
        return self.number(1, 100) <= percent

    def identifier(self, word: str) -> str:
        """Make an identifier of one of the kinds that are in use."""
        drawn = self._draw()
        return self.one(
            (
                str(uuid.UUID(bytes=drawn[:16], version=4)),
                str(uuid.UUID(bytes=drawn[:16], version=4)),
                drawn[:10].hex(),
                f"{word}_{drawn.hex()[:6]}",
                str(int.from_bytes(drawn[:3], "big")),
            )
        )

    def moment(self) -> datetime:
        """Pick a time within ten years, on a whole or half hour more often than not."""
        start = datetime(2024, 1, 1, tzinfo=UTC)
        if self.chance(60):
            return start + timedelta(minutes=30 * self.number(0, 175_000))
        return start + timedelta(seconds=self.number(0, 315_000_000))

    def duration(self) -> timedelta:
        """Pick a duration as they are common in events and reports."""
        return timedelta(minutes=self.one((1, 5, 10, 15, 15, 30, 30, 60, 60, 120, 240)))

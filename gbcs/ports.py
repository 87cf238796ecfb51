"""What the outside world lends to the protocol logic: clock, randomness, signer, journal.

Live code passes ``time.time`` and ``os.urandom``; a simulation passes its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Clock: TypeAlias = Callable[[], float]
"""The wall clock: seconds since 1970-01-01T00:00:00Z."""

Randomness: TypeAlias = Callable[[int], bytes]
"""Returns that many unpredictable octets."""

JournalValue: TypeAlias = str | int | float | bool | bytes | None


class Signer(Protocol):
    """Signs with one ECDSA P-256 key, wherever that key lives."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature of data (SHA-256) as raw r || s, 64 octets."""
        ...


class Journal(Protocol):
    """Writes down what happens, for traces and studies. Never gets keys."""

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Write one event; octets are given as bytes."""
        ...


class NullJournal:
    """A journal that keeps nothing."""

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Drop the event."""

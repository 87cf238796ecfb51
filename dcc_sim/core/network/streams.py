"""What the network needs of randomness: named streams that know nothing of each other."""

from __future__ import annotations

from typing import Protocol


class Stream(Protocol):
    """A source of random numbers of its own."""

    def random(self) -> float:
        """Return the next number, at least 0 and below 1."""
        ...


class Streams(Protocol):
    """Makes streams by name; one seed and one name always give the same numbers.

    So what happens on one link never changes the draws of another, whatever the order.
    """

    def stream(self, name: str) -> Stream:
        """Return the stream of this name, from its beginning."""
        ...

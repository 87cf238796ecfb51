"""Random numbers for the network model: as many independent streams as wanted from one seed."""

from __future__ import annotations

import hashlib

_NUMBER_OCTETS = 7
_SHIFT = 8 * _NUMBER_OCTETS - 53
_SCALE = 2.0**-53


class SeededStream:
    """Numbers made by hashing a name and a count: a stream is as small as its name.

    A hundred thousand hubs have several streams each; generators with a state of their own
    would need gigabytes.
    """

    __slots__ = ("_base", "_count")

    def __init__(self, seed: int, name: str) -> None:
        # The seed's decimal digits end at the slash: no two pairs give one base.
        self._base = f"{seed}/{name}/".encode()
        self._count = 0

    def random(self) -> float:
        """Return the next number, at least 0 and below 1, with 53 random bits."""
        text = self._base + str(self._count).encode()
        self._count += 1
        digest = hashlib.blake2b(text, digest_size=_NUMBER_OCTETS).digest()
        return (int.from_bytes(digest, "big") >> _SHIFT) * _SCALE


class SeededStreams:
    """Implements dcc_sim.core.network.Streams.

    Args:
        seed: any integer; the same one gives the same streams.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, name: str) -> SeededStream:
        """Return the stream of this name, from its beginning."""
        return SeededStream(self._seed, name)

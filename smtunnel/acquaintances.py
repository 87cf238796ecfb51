"""What the two ends know of each other: the capabilities of peers, and who knows ours."""

from __future__ import annotations

from dataclasses import replace

from smtunnel.errors import ControlInvalid, LocalError, StateError
from smtunnel.octets import Reader
from smtunnel.records import AbortCode, Capabilities


class Acquaintances:
    """Keeps the newest capabilities of each peer, and which of ours it was told."""

    __slots__ = ("_asked", "_known", "_told", "own")

    def __init__(self, own: Capabilities) -> None:
        """Begin knowing nobody.

        Args:
            own: what this end understands.
        """
        self.own = own
        self._known: dict[bytes, Capabilities] = {}
        # What a peer was told: its octets, so that a newer version of ours tells it again.
        self._told: dict[bytes, bytes] = {}
        self._asked: set[bytes] = set()

    def of(self, peer: bytes) -> Capabilities | None:
        """Return what a peer understands; None while that is not known."""
        return self._known.get(peer)

    def peers(self) -> list[bytes]:
        """Return those of whom it is known."""
        return list(self._known)

    def learn(self, peer: bytes, capabilities: Capabilities) -> bytes | None:
        """Take what a peer says it understands.

        Returns:
            What must be saved of it; None when it is known already.
        """
        if self._known.get(peer) == capabilities:
            return None
        self._known[peer] = capabilities
        return capabilities.build_body()

    def learn_limit(self, peer: bytes, code: AbortCode, detail: int) -> bytes | None:
        """Take what a peer could not decode as a lack of capability.

        Returns:
            What must be saved of it; None when it is known already.
        """
        known = self._known.get(peer, Capabilities())
        if code is AbortCode.WINDOW_TOO_LARGE:
            known = replace(known, window_bits=min(known.window_bits, detail))
        else:
            kept = tuple(number for number in known.dictionaries if number != detail)
            known = replace(known, dictionaries=kept)
        return self.learn(peer, known)

    def must_ask(self, peer: bytes) -> bool:
        """Tell, once, whether a peer is to be asked what it understands."""
        if peer in self._known or peer in self._asked:
            return False
        self._asked.add(peer)
        return True

    def knows_us(self, peer: bytes) -> bool:
        """Tell whether a peer was told our present capabilities."""
        return self._told.get(peer) == self.own.build_body()

    def told(self, peer: bytes) -> bytes:
        """Note that a peer was told our capabilities, and return what must be saved of that."""
        octets = self._told[peer] = self.own.build_body()
        return octets

    def restore_known(self, peer: bytes, saved: bytes) -> Capabilities:
        """Take over what learn returned, and return what it says.

        Raises:
            StateError: something else.
        """
        try:
            known = Capabilities.parse_untrusted(Reader(saved, "saved capabilities"))
        except (ControlInvalid, LocalError) as error:
            raise StateError(f"the capabilities saved of peer {peer.hex()}: {error}") from None
        self._known[peer] = known
        return known

    def restore_told(self, peer: bytes, saved: bytes) -> None:
        """Take over what told returned."""
        self._told[peer] = saved

"""What passes between the parties of a simulation, as one digest: the same run, the same octets."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter

from gbcs.ports import Clock, Journal, JournalValue

_HEAD = struct.Struct(">dHI")


class Tape:
    """SHA-256 over time, interface and octets of all that is said, in the order of saying.

    Args:
        clock: the simulation's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._digest = hashlib.sha256()
        self._messages: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()

    def write(self, interface: str, octets: bytes) -> None:
        """Take what passes an interface now.

        Args:
            interface: its name, with who speaks.
            octets: what is said.
        """
        name = interface.encode()
        self._digest.update(_HEAD.pack(self._clock(), len(name), len(octets)) + name)
        self._digest.update(octets)
        self._messages[interface] += 1
        self._octets[interface] += len(octets)

    @property
    def digest(self) -> str:
        """The digest of everything so far, in hex."""
        return self._digest.hexdigest()

    @property
    def messages(self) -> dict[str, int]:
        """How many messages passed each interface."""
        return dict(self._messages)

    @property
    def octets(self) -> dict[str, int]:
        """How many octets passed each interface."""
        return dict(self._octets)


class TapedJournal:
    """A journal that is on the tape, and may be written elsewhere, too.

    Args:
        tape: gets every event.
        component: whose journal it is.
        beside: gets every event as well.
    """

    def __init__(self, tape: Tape, component: str, beside: Journal | None) -> None:
        self._tape = tape
        self._interface = f"journal of {component}"
        self._beside = beside

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Write one event."""
        # Field values are plain: their repr is the same in every process.
        self._tape.write(self._interface, repr((event, fields)).encode())
        if self._beside is not None:
            self._beside.record(event, **fields)

"""Reading and building the octets of control records: numbers, lengths, nothing left over."""

from __future__ import annotations

from typing import Final

from smtunnel.errors import ControlInvalid, LocalError

MAX_LENGTH: Final = 0x7FFF
_LONG_FORM: Final = 0x80


def build_length(length: int) -> bytes:
    """Build a length: one octet below 128, else two with the top bit set.

    Raises:
        LocalError: the length is above 32767.
    """
    if length < _LONG_FORM:
        return bytes([length])
    if length > MAX_LENGTH:
        raise LocalError(f"a length of {length} octets is above {MAX_LENGTH}, the most allowed")
    return (length | _LONG_FORM << 8).to_bytes(2, "big")


class Reader:
    """Takes octets from the front of a body that came from outside."""

    __slots__ = ("_name", "_octets", "_place")

    def __init__(self, octets: bytes, name: str) -> None:
        """Begin at the first octet.

        Args:
            octets: the body.
            name: what it is, for messages.
        """
        self._octets = octets
        self._name = name
        self._place = 0

    @property
    def left(self) -> int:
        """How many octets are not taken yet."""
        return len(self._octets) - self._place

    def take(self, count: int, what: str) -> bytes:
        """Take that many octets.

        Raises:
            ControlInvalid: there are fewer.
        """
        if self.left < count:
            raise ControlInvalid(
                f"{self._name}: {what} at octet {self._place} needs {count} octets, "
                f"but only {self.left} are left"
            )
        start = self._place
        self._place += count
        return self._octets[start : self._place]

    def rest(self) -> bytes:
        """Take all that is left."""
        return self.take(self.left, "rest")

    def number(self, octets: int, what: str) -> int:
        """Take an unsigned number of that many octets.

        Raises:
            ControlInvalid: the body is too short.
        """
        return int.from_bytes(self.take(octets, what), "big")

    def counted(self, what: str) -> bytes:
        """Take a length and that many octets.

        Raises:
            ControlInvalid: the body is too short, or the length has two octets but needs one.
        """
        length = self.number(1, f"length of {what}")
        if length & _LONG_FORM:
            length = (length & ~_LONG_FORM) << 8 | self.number(1, f"length of {what}")
            if length < _LONG_FORM:
                raise ControlInvalid(
                    f"{self._name}: the length of {what} is {length} in two octets, "
                    "but below 128 it has one"
                )
        return self.take(length, what)

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            ControlInvalid: something is.
        """
        if self.left:
            raise ControlInvalid(
                f"{self._name}: {self.left} octets follow its end at octet {self._place}"
            )


def check_number(value: int, octets: int, what: str) -> None:
    """Check that a number fits its field.

    Raises:
        LocalError: it does not.
    """
    if not 0 <= value < 1 << 8 * octets:
        raise LocalError(f"{what} is {value}, which does not fit {octets} octets")

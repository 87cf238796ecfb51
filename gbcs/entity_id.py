"""The name of everything that takes part: an EUI-64."""

from __future__ import annotations

import re
from functools import total_ordering
from typing import NoReturn

from gbcs.errors import BuildError

ENTITY_ID_OCTETS = 8

_TEXT = re.compile(
    r"[0-9a-f]{16}|[0-9a-f]{2}(?:-[0-9a-f]{2}){7}|[0-9a-f]{2}(?::[0-9a-f]{2}){7}", re.I | re.ASCII
)


@total_ordering
class EntityId:
    """An EUI-64: eight octets that name an organisation or a device.

    Args:
        octets: the identifier, 8 octets, as it stands in GBCS messages and certificates.

    Raises:
        BuildError: not 8 octets.

    Source: GBCS 4.3, system titles are Entity Identifiers (EUI-64).
    """

    # No dataclass: readers of configuration files would take one for a table of its fields.
    __slots__ = ("_text", "octets")

    octets: bytes
    _text: str

    def __init__(self, octets: bytes) -> None:
        if not isinstance(octets, bytes) or len(octets) != ENTITY_ID_OCTETS:
            raise BuildError(
                f"an entity identifier is {ENTITY_ID_OCTETS} octets, not {octets!r}: "
                "use EntityId.parse for text"
            )
        object.__setattr__(self, "octets", octets)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("an EntityId cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("an EntityId cannot be changed")

    def __reduce__(self) -> tuple[type[EntityId], tuple[bytes]]:
        return EntityId, (self.octets,)

    def __eq__(self, other: object) -> bool:
        return self.octets == other.octets if isinstance(other, EntityId) else NotImplemented

    def __lt__(self, other: EntityId) -> bool:
        return self.octets < other.octets if isinstance(other, EntityId) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.octets)

    @classmethod
    def parse(cls, text: str) -> EntityId:
        """Read an EUI-64 from text in either case, with hyphens, with colons or with neither.

        Args:
            text: for example ``90-B3-D5-1F-30-01-00-00`` or ``90b3d51f30010000``.

        Returns:
            The identifier.

        Raises:
            BuildError: the text is not an EUI-64.
        """
        if not isinstance(text, str) or not _TEXT.fullmatch(text):
            raise BuildError(
                f"{text!r} is not an EUI-64: write 16 hexadecimal digits, "
                "for example 90-B3-D5-1F-30-01-00-00 or 90b3d51f30010000"
            )
        return cls(bytes.fromhex(text.replace("-", "").replace(":", "")))

    @property
    def hex(self) -> str:
        """Sixteen lower-case digits, as in file names."""
        return self.octets.hex()

    def __str__(self) -> str:
        # Kept: one identifier stands in many messages and log lines.
        try:
            return self._text
        except AttributeError:
            text = self.octets.hex("-").upper()
            object.__setattr__(self, "_text", text)
            return text

    def __repr__(self) -> str:
        return f"EntityId({str(self)!r})"

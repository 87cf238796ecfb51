"""What the reference signing service signs: three things of one supplier, each read whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dsrsp.http_signer import USE_ECS46A, USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF
from gbcs import CraFlag, EntityId
from gbcs.errors import FormatError
from gbcs.header import SignableMessage
from gbcs.messages import PreCommand, parse_untrusted
from gbcs.route_2b import parse_untrusted_unsigned_route_2b
from gbcs.route_2b_transcript import parse_untrusted_server_octets
from smtunnel import Originator
from smtunnel.carriers import ROUTE_2B
from smtunnel.errors import NotAFragment
from smtunnel.fragments import parse_untrusted_fragment
from smtunnel.pacing import Pace

_WINDOW_S: Final = 60.0


class RequestRefused(Exception):
    """A request for a signature is not granted; says why, with the HTTP status.

    Attributes:
        status: of the answer.
        told: what the audit is to tell of what was asked for, as far as it could be read.
    """

    def __init__(self, status: int, text: str, told: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.told = told or {}


@dataclass(frozen=True, slots=True)
class ToSign:
    """What is granted.

    Attributes:
        octets: what the signature is to cover.
        originator: in whose name it is.
        told: what the audit is to tell of it.
    """

    octets: bytes
    originator: EntityId
    told: dict[str, Any]


class SigningPolicy:
    """Says what is signed.

    Args:
        supplier_id: whose key signs.
        per_minute: for each use the most signatures in a minute; a use that is not here, or has 0,
            is refused always.
        message_octets: the longest message of route 2b, with its signature.
        pins: SHA-256 of the TLS certificates that a proof of route 2b may be for; empty: any.
    """

    def __init__(
        self,
        supplier_id: EntityId,
        *,
        per_minute: dict[str, int],
        message_octets: int,
        pins: frozenset[bytes] = frozenset(),
    ) -> None:
        self._supplier_id = supplier_id
        self._message_octets = message_octets
        self._pins = pins
        self._paces = {use: Pace(most, _WINDOW_S) for use, most in per_minute.items() if most}
        self._readers: dict[str, Callable[[bytes], ToSign]] = {
            USE_ECS46A: self._read_pre_command,
            USE_ROUTE_2B_MESSAGE: self._read_message,
            USE_ROUTE_2B_PROOF: self._read_proof,
        }

    def grant_untrusted(self, use: str, octets: bytes, now: float) -> ToSign:
        """Read what is to be signed, and count it.

        Args:
            use: what the signature is for.
            octets: all that it is to cover, in the form of its use.
            now: the time, in seconds.

        Raises:
            RequestRefused: it is not signed, or not now.
        """
        pace = self._paces.get(use)
        if pace is None:
            given = ", ".join(repr(known) for known in self._readers if known in self._paces)
            raise RequestRefused(403, f"signatures for {use!r} are not given, only for {given}")
        try:
            granted = self._readers[use](octets)
        except (FormatError, NotAFragment) as error:
            raise RequestRefused(403, f"the octets are no {use}: {error}") from None
        if granted.originator != self._supplier_id:
            text = f"its originator is {granted.originator}, this key is {self._supplier_id}'s"
            raise RequestRefused(403, text, granted.told)
        if pace.free_at(now) is not None:
            text = f"too many signatures for {use!r} in the last minute: ask again later"
            raise RequestRefused(429, text, granted.told)
        pace.count(now)
        return granted

    def _read_pre_command(self, octets: bytes) -> ToSign:
        message = parse_untrusted(octets)
        if not isinstance(message, PreCommand) or message.use_case != "ECS46a":
            raise RequestRefused(
                403, f"a {type(message).__name__} is not signed, only an ECS46a pre-command"
            )
        return ToSign(message.signed_part(), message.originator_id, _names(message))

    def _read_message(self, octets: bytes) -> ToSign:
        message = parse_untrusted_unsigned_route_2b(octets, max_message_octets=self._message_octets)
        told = _names(message) | {"octets": len(octets)}
        if message.cra_flag is not CraFlag.COMMAND:
            text = "a supplier sends commands: the CRA flag must be 01, not 03"
            raise RequestRefused(403, text, told)
        header = parse_untrusted_fragment(message.payload, ROUTE_2B).header
        if header.originator is not Originator.DSRSP:
            raise RequestRefused(403, "its payload says that a CEM has made it", told)
        return ToSign(message.signed_part(), message.originator_id, told)

    def _read_proof(self, octets: bytes) -> ToSign:
        transcript = parse_untrusted_server_octets(octets)
        pin = transcript.certificate_sha256
        told = {
            "originator": str(transcript.dsrsp),
            "target": str(transcript.device),
            "certificate_sha256": pin.hex(),
        }
        if self._pins and pin not in self._pins:
            text = f"the TLS certificate {pin.hex()} is none of those in route_2b_pins"
            raise RequestRefused(403, text, told)
        return ToSign(transcript.server_octets(), transcript.dsrsp, told)


def _names(message: SignableMessage) -> dict[str, Any]:
    return {
        "originator": str(message.originator_id),
        "target": str(message.target_id),
        "originator_counter": message.originator_counter,
    }

"""ECS200 "Operational Update": the uplink carrier's message, an alert with one text.

Source: GBCS 4.3, use case ECS200 (alert code 8F88).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from gbcs import layouts
from gbcs.date_time import GbcsDateTime
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.header import (
    MAX_MESSAGE_OCTETS,
    CraFlag,
    SignableMessage,
    check_integer,
    check_names,
    check_octets,
    header_values,
    signature_part,
)
from gbcs.layouts import SIGNATURE_OCTETS, is_printable_text, octet_count_of_length

MESSAGE_CODE_ECS200 = 0x0123
ALERT_CODE_8F88 = 0x8F88

# tag, transaction id, two titles, date-time, length of the other information
_OCTETS_BEFORE_OTHER_INFORMATION = 1 + 10 + 9 + 9 + 1 + 1


@dataclass(frozen=True, slots=True)
class Alert(SignableMessage):
    """An ECS200 "Operational Update": an alert with one text, from a device to its supplier.

    Args:
        originator_id: the device.
        target_id: the supplier.
        originator_counter: the device's counter, 0 to 2**64 - 1.
        text: printable ASCII (blank to tilde), up to 1062 characters with a supplementary
            remote party alone; the message may have `MAX_MESSAGE_OCTETS`.
        date_time: when it happened.
        supplementary_remote_party_id: who else gets the alert (here: the load controller).
        supplementary_remote_party_counter: only with a party.
        supplementary_originator_counter: only with the party's counter.
        alert_code: 8F88 for an operational update.
        signature: raw r || s, 64 octets; None as long as it is unsigned.

    Raises:
        BuildError: a field is out of range, or the message would be too long.

    Source: GBCS 4.3, use case ECS200; Grouping Header, other information.
    """

    use_case: ClassVar[str] = "ECS200"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    text: str
    date_time: GbcsDateTime
    supplementary_remote_party_id: EntityId | None
    supplementary_remote_party_counter: int | None = None
    supplementary_originator_counter: int | None = None
    alert_code: int = ALERT_CODE_8F88
    signature: bytes | None = None

    def __post_init__(self) -> None:
        check_names(self)
        if not isinstance(self.date_time, GbcsDateTime):
            raise BuildError(f"date_time must be a GbcsDateTime, not {self.date_time!r}")
        check_integer(self.alert_code, 16, "alert_code")
        self._check_supplementary()
        if self.signature is not None:
            check_octets(self.signature, SIGNATURE_OCTETS, "a signature")
        if not isinstance(self.text, str) or not is_printable_text(self.text):
            raise BuildError(
                f"alert text {self.text!r}: only printable ASCII, blank to tilde, may stand"
            )
        # Counted as if signed: an alert that cannot be signed is of no use.
        octets = self._octets_without_text() + len(self.text)
        if octets > MAX_MESSAGE_OCTETS:
            raise BuildError(
                f"the alert would have {octets} octets of {MAX_MESSAGE_OCTETS}: "
                f"shorten the text of {len(self.text)} characters by {octets - MAX_MESSAGE_OCTETS}"
            )

    def _check_supplementary(self) -> None:
        party = self.supplementary_remote_party_id
        counters = (self.supplementary_remote_party_counter, self.supplementary_originator_counter)
        if party is not None and not isinstance(party, EntityId):
            raise BuildError(f"supplementary_remote_party_id must be an EntityId, not {party!r}")
        present = [value is not None for value in (party, *counters)]
        if present != sorted(present, reverse=True):
            raise BuildError(
                "supplementary fields stand in order: a party, then its counter, then the "
                "originator's; none can stand without those before it"
            )
        for counter in counters:
            if counter is not None:
                check_integer(counter, 64, "a supplementary counter")

    def _other_information_octets(self) -> int:
        return 2 + 8 * sum(
            value is not None
            for value in (
                self.supplementary_remote_party_id,
                self.supplementary_remote_party_counter,
                self.supplementary_originator_counter,
            )
        )

    def _content_octets(self) -> int:
        # service tag to date-time are 26 octets with the text's tag
        return 26 + octet_count_of_length(len(self.text)) + len(self.text)

    def _octets_without_text(self) -> int:
        content_octets = self._content_octets()
        return (
            _OCTETS_BEFORE_OTHER_INFORMATION
            + self._other_information_octets()
            + octet_count_of_length(content_octets)
            + content_octets
            - len(self.text)
            + 1
            + SIGNATURE_OCTETS
        )

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature (00 when unsigned)."""
        return self.body() + signature_part(self.signature)

    def with_signature(self, signature: bytes) -> Alert:
        """Return the same message with this signature, 64 octets."""
        signed = replace(self, signature=signature)
        # The body is the same; what was built for signing need not be built again.
        object.__setattr__(signed, "_kept", self.body())
        return signed

    def _build(self) -> bytes:
        party = self.supplementary_remote_party_id
        return layouts.ALERT.build_body(
            {
                **header_values(self, CraFlag.ALERT, MESSAGE_CODE_ECS200),
                "other_information_length": self._other_information_octets(),
                "supplementary_remote_party_id": None if party is None else party.octets,
                "supplementary_remote_party_counter": self.supplementary_remote_party_counter,
                "supplementary_originator_counter": self.supplementary_originator_counter,
                "content_length": self._content_octets(),
                "alert_code": self.alert_code,
                "date_time": self.date_time.to_bytes(),
                "text_length": len(self.text),
                "text": self.text.encode("ascii"),
            }
        )


def make_alert(values: Mapping[str, Any]) -> Alert:
    """Make a Alert of what its layout read."""
    party = values["supplementary_remote_party_id"]
    try:
        text = values["text"].decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("alert text is not ASCII") from None
    return Alert(
        originator_id=EntityId(values["originator_id"]),
        target_id=EntityId(values["target_id"]),
        originator_counter=values["originator_counter"],
        text=text,
        date_time=GbcsDateTime.parse_untrusted(values["date_time"]),
        supplementary_remote_party_id=None if party is None else EntityId(party),
        supplementary_remote_party_counter=values["supplementary_remote_party_counter"],
        supplementary_originator_counter=values["supplementary_originator_counter"],
        alert_code=values["alert_code"],
        signature=values["signature"],
    )

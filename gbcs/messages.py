"""The GBCS messages of the tunnel's carriers: ECS46a and ECS200, built and parsed.

ECS46a "Set Auxiliary Controller Descriptions" goes down in four steps, each a
type of its own: the DCC makes a `PreCommand`, the supplier a
`SignedPreCommand`, the access control broker a `Command`; the device answers
with a `Response`. ECS200 "Operational Update" goes up as an `Alert`.

Encoding is canonical: what `parse_untrusted` accepts, ``to_bytes`` gives back
octet for octet, so that signatures are always checked over the octets as
received.

Source: GBCS 4.3 section 7 (message formats), use cases ECS46a and ECS200.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

from gbcs import layouts
from gbcs.date_time import GbcsDateTime
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.layouts import (
    FIRST_LABEL_OBIS,
    MAC_OCTETS,
    MAX_LABEL_CHARS,
    MAX_LABELS,
    SIGNATURE_OCTETS,
    Layout,
    is_printable_text,
    octet_count_of_length,
)

__all__ = [
    "ALERT_CODE_8F88",
    "MAX_LABELS",
    "MAX_LABEL_CHARS",
    "MAX_MESSAGE_OCTETS",
    "MESSAGE_CODE_ECS46A",
    "MESSAGE_CODE_ECS200",
    "Alert",
    "Command",
    "CraFlag",
    "DataAccessResult",
    "GbcsDateTime",
    "Label",
    "Message",
    "PreCommand",
    "Response",
    "SignedPreCommand",
    "layout_of",
    "parse_untrusted",
]

MESSAGE_CODE_ECS46A = 0x0053
MESSAGE_CODE_ECS200 = 0x0123
ALERT_CODE_8F88 = 0x8F88
MAX_MESSAGE_OCTETS = 1200

_CIPHERED = 0xDD
_GENERAL_SIGNING = 0xDF
_CRA_OFFSET = 2
_MESSAGE_CODE = slice(31, 33)
_ECS46A_COMMAND = (b"\x01", b"\x00\x53")
_ECS46A_RESPONSE = (b"\x02", b"\x00\x53")
_ECS200_ALERT = (b"\x03", b"\x01\x23")


class CraFlag(enum.IntEnum):
    """Whether a message is a command, a response or an alert.

    Source: GBCS 4.3 section 7, CRA Flag.
    """

    COMMAND = 1
    RESPONSE = 2
    ALERT = 3


class DataAccessResult(enum.IntEnum):
    """What became of one attribute of a command.

    Source: IEC 62056-5-3 (DLMS/COSEM), data-access-result.
    """

    SUCCESS = 0
    HARDWARE_FAULT = 1
    TEMPORARY_FAILURE = 2
    READ_WRITE_DENIED = 3
    OBJECT_UNDEFINED = 4
    OBJECT_CLASS_INCONSISTENT = 9
    OBJECT_UNAVAILABLE = 11
    TYPE_UNMATCHED = 12
    SCOPE_OF_ACCESS_VIOLATED = 13
    DATA_BLOCK_UNAVAILABLE = 14
    LONG_GET_ABORTED = 15
    NO_LONG_GET_IN_PROGRESS = 16
    LONG_SET_ABORTED = 17
    NO_LONG_SET_IN_PROGRESS = 18
    DATA_BLOCK_NUMBER_INVALID = 19
    OTHER_REASON = 0xFA


def _header_values(
    message: PreCommand | Response | Alert, cra_flag: CraFlag, message_code: int
) -> dict[str, Any]:
    return {
        "cra_flag": cra_flag,
        "originator_counter": message.originator_counter,
        "originator_id": message.originator_id.octets,
        "target_id": message.target_id.octets,
        "other_information_length": 2,
        "message_code": message_code,
        "invoke_id": message.originator_counter & 0xFFFFFF,
    }


def _signature_part(signature: bytes | None) -> bytes:
    return b"\x00" if signature is None else bytes((SIGNATURE_OCTETS,)) + signature


def _check_integer(value: object, bits: int, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise BuildError(f"{what} is {value!r}: it must be an integer from 0 to 2**{bits} - 1")


def _check_octets(value: object, octets: int, what: str) -> None:
    if not isinstance(value, bytes) or len(value) != octets:
        raise BuildError(f"{what} must be {octets} octets, not {value!r}")


def _check_names(message: PreCommand | Response | Alert) -> None:
    for what in ("originator_id", "target_id"):
        if not isinstance(getattr(message, what), EntityId):
            raise BuildError(f"{what} must be an EntityId, not {getattr(message, what)!r}")
    _check_integer(message.originator_counter, 64, "originator_counter")


@dataclass(frozen=True, slots=True)
class Label:
    """The description of one auxiliary controller.

    Args:
        index: which controller, 1 to 5.
        text: 1 to 22 printable ASCII characters (blank to tilde).

    Raises:
        BuildError: index or text is out of range.

    Source: DUIS 5.4 SwitchDescription; GBCS 4.3 use case ECS46a.
    """

    index: int
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.index, int) or not 1 <= self.index <= MAX_LABELS:
            raise BuildError(f"label index {self.index!r}: it must be 1 to {MAX_LABELS}")
        text = self.text
        if not isinstance(text, str) or not 1 <= len(text) <= MAX_LABEL_CHARS:
            raise BuildError(
                f"label {self.index} is {text!r}: it must have 1 to {MAX_LABEL_CHARS} characters; "
                "leave the label out to leave it as it is"
            )
        if not is_printable_text(text):
            raise BuildError(
                f"label {self.index} is {text!r}: only printable ASCII, blank to tilde, may stand"
            )


@dataclass(frozen=True, slots=True)
class PreCommand:
    """An unsigned ECS46a command, as the DCC makes it of a service request.

    Args:
        originator_id: the supplier that sends the command.
        target_id: the device.
        originator_counter: the supplier's counter, 0 to 2**64 - 1.
        labels: 1 to 5, indices rising.

    Raises:
        BuildError: a field is out of range.

    Source: GBCS 4.3 use case ECS46a.
    """

    use_case: ClassVar[str] = "ECS46a"
    service_reference_variant: ClassVar[str] = "6.14.1"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        _check_names(self)
        if not isinstance(self.labels, tuple) or not all(
            isinstance(label, Label) for label in self.labels
        ):
            raise BuildError(f"labels must be a tuple of Label, not {self.labels!r}")
        indices = [label.index for label in self.labels]
        if not indices:
            raise BuildError("an ECS46a command needs at least one label")
        if any(one >= next_ for one, next_ in pairwise(indices)):
            raise BuildError(f"label indices {indices} must rise, each at most once")

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the content, nothing after it."""
        return layouts.PRE_COMMAND.build_body(self._values())

    def signed_part(self) -> bytes:
        """Return the octets that the supplier's signature covers: all after the tag DF."""
        return self.to_bytes()[1:]

    def _values(self) -> dict[str, Any]:
        count = len(self.labels)
        return {
            **_header_values(self, CraFlag.COMMAND, MESSAGE_CODE_ECS46A),
            # six octets, two counts, and for each label 10 octets of address, 2 and the text
            "content_length": 8 + sum(12 + len(label.text) for label in self.labels),
            "specification_count": count,
            "specifications": [
                {"obis_e": FIRST_LABEL_OBIS + label.index - 1} for label in self.labels
            ],
            "text_count": count,
            "texts": [
                {"length": len(label.text), "text": label.text.encode("ascii")}
                for label in self.labels
            ],
        }


@dataclass(frozen=True, slots=True)
class SignedPreCommand:
    """An ECS46a command with the supplier's signature.

    Args:
        pre_command: what was signed.
        signature: raw r || s, 64 octets.

    Raises:
        BuildError: the signature has another length.

    Source: GBCS 4.3 section 7, MAC-less general-signing message.
    """

    pre_command: PreCommand
    signature: bytes

    def __post_init__(self) -> None:
        _check_octets(self.signature, SIGNATURE_OCTETS, "a signature")

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature."""
        return self.pre_command.to_bytes() + _signature_part(self.signature)

    def signed_part(self) -> bytes:
        """Return the octets that the signature covers."""
        return self.pre_command.signed_part()


@dataclass(frozen=True, slots=True)
class Command:
    """A signed ECS46a command with the access control broker's MAC, as it reaches the device.

    Args:
        signed_pre_command: what the MAC protects.
        mac: 12 octets.

    Raises:
        BuildError: the MAC has another length.

    Source: GBCS 4.3 section 7, MAC header.
    """

    signed_pre_command: SignedPreCommand
    mac: bytes

    def __post_init__(self) -> None:
        _check_octets(self.mac, MAC_OCTETS, "a MAC")

    @property
    def pre_command(self) -> PreCommand:
        """The command without signature and MAC."""
        return self.signed_pre_command.pre_command

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DD to the end of the MAC."""
        inner = self.signed_pre_command.to_bytes()
        length = layouts.length_octets(len(layouts.SECURITY_HEADER) + len(inner) + MAC_OCTETS)
        return layouts.MAC_HEADER_START + length + layouts.SECURITY_HEADER + inner + self.mac

    def signed_part(self) -> bytes:
        """Return the octets that the supplier's signature covers."""
        return self.pre_command.signed_part()


@dataclass(frozen=True, slots=True)
class Response:
    """A device's answer to an ECS46a command.

    Args:
        originator_id: the device.
        target_id: the supplier that sent the command.
        originator_counter: the command's own counter.
        results: one data-access-result for each label of the command, 0 to 255; 0 is success.
        signature: raw r || s, 64 octets; None as long as it is unsigned.

    Raises:
        BuildError: a field is out of range.

    Source: GBCS 4.3 use case ECS46a, response.
    """

    use_case: ClassVar[str] = "ECS46a"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    results: tuple[int, ...]
    signature: bytes | None = None

    def __post_init__(self) -> None:
        _check_names(self)
        if not isinstance(self.results, tuple) or not 1 <= len(self.results) <= MAX_LABELS:
            raise BuildError(
                f"results must be a tuple of 1 to {MAX_LABELS} integers, not {self.results!r}"
            )
        for result in self.results:
            _check_integer(result, 8, "a data-access-result")
        if self.signature is not None:
            _check_octets(self.signature, SIGNATURE_OCTETS, "a signature")

    @classmethod
    def answering(cls, command: Command | PreCommand, results: tuple[int, ...]) -> Response:
        """Return the unsigned response of the command's device, one result for each label.

        Raises:
            BuildError: the command has another number of labels.
        """
        pre_command = command.pre_command if isinstance(command, Command) else command
        if len(results) != len(pre_command.labels):
            raise BuildError(
                f"{len(results)} results for {len(pre_command.labels)} labels: give one for each"
            )
        return cls(
            originator_id=pre_command.target_id,
            target_id=pre_command.originator_id,
            originator_counter=pre_command.originator_counter,
            results=results,
        )

    @property
    def success(self) -> bool:
        """Whether every label was set; labels can partly succeed."""
        return not any(self.results)

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature (00 when unsigned)."""
        return self._body() + _signature_part(self.signature)

    def signed_part(self) -> bytes:
        """Return the octets that the device's signature covers."""
        return self._body()[1:]

    def _body(self) -> bytes:
        count = len(self.results)
        return layouts.RESPONSE.build_body(
            {
                **_header_values(self, CraFlag.RESPONSE, MESSAGE_CODE_ECS46A),
                # seven octets, two counts, and for each label null data and a choice with result
                "content_length": 9 + 3 * count,
                "null_count": count,
                "nulls": [None] * count,
                "result_count": count,
                "results": [{"result": result} for result in self.results],
            }
        )


@dataclass(frozen=True, slots=True)
class Alert:
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

    Source: GBCS 4.3 use case ECS200; section 7, other information.
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
        _check_names(self)
        if not isinstance(self.date_time, GbcsDateTime):
            raise BuildError(f"date_time must be a GbcsDateTime, not {self.date_time!r}")
        _check_integer(self.alert_code, 16, "alert_code")
        self._check_supplementary()
        if self.signature is not None:
            _check_octets(self.signature, SIGNATURE_OCTETS, "a signature")
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
                _check_integer(counter, 64, "a supplementary counter")

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
            30
            + self._other_information_octets()
            + octet_count_of_length(content_octets)
            + content_octets
            - len(self.text)
            + 1
            + SIGNATURE_OCTETS
        )

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature (00 when unsigned)."""
        return self._body() + _signature_part(self.signature)

    def signed_part(self) -> bytes:
        """Return the octets that the device's signature covers."""
        return self._body()[1:]

    def _body(self) -> bytes:
        party = self.supplementary_remote_party_id
        return layouts.ALERT.build_body(
            {
                **_header_values(self, CraFlag.ALERT, MESSAGE_CODE_ECS200),
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


Message: TypeAlias = PreCommand | SignedPreCommand | Command | Response | Alert
"""Every message that this package reads."""


def parse_untrusted(octets: bytes) -> Message:
    """Read a GBCS message of any of our kinds, checking every octet.

    Encodings that are not canonical are refused, and so is anything after the
    end. Signature and MAC are not checked: see `gbcs.crypto`.

    Args:
        octets: one whole message, at most `MAX_MESSAGE_OCTETS`.

    Returns:
        The message; its ``to_bytes()`` gives back the same octets.

    Raises:
        FormatError: not a message that we know; says where and why.
    """
    layout, make = _choose(octets)
    values = layout.read_unchecked(octets)
    if values is not None:
        try:
            message = make(values)
        except (BuildError, FormatError):
            message = None
        # Same octets when built again: then every constant, length and count was as it must be.
        if message is not None and message.to_bytes() == octets:
            return message
    strict = layout.read_strictly(octets)
    try:
        return make(strict.values)
    except BuildError as error:
        raise FormatError(str(error)) from None


def layout_of(octets: bytes) -> Layout:
    """Return the layout that these octets claim to follow.

    Raises:
        FormatError: empty, too long, or of a kind that we do not know.
    """
    return _choose(octets)[0]


def _choose(octets: bytes) -> tuple[Layout, Callable[[Mapping[str, Any]], Message]]:
    if not octets:
        raise FormatError("there are no octets at all", offset=0)
    if len(octets) > MAX_MESSAGE_OCTETS:
        raise FormatError(f"{len(octets)} octets; a message has at most {MAX_MESSAGE_OCTETS}")
    if octets[0] == _CIPHERED:
        return layouts.COMMAND, _make_command
    if octets[0] != _GENERAL_SIGNING:
        raise FormatError(
            f"found {octets[0]:02X}, expected DF (general-signing) or DD (general-ciphering)",
            offset=0,
            field="tag",
        )
    kind = (octets[_CRA_OFFSET : _CRA_OFFSET + 1], octets[_MESSAGE_CODE])
    if kind == _ECS46A_COMMAND:
        if _content_end(octets) >= len(octets):
            return layouts.PRE_COMMAND, _make_pre_command
        return layouts.SIGNED_PRE_COMMAND, _make_signed_pre_command
    if kind == _ECS46A_RESPONSE:
        return layouts.RESPONSE, _make_response
    if kind == _ECS200_ALERT:
        return layouts.ALERT, _make_alert
    # A header that does not even hold its form says more than "unknown kind".
    header = layouts.GROUPING_HEADER.read_strictly(octets).values
    raise FormatError(
        f"CRA flag {header['cra_flag']:02X} with message code {header['message_code']:04X} is "
        f"none of ECS46a (0053: 01 command, 02 response) and ECS200 (0123: 03 alert)",
        offset=_MESSAGE_CODE.start,
        field="message code",
    )


def _content_end(octets: bytes) -> int:
    """Return where the content of a general-signing message claims to end."""
    at = _MESSAGE_CODE.stop
    first = octets[at] if at < len(octets) else 0
    if first < 0x80:
        return at + 1 + first
    length_octets = octets[at + 1 : at + 1 + (first & 0x7F)]
    return at + 1 + len(length_octets) + int.from_bytes(length_octets, "big")


def _make_pre_command(values: Mapping[str, Any]) -> PreCommand:
    try:
        texts = [entry["text"].decode("ascii") for entry in values["texts"]]
    except UnicodeDecodeError:
        raise FormatError("label text is not ASCII") from None
    indices = [entry["obis_e"] - FIRST_LABEL_OBIS + 1 for entry in values["specifications"]]
    if len(indices) != len(texts):
        raise FormatError(f"{len(indices)} labels, but {len(texts)} texts")
    return PreCommand(
        originator_id=EntityId(values["originator_id"]),
        target_id=EntityId(values["target_id"]),
        originator_counter=values["originator_counter"],
        labels=tuple(map(Label, indices, texts)),
    )


def _make_signed_pre_command(values: Mapping[str, Any]) -> SignedPreCommand:
    return SignedPreCommand(_make_pre_command(values), values["signature"])


def _make_command(values: Mapping[str, Any]) -> Command:
    return Command(_make_signed_pre_command(values), values["mac"])


def _make_response(values: Mapping[str, Any]) -> Response:
    return Response(
        originator_id=EntityId(values["originator_id"]),
        target_id=EntityId(values["target_id"]),
        originator_counter=values["originator_counter"],
        results=tuple(entry["result"] for entry in values["results"]),
        signature=values["signature"],
    )


def _make_alert(values: Mapping[str, Any]) -> Alert:
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

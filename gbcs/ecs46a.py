"""ECS46a "Set Auxiliary Controller Descriptions": the downlink carrier's messages.

A command goes down in four steps, each a type of its own: the DCC makes a
`PreCommand`, the supplier a `SignedPreCommand`, the access control broker a
`Command`; the device answers with a `Response`.

Source: GBCS 4.3, use case ECS46a (service request variant 6.14.1).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from gbcs import layouts
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.header import (
    CraFlag,
    SignableMessage,
    check_integer,
    check_names,
    check_octets,
    header_values,
    signature_part,
)
from gbcs.layouts import (
    FIRST_LABEL_OBIS,
    MAC_OCTETS,
    MAX_LABEL_CHARS,
    MAX_LABELS,
    SIGNATURE_OCTETS,
    is_printable_text,
)

MESSAGE_CODE_ECS46A = 0x0053


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


@dataclass(frozen=True, slots=True)
class Label:
    """The description of one auxiliary controller.

    Args:
        index: which controller, 1 to 5.
        text: 1 to 22 printable ASCII characters (blank to tilde).

    Raises:
        BuildError: index or text is out of range.

    Source: DUIS 5.4 SwitchDescription; GBCS 4.3, use case ECS46a.
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
class PreCommand(SignableMessage):
    """An unsigned ECS46a command, as the DCC makes it of a service request.

    Args:
        originator_id: the supplier that sends the command.
        target_id: the device.
        originator_counter: the supplier's counter, 0 to 2**64 - 1.
        labels: 1 to 5, indices rising.

    Raises:
        BuildError: a field is out of range.

    Source: GBCS 4.3, use case ECS46a.
    """

    use_case: ClassVar[str] = "ECS46a"
    service_reference_variant: ClassVar[str] = "6.14.1"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        check_names(self)
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
        return self.body()

    def _build(self) -> bytes:
        count = len(self.labels)
        return layouts.PRE_COMMAND.build_body(
            {
                **header_values(self, CraFlag.COMMAND, MESSAGE_CODE_ECS46A),
                # six octets, two counts, and for each label 10 octets of address, 2 and the text
                "content_length": 8 + sum(12 + len(label.text) for label in self.labels),
                "specification_count": count,
                "specifications": [FIRST_LABEL_OBIS - 1 + label.index for label in self.labels],
                "text_count": count,
                "texts": [label.text.encode("ascii") for label in self.labels],
            }
        )


@dataclass(frozen=True, slots=True)
class SignedPreCommand:
    """An ECS46a command with the supplier's signature.

    Args:
        pre_command: what was signed.
        signature: raw r || s, 64 octets.

    Raises:
        BuildError: the signature has another length.

    Source: GBCS 4.3, use case ECS46a.
    """

    pre_command: PreCommand
    signature: bytes

    def __post_init__(self) -> None:
        check_octets(self.signature, SIGNATURE_OCTETS, "a signature")

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature."""
        return self.pre_command.to_bytes() + signature_part(self.signature)

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

    Source: GBCS 4.3, MAC Header.
    """

    signed_pre_command: SignedPreCommand
    mac: bytes

    def __post_init__(self) -> None:
        check_octets(self.mac, MAC_OCTETS, "a MAC")

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
class Response(SignableMessage):
    """A device's answer to an ECS46a command.

    Args:
        originator_id: the device.
        target_id: the supplier that sent the command.
        originator_counter: the command's own counter.
        results: one data-access-result for each label of the command, 0 to 255; 0 is success.
        signature: raw r || s, 64 octets; None as long as it is unsigned.

    Raises:
        BuildError: a field is out of range.

    Source: GBCS 4.3, use case ECS46a, response.
    """

    use_case: ClassVar[str] = "ECS46a"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    results: tuple[int, ...]
    signature: bytes | None = None

    def __post_init__(self) -> None:
        check_names(self)
        if not isinstance(self.results, tuple) or not 1 <= len(self.results) <= MAX_LABELS:
            raise BuildError(
                f"results must be a tuple of 1 to {MAX_LABELS} integers, not {self.results!r}"
            )
        for result in self.results:
            check_integer(result, 8, "a data-access-result")
        if self.signature is not None:
            check_octets(self.signature, SIGNATURE_OCTETS, "a signature")

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
        return self.body() + signature_part(self.signature)

    def with_signature(self, signature: bytes) -> Response:
        """Return the same message with this signature, 64 octets."""
        signed = replace(self, signature=signature)
        # The body is the same; what was built for signing need not be built again.
        object.__setattr__(signed, "_kept", self.body())
        return signed

    def _build(self) -> bytes:
        count = len(self.results)
        return layouts.RESPONSE.build_body(
            {
                **header_values(self, CraFlag.RESPONSE, MESSAGE_CODE_ECS46A),
                # seven octets, two counts, and for each label null data and a choice with result
                "content_length": 9 + 3 * count,
                "null_count": count,
                "nulls": [None] * count,
                "result_count": count,
                "results": self.results,
            }
        )


def make_pre_command(values: Mapping[str, Any]) -> PreCommand:
    """Make a PreCommand of what its layout read."""
    try:
        texts = [text.decode("ascii") for text in values["texts"]]
    except UnicodeDecodeError:
        raise FormatError("label text is not ASCII") from None
    indices = [obis_e - FIRST_LABEL_OBIS + 1 for obis_e in values["specifications"]]
    if len(indices) != len(texts):
        raise FormatError(f"{len(indices)} labels, but {len(texts)} texts")
    return PreCommand(
        originator_id=EntityId(values["originator_id"]),
        target_id=EntityId(values["target_id"]),
        originator_counter=values["originator_counter"],
        labels=tuple(map(Label, indices, texts)),
    )


def make_signed_pre_command(values: Mapping[str, Any]) -> SignedPreCommand:
    """Make a SignedPreCommand of what its layout read."""
    return SignedPreCommand(make_pre_command(values), values["signature"])


def make_command(values: Mapping[str, Any]) -> Command:
    """Make a Command of what its layout read."""
    return Command(make_signed_pre_command(values), values["mac"])


def make_response(values: Mapping[str, Any]) -> Response:
    """Make a Response of what its layout read."""
    return Response(
        originator_id=EntityId(values["originator_id"]),
        target_id=EntityId(values["target_id"]),
        originator_counter=values["originator_counter"],
        results=tuple(values["results"]),
        signature=values["signature"],
    )

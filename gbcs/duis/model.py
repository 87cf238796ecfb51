"""DUIS messages as values: what a request, a response and each of their bodies say.

Source: DUIS schema 5.4, types Request and Response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from gbcs.duis.codes import DCC_ALERT_CODES, RESPONSE_CODES
from gbcs.duis.inventory import InventoryBody, ReadInventory, UpdateInventory
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, DuisFormatError
from gbcs.messages import Label

DEFAULT_SCHEMA_VERSION = "5.4"
DEFAULT_GBCS_VERSION = "4.3"
SERVICE_REFERENCE = "6.14"
SERVICE_REFERENCE_VARIANT = "6.14.1"
MAX_GBCS_PAYLOAD_OCTETS = 16_384
MAX_COUNTER = 2**64 - 1

_SCHEMA_VERSION = re.compile(r"5\.[0-9]{1,2}")
_SERVICE_REFERENCE = re.compile(r"[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]{1,2})?")
_PRINTABLE = re.compile(r"[ -~]{1,32}")
_HYPHENATED = re.compile(r"[A-Fa-f0-9]{2}(?:-[A-Fa-f0-9]{2}){7}")
_COUNTER = re.compile(r"0|[1-9][0-9]{0,19}")


@dataclass(frozen=True, slots=True)
class RequestId:
    """What a RequestID or a ResponseID says: originator, target, counter.

    In a RequestID the originator is the user and the target the device; in a ResponseID the
    other way round.

    Attributes:
        originator_id: who sent the GBCS message.
        target_id: to whom.
        originator_counter: its Originator Counter, 0 to 2^64 - 1.
    """

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int

    def __post_init__(self) -> None:
        _check_int("originator_counter", self.originator_counter, 0, MAX_COUNTER)

    def __str__(self) -> str:
        return f"{self.originator_id}:{self.target_id}:{self.originator_counter}"

    @classmethod
    def parse_untrusted(cls, text: str) -> RequestId:
        """Read originator:target:counter; EUIs with hyphens, in either case.

        Raises:
            DuisFormatError: it is something else.

        Source: DUIS schema 5.4, RequestIDType.
        """
        parts = text.split(":")
        if (
            len(parts) != 3
            or not _HYPHENATED.fullmatch(parts[0])
            or not _HYPHENATED.fullmatch(parts[1])
            or not _COUNTER.fullmatch(parts[2])
            or int(parts[2]) > MAX_COUNTER
        ):
            raise DuisFormatError(
                f"{text[:80]!r} is no request or response identifier: expected "
                "EUI:EUI:counter, as in 90-B3-D5-1F-30-01-00-00:00-DB-12-34-56-78-90-A0:123"
            )
        return cls(EntityId.parse(parts[0]), EntityId.parse(parts[1]), int(parts[2]))


@dataclass(frozen=True, slots=True)
class UpdateAlcDescriptions:
    """Body of a transform request for service 6.14.1: set one to five labels.

    Attributes:
        labels: one to five, their indices rising.
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        indices = [label.index for label in self.labels]
        if not indices or indices != sorted(set(indices)):
            raise BuildError(
                f"label indices {indices}: expected one to five labels, each index once, rising"
            )


@dataclass(frozen=True, slots=True)
class SignedPreCommandBody:
    """Body of a request that sends a signed pre-command.

    Attributes:
        gbcs_payload: the GBCS message, octets.
    """

    gbcs_payload: bytes

    def __post_init__(self) -> None:
        _check_payload(self.gbcs_payload)


@dataclass(frozen=True, slots=True)
class ReturnLocalCommandResponse:
    """Body of 8.13: a response that was collected from the device itself, not by the network.

    Attributes:
        gbcs_payload: the device's GBCS response, octets.
        original_request_id: of the request that carried the command; None: not said.
    """

    gbcs_payload: bytes
    original_request_id: RequestId | None = None

    def __post_init__(self) -> None:
        _check_payload(self.gbcs_payload)


@dataclass(frozen=True, slots=True)
class OtherBody:
    """A body that the schema allows and this project does not read. Cannot be built.

    Attributes:
        element: the local name of the body's element.
    """

    element: str


RequestBody: TypeAlias = (
    UpdateAlcDescriptions
    | SignedPreCommandBody
    | ReadInventory
    | UpdateInventory
    | ReturnLocalCommandResponse
    | OtherBody
)


@dataclass(frozen=True, slots=True)
class Request:
    """A DUIS request.

    Attributes:
        originator_id: the user.
        target_id: the device.
        originator_counter: the Originator Counter of the GBCS message, 0 to 2^64 - 1.
        command_variant: 1 to 9; 4 asks for a pre-command, 5 sends a signed pre-command.
        body: what is asked.
        service_reference: for example "6.14".
        service_reference_variant: for example "6.14.1".
        schema_version: "5.4", or what the sender says.
    """

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    command_variant: int
    body: RequestBody
    service_reference: str = SERVICE_REFERENCE
    service_reference_variant: str = SERVICE_REFERENCE_VARIANT
    schema_version: str = DEFAULT_SCHEMA_VERSION

    def __post_init__(self) -> None:
        _check_int("originator_counter", self.originator_counter, 0, MAX_COUNTER)
        _check_int("command_variant", self.command_variant, 1, 9)
        _check_references(self.service_reference, self.service_reference_variant)
        _check_schema_version(self.schema_version)

    @property
    def request_id(self) -> RequestId:
        """Originator, target and counter as one value."""
        return RequestId(self.originator_id, self.target_id, self.originator_counter)


@dataclass(frozen=True, slots=True)
class PreCommandBody:
    """Body of the answer to a transform request.

    Attributes:
        gbcs_payload: the unsigned GBCS pre-command, octets.
        gbcs_version: the version of GBCS it follows.
    """

    gbcs_payload: bytes
    gbcs_version: str = DEFAULT_GBCS_VERSION

    def __post_init__(self) -> None:
        _check_payload(self.gbcs_payload)
        if not _PRINTABLE.fullmatch(self.gbcs_version):
            raise BuildError(f"GBCS version {self.gbcs_version!r}: expected text like '4.3'")


@dataclass(frozen=True, slots=True)
class ServiceResponseBody:
    """Body of a service response.

    Attributes:
        gbcs_payload: the device's GBCS response, octets.
    """

    gbcs_payload: bytes

    def __post_init__(self) -> None:
        _check_payload(self.gbcs_payload)


@dataclass(frozen=True, slots=True)
class LocalCommandBody:
    """Body of the answer to command variants 6 and 7: the command for a hand-held terminal.

    Attributes:
        gbcs_payload: the GBCS command with signature and MAC, octets.
    """

    gbcs_payload: bytes

    def __post_init__(self) -> None:
        _check_payload(self.gbcs_payload)


@dataclass(frozen=True, slots=True)
class AcknowledgementBody:
    """An empty answer with an I or W code: I99 says that the DCC took the request."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An empty answer with an E code."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """What alert storm protection held back before this alert.

    Attributes:
        sequence_id: ThrottledAlertSequenceId, 0 to 2^32 - 1; None: not said.
        count: how many alerts were held back, 0 to 2^32 - 1; None: not said.
    """

    sequence_id: int | None
    count: int | None

    def __post_init__(self) -> None:
        if self.sequence_id is None and self.count is None:
            raise BuildError("a throttled alert says its sequence id, its count or both")
        for value in (self.sequence_id, self.count):
            if value is not None:
                _check_int("a number of a throttled alert", value, 0, 2**32 - 1)


@dataclass(frozen=True, slots=True)
class DeviceAlertBody:
    """An alert of a device.

    Attributes:
        alert_code: two octets as a number, 0x8F88 for ECS200.
        gbcs_payload: the device's GBCS alert, octets.
        throttled: what alert storm protection held back; None: it says nothing.
    """

    alert_code: int
    gbcs_payload: bytes
    throttled: Throttled | None = None

    def __post_init__(self) -> None:
        _check_int("alert_code", self.alert_code, 0, 0xFFFF)
        _check_payload(self.gbcs_payload)


@dataclass(frozen=True, slots=True)
class CommandFailure:
    """DCC alert content: a command could not be delivered or was not answered.

    Attributes:
        request_id: of the request that carried the command.
        device_id: the device.
    """

    request_id: RequestId
    device_id: EntityId


@dataclass(frozen=True, slots=True)
class QuarantinedRequest:
    """DCC alert content: anomaly detection holds a request back.

    Attributes:
        request_id: the request.
        reason: the element that says which limit was broken, one of ``QUARANTINE_REASONS``.
        event_reference: QuarantineEventRef, a number of up to 20 digits.
    """

    request_id: RequestId
    reason: str
    event_reference: int

    def __post_init__(self) -> None:
        if self.reason not in QUARANTINE_REASONS:
            raise BuildError(f"quarantine reason {self.reason!r}: expected {QUARANTINE_REASONS}")
        _check_int("QuarantineEventRef", self.event_reference, 0, 10**20 - 1)


QUARANTINE_REASONS = ("ADUserThresholdBreach", "ADDCCThresholdBreach", "ADAttributeLimitsBreach")


@dataclass(frozen=True, slots=True)
class DccAlertBody:
    """An alert of the DCC itself.

    Attributes:
        alert_code: for example "N12".
        alert: its content.
        throttled: what alert storm protection held back; None: it says nothing.
    """

    alert_code: str
    alert: CommandFailure | QuarantinedRequest | OtherBody
    throttled: Throttled | None = None

    def __post_init__(self) -> None:
        if self.alert_code not in DCC_ALERT_CODES:
            raise BuildError(f"DCC alert code {self.alert_code!r} is not one of the schema")


ResponseMessageBody: TypeAlias = (
    PreCommandBody
    | ServiceResponseBody
    | LocalCommandBody
    | InventoryBody
    | AcknowledgementBody
    | ErrorBody
)
ResponseBody: TypeAlias = ResponseMessageBody | DeviceAlertBody | DccAlertBody | OtherBody


@dataclass(frozen=True, slots=True)
class Response:
    """A DUIS response, or an alert, which has the same outer form.

    Attributes:
        response_code: for example "I0"; see ``gbcs.duis.codes``.
        response_date_time: when the DCC made it, aware; written in UTC with milliseconds.
        body: what it says.
        request_id: the request it answers; None for alerts.
        response_id: device, user, counter; only where a GBCS message of a device is carried.
        service_reference: None in alerts, which do not say it.
        service_reference_variant: None in alerts.
        schema_version: "5.4", or what the sender says.
    """

    response_code: str
    response_date_time: datetime
    body: ResponseBody
    request_id: RequestId | None = None
    response_id: RequestId | None = None
    service_reference: str | None = SERVICE_REFERENCE
    service_reference_variant: str | None = SERVICE_REFERENCE_VARIANT
    schema_version: str = DEFAULT_SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.response_code not in RESPONSE_CODES:
            raise BuildError(f"response code {self.response_code!r} is not one of the schema")
        if self.response_date_time.tzinfo is None:
            raise BuildError("response_date_time needs a time zone, for example UTC")
        _check_schema_version(self.schema_version)
        is_error = self.response_code.startswith("E")
        if isinstance(self.body, AcknowledgementBody if is_error else ErrorBody):
            raise BuildError(
                f"{type(self.body).__name__} with the code {self.response_code}: errors have an E "
                "code, acknowledgements an I or W code"
            )
        if isinstance(self.body, DeviceAlertBody | DccAlertBody):
            object.__setattr__(self, "service_reference", None)
            object.__setattr__(self, "service_reference_variant", None)
        elif not isinstance(self.body, OtherBody):
            _check_references(self.service_reference, self.service_reference_variant)


def _check_int(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise BuildError(f"{name} is {value}: expected {lowest} to {highest}")


def _check_payload(payload: bytes) -> None:
    if not 0 < len(payload) <= MAX_GBCS_PAYLOAD_OCTETS:
        raise BuildError(
            f"a GBCS payload of {len(payload)} octets: expected 1 to {MAX_GBCS_PAYLOAD_OCTETS}"
        )


def _check_references(reference: str | None, variant: str | None) -> None:
    if (
        reference is None
        or variant is None
        or not _SERVICE_REFERENCE.fullmatch(reference)
        or not _SERVICE_REFERENCE.fullmatch(variant)
    ):
        raise BuildError(
            f"service reference {reference!r}, variant {variant!r}: expected numbers as in "
            "'6.14' and '6.14.1'"
        )


def _check_schema_version(version: str) -> None:
    if not _SCHEMA_VERSION.fullmatch(version):
        raise BuildError(f"schema version {version!r}: expected 5.x, as in '5.4'")

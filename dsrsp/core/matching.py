"""What the DCC posts to the receive address: read, verified, and only then believed.

First the DCC's XML signature, then the device's GBCS signature, then who speaks to whom
under which counter. Nothing here remembers anything: state moves only after all of it holds.

Source: DUIS (service responses, device alerts); GBCS (ECS46a response, ECS200 alert).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from dsrsp.errors import ReceivedRefused
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import verify_message
from gbcs.duis import (
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    ParsedResponse,
    QuarantinedRequest,
    RequestId,
    Schema,
    ServiceResponseBody,
    parse_untrusted_response,
)
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, DuisError, FormatError, SignatureInvalid
from gbcs.keystore import KeyStore
from gbcs.messages import ALERT_CODE_8F88, Alert, Response, parse_untrusted


@dataclass(frozen=True, slots=True)
class DeviceResponse:
    """A device's verified answer to one of our commands."""

    device: EntityId
    originator_counter: int
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceAlert:
    """A device's verified operational update."""

    device: EntityId
    originator_counter: int
    text: str


@dataclass(frozen=True, slots=True)
class DccError:
    """The DCC's word that a request has failed, or is held back until somebody releases it.

    ``signed`` says whether the word is proven to be the DCC's; ``quarantined`` that the request
    is held back by anomaly detection and may still be delivered.
    """

    device: EntityId
    originator_counter: int
    code: str
    signed: bool
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class NotForUs:
    """A genuine message that this gateway has no use for."""

    what: str


Received: TypeAlias = DeviceResponse | DeviceAlert | DccError | NotForUs


class ReceivedReader:
    """Reads and verifies what is posted to the receive address.

    Args:
        keystore: has the DCC's XML-signing certificate and the devices' certificates.
        supplier_id: our identity that commands are sent as and alerts are addressed to.
        load_controller_id: our identity that alerts name as supplementary party.
        schema: the DUIS schema; None leaves the structure to the parser alone.
    """

    def __init__(
        self,
        keystore: KeyStore,
        *,
        supplier_id: EntityId,
        load_controller_id: EntityId,
        schema: Schema | None = None,
    ) -> None:
        self._keystore = keystore
        self._supplier_id = supplier_id
        self._load_controller_id = load_controller_id
        self._schema = schema

    def read_untrusted(self, octets: bytes, *, at: datetime) -> Received:
        """Read one posted message.

        Args:
            octets: the body of the POST.
            at: the moment for which certificates must be valid, aware.

        Raises:
            ReceivedRefused: it is not well-formed, not properly signed, or contradicts itself.
        """
        try:
            if self._schema is not None:
                self._schema.validate(octets)
            parsed = parse_untrusted_response(octets)
            if parsed.signed or not isinstance(parsed.message.body, ErrorBody):
                parsed.verify(self._keystore, role=Role.XML_SIGNING_DCC, at=at)
        except (DuisError, CertificateError) as error:
            raise ReceivedRefused(f"DUIS message refused: {error}") from None
        return self._read_body(parsed, at)

    def _read_body(self, parsed: ParsedResponse, at: datetime) -> Received:
        response = parsed.message
        body = response.body
        if isinstance(body, ServiceResponseBody):
            return self._service_response(response.request_id, body.gbcs_payload, at)
        if isinstance(body, DeviceAlertBody):
            return self._device_alert(response.response_id, body, at)
        if isinstance(body, ErrorBody):
            return self._error(response.request_id, response.response_code, parsed.signed)
        if isinstance(body, DccAlertBody):
            return self._dcc_alert(body)
        raise ReceivedRefused(
            f"a {type(body).__name__} belongs into the answer to a request, "
            "not to the receive address"
        )

    def _service_response(
        self, request_id: RequestId | None, payload: bytes, at: datetime
    ) -> DeviceResponse:
        request_id = self._ours(request_id)
        message = self._gbcs(payload)
        if not isinstance(message, Response):
            raise ReceivedRefused(
                f"GBCS payload refused: a {type(message).__name__} where the device's response "
                f"to request {request_id} is expected"
            )
        self._verify_device(message, request_id.target_id, at)
        if message.target_id != self._supplier_id:
            raise ReceivedRefused(
                f"GBCS response refused: addressed to {message.target_id}, not to the request's "
                f"originator {self._supplier_id}"
            )
        if message.originator_counter != request_id.originator_counter:
            raise ReceivedRefused(
                f"GBCS response refused: counter {message.originator_counter}, but the envelope "
                f"answers request {request_id}"
            )
        return DeviceResponse(message.originator_id, message.originator_counter, message.results)

    def _device_alert(
        self, response_id: RequestId | None, body: DeviceAlertBody, at: datetime
    ) -> DeviceAlert | NotForUs:
        if response_id is None:
            raise ReceivedRefused("device alert refused: it has no ResponseID")
        if body.alert_code != ALERT_CODE_8F88:
            return NotForUs(f"device alert {body.alert_code:04X} of {response_id.originator_id}")
        message = self._gbcs(body.gbcs_payload)
        if not isinstance(message, Alert) or message.alert_code != ALERT_CODE_8F88:
            raise ReceivedRefused(
                "GBCS payload refused: the envelope says operational update (8F88), the payload "
                f"is another {type(message).__name__}"
            )
        self._verify_device(message, response_id.originator_id, at)
        if message.target_id != self._supplier_id:
            raise ReceivedRefused(
                f"GBCS alert refused: its recipient is {message.target_id}, expected the supplier "
                f"{self._supplier_id}"
            )
        if message.supplementary_remote_party_id != self._load_controller_id:
            raise ReceivedRefused(
                "GBCS alert refused: its supplementary remote party is "
                f"{message.supplementary_remote_party_id}, expected the load controller "
                f"{self._load_controller_id}"
            )
        if (
            response_id.target_id not in (self._supplier_id, self._load_controller_id)
            or response_id.originator_counter != message.originator_counter
        ):
            raise ReceivedRefused(
                f"device alert refused: ResponseID {response_id} does not fit the alert with "
                f"counter {message.originator_counter} to {message.target_id}"
            )
        return DeviceAlert(message.originator_id, message.originator_counter, message.text)

    def _error(self, request_id: RequestId | None, code: str, signed: bool) -> DccError | NotForUs:
        if request_id is None:
            return NotForUs(f"error {code} that names no request")
        request_id = self._ours(request_id)
        return DccError(request_id.target_id, request_id.originator_counter, code, signed)

    def _dcc_alert(self, body: DccAlertBody) -> DccError | NotForUs:
        alert = body.alert
        if not isinstance(alert, CommandFailure | QuarantinedRequest):
            return NotForUs(f"DCC alert {body.alert_code}")
        request_id = self._ours(alert.request_id)
        return DccError(
            request_id.target_id,
            request_id.originator_counter,
            body.alert_code,
            signed=True,
            quarantined=isinstance(alert, QuarantinedRequest),
        )

    def _ours(self, request_id: RequestId | None) -> RequestId:
        if request_id is None:
            raise ReceivedRefused("service response refused: it has no RequestID")
        if request_id.originator_id != self._supplier_id:
            raise ReceivedRefused(
                f"response refused: request {request_id} is not ours, we are {self._supplier_id}"
            )
        return request_id

    def _gbcs(self, payload: bytes) -> object:
        try:
            return parse_untrusted(payload)
        except FormatError as error:
            raise ReceivedRefused(f"GBCS payload refused: {error}") from None

    def _verify_device(self, message: Response | Alert, device: EntityId, at: datetime) -> None:
        if message.originator_id != device:
            raise ReceivedRefused(
                f"GBCS message refused: it comes from {message.originator_id}, "
                f"the envelope says {device}"
            )
        try:
            certificate = self._keystore.certificate(device, KeyUsage.DIGITAL_SIGNATURE)
            self._keystore.verify(
                certificate,
                at=at,
                usage=KeyUsage.DIGITAL_SIGNATURE,
                role=None,
                entity_id=device,
            )
            verify_message(message, certificate.public_key)
        except (CertificateError, SignatureInvalid) as error:
            raise ReceivedRefused(f"GBCS message of {device} refused: {error}") from None

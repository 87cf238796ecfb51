"""Makes the DUIS messages that the DCC sends: signed where the real one signs."""

from __future__ import annotations

from dataclasses import replace

from dcc_sim.core.checks import Check
from dcc_sim.core.effects import Severity
from dcc_sim.core.services import COMMAND_VARIANTS, Service
from dcc_sim.core.state import State, utc
from dcc_sim.ports import CommandRow, PostingRow
from gbcs.duis import (
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    LocalCommandBody,
    QuarantinedRequest,
    Request,
    RequestId,
    Response,
    Schema,
    ServiceResponseBody,
    Throttled,
    XmlSigner,
    build_response,
)
from gbcs.duis.codes import Code
from gbcs.duis.model import ResponseMessageBody
from gbcs.entity_id import EntityId
from gbcs.errors import DuisSchemaError
from gbcs.messages import Alert


class DuisWriter:
    """Builds, validates and journals what goes out.

    Args:
        state: shared with the other parts.
        signer: the DCC's XML signing key.
        schema: validates what goes out if given.
    """

    def __init__(self, state: State, signer: XmlSigner, schema: Schema | None) -> None:
        self._state = state
        self._signer = signer
        self._schema = schema

    def answer(
        self,
        request: Request,
        code: Code,
        body: ResponseMessageBody,
        now: float,
        *,
        service: Service,
    ) -> bytes:
        """Return the answer to a request that passed all checks.

        What says something is signed, an acknowledgement comes unsigned.
        """
        signer = None if isinstance(body, AcknowledgementBody) else self._signer
        response = Response(
            response_code=code,
            response_date_time=utc(now),
            body=body,
            request_id=request.request_id,
            service_reference=request.service_reference,
            service_reference_variant=request.service_reference_variant,
            schema_version=request.schema_version,
        )
        return self._build(response, signer, service.value)

    def refuse(self, request: Request | None, code: str, now: float, *, service: Service) -> bytes:
        """Return the refusal of a request: unsigned, like the DCC's.

        Args:
            request: None when it could not be read; then there is no RequestID, and the service
                reference, which the schema asks for, is that of the one service there is.
            code: the DUIS response code.
            now: seconds since 1970.
            service: the address the request came to.
        """
        response = Response(
            response_code=code,
            response_date_time=utc(now),
            body=ErrorBody(),
            request_id=None if request is None else request.request_id,
        )
        # What the schema does not know cannot be said back.
        if request is not None and request.service_reference_variant in COMMAND_VARIANTS:
            variant = request.service_reference_variant
            response = replace(
                response,
                service_reference=".".join(variant.split(".")[:2]),
                service_reference_variant=variant,
                schema_version=request.schema_version,
            )
        return self._build(response, None, service.value)

    def service_response(self, row: CommandRow, payload: bytes, now: float) -> list[PostingRow]:
        """Return the posting of a device's response; none when its user is gone."""
        response = Response(
            response_code=Code.SUCCESS,
            response_date_time=utc(now),
            body=ServiceResponseBody(payload),
            request_id=RequestId(row.user, row.device, row.originator_counter),
            response_id=RequestId(row.device, row.user, row.originator_counter),
            schema_version=row.schema_version,
        )
        return self._posting(response, row.user, row.request_id, now)

    def local_command(self, row: CommandRow, now: float) -> list[PostingRow]:
        """Return the posting of a command for local delivery that left quarantine."""
        response = Response(
            response_code=Code.SUCCESS,
            response_date_time=utc(now),
            body=LocalCommandBody(row.command),
            request_id=RequestId(row.user, row.device, row.originator_counter),
            schema_version=row.schema_version,
        )
        return self._posting(response, row.user, row.request_id, now)

    def quarantined(self, row: CommandRow, event_reference: int, now: float) -> list[PostingRow]:
        """Return the posting of the DCC alert that tells a user what is held back."""
        request_id = RequestId(row.user, row.device, row.originator_counter)
        alert = QuarantinedRequest(request_id, "ADUserThresholdBreach", event_reference)
        response = Response(
            response_code=Code.SUCCESS,
            response_date_time=utc(now),
            body=DccAlertBody(self._state.config.code_of(Check.ANOMALY), alert),
            schema_version=row.schema_version,
        )
        return self._posting(response, row.user, row.request_id, now)

    def command_failed(self, row: CommandRow, check: Check, now: float) -> list[PostingRow]:
        """Return the posting that tells why an accepted command failed; none when its user is gone.

        Deviation: refusals in the HTTP answer come unsigned, as seen; this one is signed, because
        nothing else tells the user that it comes from the DCC (assumed).
        """
        response = Response(
            response_code=self._state.config.code_of(check),
            response_date_time=utc(now),
            body=ErrorBody(),
            request_id=RequestId(row.user, row.device, row.originator_counter),
            schema_version=row.schema_version,
        )
        return self._posting(response, row.user, row.request_id, now)

    def command_failure_alert(
        self, row: CommandRow, alert_code: str, now: float
    ) -> list[PostingRow]:
        """Return the posting of a DCC alert that an accepted command failed.

        Args:
            row: the command.
            alert_code: for example "N12".
            now: seconds since 1970.
        """
        request_id = RequestId(row.user, row.device, row.originator_counter)
        response = Response(
            response_code=Code.SUCCESS,
            response_date_time=utc(now),
            body=DccAlertBody(alert_code, CommandFailure(request_id, row.device)),
            schema_version=row.schema_version,
        )
        return self._posting(response, row.user, row.request_id, now)

    def device_alert(
        self,
        alert: Alert,
        payload: bytes,
        user: EntityId,
        now: float,
        *,
        throttled: Throttled | None = None,
    ) -> list[PostingRow]:
        """Return the posting of a device's alert to one user; none when it is no user of ours."""
        response_id = RequestId(alert.originator_id, user, alert.originator_counter)
        response = Response(
            response_code=Code.SUCCESS,
            response_date_time=utc(now),
            body=DeviceAlertBody(alert.alert_code, payload, throttled),
            response_id=response_id,
            schema_version=self._state.config.schema_version,
        )
        return self._posting(response, user, str(response_id), now)

    def _posting(
        self, response: Response, user: EntityId, reference: str, now: float
    ) -> list[PostingRow]:
        settings = self._state.users.get(user)
        kind = type(response.body).__name__
        if settings is None:
            self._state.note(
                Severity.WARNING, f"{kind} {reference} is for {user}, no user of this DCC: dropped"
            )
            return []
        xml = self._build(response, self._signer, settings.receive_url, about=reference)
        return [
            self._state.next_posting(user, reference=reference, kind=kind, xml=xml, now=now)
            for _ in range(self._state.behaviour.copies)
        ]

    def _build(
        self, response: Response, signer: XmlSigner | None, service: str, *, about: str = ""
    ) -> bytes:
        xml = build_response(response, signer)
        reference = str(response.request_id or response.response_id or about)
        if self._schema is not None:
            try:
                self._schema.validate(xml)
            except DuisSchemaError as error:
                self._state.note(
                    Severity.ERROR, f"our own message about {reference} is not valid: {error}"
                )
        self._state.journal.record(
            "duis",
            hop="response",
            direction="out",
            service=service,
            request_id=reference,
            kind=type(response.body).__name__,
            code=str(response.response_code),
            alert_code=_alert_code(response),
            xml=xml,
        )
        return xml


def _alert_code(response: Response) -> str | None:
    match response.body:
        case DeviceAlertBody(alert_code):
            return f"{alert_code:04X}"
        case DccAlertBody(alert_code):
            return alert_code
    return None

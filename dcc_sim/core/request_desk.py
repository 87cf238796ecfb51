"""Takes users' requests: reads and checks them, transforms, accepts signed pre-commands."""

from __future__ import annotations

from dataclasses import replace

from dcc_sim.config import ThresholdConfig
from dcc_sim.core.anomaly import AnomalyDetector
from dcc_sim.core.checks import Check
from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Reply, Severity
from dcc_sim.core.keys import Keys
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.non_device_desk import NonDeviceDesk
from dcc_sim.core.quarantine import Quarantine
from dcc_sim.core.request_checks import (
    ALL_REQUESTS,
    Submission,
    check_correlation,
    check_gbcs_signature,
    signed_pre_command,
)
from dcc_sim.core.services import LOCAL_DELIVERY_ALONE, LOCAL_DELIVERY_VARIANTS, Service
from dcc_sim.core.state import State
from dcc_sim.errors import RequestRefused
from dcc_sim.ports import CommandRow, CommandState
from gbcs.crypto import add_mac
from gbcs.duis import (
    AcknowledgementBody,
    LocalCommandBody,
    ParsedRequest,
    PreCommandBody,
    Request,
    Schema,
    parse_untrusted_request,
)
from gbcs.duis.codes import Code
from gbcs.errors import CertificateError, DuisError

HTTP_OK = 200
HTTP_BAD_REQUEST = 400


class RequestDesk:
    """One for all three HTTP services.

    Args:
        state: shared with the other parts.
        keys: the DCC's keys and everybody's certificates.
        writer: makes the DUIS responses.
        commands: takes what was accepted.
        quarantine: takes what breaks a threshold.
        schema: validates requests if given.
    """

    def __init__(
        self,
        state: State,
        keys: Keys,
        writer: DuisWriter,
        commands: CommandDesk,
        quarantine: Quarantine,
        schema: Schema | None,
    ) -> None:
        self._state = state
        self._keys = keys
        self._writer = writer
        self._commands = commands
        self._quarantine = quarantine
        self._anomalies = AnomalyDetector(state)
        self._non_device = NonDeviceDesk(state, commands)
        self._schema = schema

    def receive_untrusted_request(self, service: Service, octets: bytes, now: float) -> Reply:
        """Answer one request.

        Args:
            service: the address it was sent to.
            octets: the body of the HTTP request.
            now: seconds since 1970.
        """
        try:
            parsed = parse_untrusted_request(octets)
        except DuisError as error:
            refusal = RequestRefused(Check.XML, str(error))
            self._journal(service, octets, None)
            self._note_refusal(service, None, refusal)
            return Reply(HTTP_BAD_REQUEST, self._refuse(service, None, refusal, now))
        request = parsed.message
        self._journal(service, octets, request)
        try:
            xml = self._answer(service, parsed, octets, now)
        except RequestRefused as refusal:
            self._note_refusal(service, request, refusal)
            xml = self._refuse(service, request, refusal, now)
        return Reply(HTTP_OK, xml)

    def _answer(self, service: Service, parsed: ParsedRequest, octets: bytes, now: float) -> bytes:
        if self._schema is not None:
            try:
                self._schema.validate(octets)
            except DuisError as error:
                raise RequestRefused(Check.SCHEMA, str(error)) from None
        submission = Submission(service, parsed, now)
        for check in ALL_REQUESTS:
            check(submission, self._state, self._keys)
        if service is Service.TRANSFORM:
            return self._transform(submission)
        if service is Service.NON_DEVICE:
            return self._do_without_device(parsed.message, now)
        return self._accept(submission)

    def _do_without_device(self, request: Request, now: float) -> bytes:
        answer = self._non_device.answer(request, now)
        done = isinstance(answer, AcknowledgementBody)
        self._state.note(Severity.INFO, f"did {request.request_id}")
        return self._writer.answer(
            request,
            Code.ACCEPTED if done else Code.SUCCESS,
            answer,
            now,
            service=Service.NON_DEVICE,
        )

    def _transform(self, submission: Submission) -> bytes:
        request, now = submission.request, submission.now
        pre_command = submission.pre_command.to_bytes()
        again = self._state.command(request.originator_id, request.originator_counter) is not None
        if not again:
            self._state.add_transformed(
                CommandRow(
                    user=request.originator_id,
                    device=request.target_id,
                    originator_counter=request.originator_counter,
                    state=CommandState.TRANSFORMED,
                    pre_command=pre_command,
                    command=b"",
                    schema_version=request.schema_version,
                )
            )
            self._journal_gbcs("pre_command", request, pre_command)
        self._state.note(
            Severity.INFO, f"transformed {request.request_id}{' once more' if again else ''}"
        )
        return self._writer.answer(
            request, Code.SUCCESS, PreCommandBody(pre_command), now, service=Service.TRANSFORM
        )

    def _accept(self, submission: Submission) -> bytes:
        request = submission.request
        signed = signed_pre_command(request)
        check_correlation(submission, signed, self._state)
        check_gbcs_signature(submission, signed, self._keys)
        try:
            secret = self._keys.device_secret(request.target_id, submission.now)
        except CertificateError as error:
            raise RequestRefused(Check.MAC, f"cannot add the MAC: {error}") from None
        variant = request.service_reference_variant
        if request.command_variant != LOCAL_DELIVERY_ALONE:
            self._commands.check_room(request.originator_id, request.target_id)
        broken = self._anomalies.broken(request.originator_id, variant, submission.now)
        if broken is not None:
            self._quarantine.check_room(request.originator_id)
        command = add_mac(signed, secret).to_bytes()
        row = self._state.commands[(request.originator_id, request.originator_counter)]
        self._journal_gbcs("signed_pre_command", request, signed.to_bytes())
        self._journal_gbcs("command", request, command)
        local_alone = request.command_variant == LOCAL_DELIVERY_ALONE
        row = replace(
            row,
            state=CommandState.LOCAL if local_alone else CommandState.ACCEPTED,
            command=command,
            schema_version=request.schema_version,
            command_variant=request.command_variant,
        )
        self._anomalies.count(request.originator_id, variant, submission.now)
        return self._pass_on(request, row, broken, submission.now)

    def _pass_on(
        self, request: Request, row: CommandRow, broken: ThresholdConfig | None, now: float
    ) -> bytes:
        """ANOMALY: let a command go on its way, or hold it back; either way it is accepted."""
        body: AcknowledgementBody | LocalCommandBody = AcknowledgementBody()
        if broken is not None:
            self._quarantine.hold(row, broken, now)
        else:
            self._commands.accept(row, now)
            if row.command_variant in LOCAL_DELIVERY_VARIANTS:
                body = LocalCommandBody(row.command)
            self._state.note(Severity.INFO, f"accepted {request.request_id}")
        done = isinstance(body, AcknowledgementBody)
        return self._writer.answer(
            request,
            Code.ACCEPTED if done else Code.SUCCESS,
            body,
            now,
            service=Service.SEND_COMMAND,
        )

    def _refuse(
        self, service: Service, request: Request | None, refusal: RequestRefused, now: float
    ) -> bytes:
        code = self._state.config.code_of(refusal.check)
        return self._writer.refuse(request, code, now, service=service)

    def _note_refusal(
        self, service: Service, request: Request | None, refusal: RequestRefused
    ) -> None:
        what = "what came in" if request is None else str(request.request_id)
        code = self._state.config.code_of(refusal.check)
        self._state.journal.record(
            "refused",
            reference="" if request is None else str(request.request_id),
            service=service.value,
            code=code,
            check=refusal.check.name,
            reason=str(refusal),
        )
        self._state.note(
            Severity.WARNING,
            f"refused {what} at {service.value}: {code} {refusal.check.name}: {refusal}",
        )

    def _journal(self, service: Service, octets: bytes, request: Request | None) -> None:
        self._state.journal.record(
            "duis",
            hop="request",
            direction="in",
            service=service.value,
            request_id="" if request is None else str(request.request_id),
            kind="unreadable" if request is None else type(request.body).__name__,
            variant=None if request is None else request.service_reference_variant,
            command_variant=None if request is None else request.command_variant,
            xml=octets,
        )

    def _journal_gbcs(self, hop: str, request: Request, octets: bytes) -> None:
        self._state.journal.record(
            "gbcs",
            hop=hop,
            originator=str(request.originator_id),
            target=str(request.target_id),
            originator_counter=request.originator_counter,
            octets=octets,
        )

"""Reading DUIS messages from the network, and checking who signed them.

Message and signature are taken from one tree, read once: what is verified is what was understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from gbcs.certificates import Certificate, KeyUsage, Role
from gbcs.duis.inventory import (
    decode_inventory,
    decode_read_inventory,
    decode_update_inventory,
)
from gbcs.duis.model import (
    QUARANTINE_REASONS,
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    LocalCommandBody,
    OtherBody,
    PreCommandBody,
    QuarantinedRequest,
    Request,
    RequestBody,
    RequestId,
    Response,
    ResponseBody,
    ReturnLocalCommandResponse,
    ServiceResponseBody,
    SignedPreCommandBody,
    Throttled,
    UpdateAlcDescriptions,
)
from gbcs.duis.reading import DUIS_BRACED, Cursor, parse_xml
from gbcs.duis.signature import (
    DetachedSignature,
    check_signature,
    detach_signature,
)
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, CertificateRefused, DuisFormatError, XmlSignatureInvalid
from gbcs.keystore import KeyStore
from gbcs.messages import Label

_UNSIGNED_32 = re.compile(r"[0-9]{1,10}")
_DIGIT = re.compile(r"[0-9]")
_EVENT_REFERENCE = re.compile(r"[0-9]{1,20}")
_ALERT_CODE = re.compile(r"[0-9A-Fa-f]{4}")
_HYPHENATED = re.compile(r"[A-Fa-f0-9]{2}(?:-[A-Fa-f0-9]{2}){7}")
_DATE_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})?", re.ASCII
)
# Attributes that XML Schema allows on any element; writers put them on the root.
_SCHEMA_HINTS = tuple(
    f"{{http://www.w3.org/2001/XMLSchema-instance}}{name}"
    for name in ("schemaLocation", "noNamespaceSchemaLocation")
)

_Message = TypeVar("_Message", Request, Response)


@dataclass(frozen=True, slots=True)
class _Signed:
    _signature: DetachedSignature | None = field(repr=False, compare=False)

    @property
    def signed(self) -> bool:
        """Whether the message has a signature; nothing says yet that it holds."""
        return self._signature is not None

    @property
    def signer(self) -> tuple[str, int] | None:
        """Issuer name and serial number of the signer's certificate, as the message claims.

        None when there is no signature or none of the DUIS profile.
        """
        if self._signature is None:
            return None
        try:
            signature = self._signature.read()
        except XmlSignatureInvalid:
            return None
        return signature.issuer_name, signature.serial

    def _verify(
        self, keystore: KeyStore, *, role: Role, at: datetime, entity_id: EntityId | None
    ) -> Certificate:
        if self._signature is None:
            raise XmlSignatureInvalid("the message is not signed")
        signature = self._signature.read()
        certificate = keystore.by_issuer_and_serial(signature.issuer_name, signature.serial)
        if certificate is None:
            raise CertificateRefused(
                f"the signer's certificate (issuer {signature.issuer_name!r}, serial number "
                f"{signature.serial}) is not among the known ones: add its PEM file"
            )
        keystore.verify(
            certificate,
            at=at,
            usage=KeyUsage.DIGITAL_SIGNATURE,
            role=role,
            entity_id=entity_id,
        )
        check_signature(self._signature, signature, certificate.public_key)
        return certificate


@dataclass(frozen=True, slots=True)
class ParsedRequest(_Signed):
    """A request as received.

    Attributes:
        message: what it says.
    """

    message: Request

    def verify(self, keystore: KeyStore, *, role: Role, at: datetime) -> Certificate:
        """Check that the user named as originator signed this request.

        Args:
            keystore: has the trusted certificates.
            role: the role that the signer's certificate must carry.
            at: the moment for which the certificate must be valid, aware.

        Returns:
            The signer's certificate.

        Raises:
            XmlSignatureInvalid: the signature is missing, of another profile or does not hold.
            CertificateRefused: the signer is unknown, or not who it must be.
        """
        return self._verify(keystore, role=role, at=at, entity_id=self.message.originator_id)


@dataclass(frozen=True, slots=True)
class ParsedResponse(_Signed):
    """A response or alert as received.

    Attributes:
        message: what it says.
    """

    message: Response

    def verify(
        self, keystore: KeyStore, *, role: Role, at: datetime, entity_id: EntityId | None = None
    ) -> Certificate:
        """Check that the DCC signed this response.

        Args:
            keystore: has the trusted certificates.
            role: the role that the signer's certificate must carry.
            at: the moment for which the certificate must be valid, aware.
            entity_id: whose certificate it must be; None: anybody's of that role.

        Returns:
            The signer's certificate.

        Raises:
            XmlSignatureInvalid: the signature is missing, of another profile or does not hold.
            CertificateRefused: the signer is unknown, or not who it must be.
        """
        return self._verify(keystore, role=role, at=at, entity_id=entity_id)


def parse_untrusted_request(octets: bytes) -> ParsedRequest:
    """Read a DUIS request from the network; its signature is not checked yet.

    Args:
        octets: the XML document, at most ``MAX_DUIS_OCTETS``.

    Raises:
        DuisFormatError: it is no DUIS request.

    Source: DUIS schema 5.4, type Request.
    """
    return ParsedRequest(*_parse(octets, "Request", _request))


def parse_untrusted_response(octets: bytes) -> ParsedResponse:
    """Read a DUIS response or alert from the network; its signature is not checked yet.

    Args:
        octets: the XML document, at most ``MAX_DUIS_OCTETS``.

    Raises:
        DuisFormatError: it is no DUIS response.

    Source: DUIS schema 5.4, type Response.
    """
    return ParsedResponse(*_parse(octets, "Response", _response))


def _parse(
    octets: bytes, name: str, read: Callable[[Cursor, str], _Message]
) -> tuple[DetachedSignature | None, _Message]:
    root = parse_xml(octets)
    if root.tag != DUIS_BRACED + name:
        raise DuisFormatError(f"the root element is {str(root.tag)[:80]!r}: expected {name}")
    # What stays is both read and digested.
    signature = detach_signature(root)
    cursor = Cursor(root, ("schemaVersion", *_SCHEMA_HINTS))
    try:
        message = read(cursor, cursor.attribute("schemaVersion").strip())
    except BuildError as error:
        raise DuisFormatError(f"{name}: {error}") from error
    cursor.end()
    return signature, message


def _request(cursor: Cursor, schema_version: str) -> Request:
    header = cursor.inside("Header")
    request_id = RequestId.parse_untrusted(header.token("RequestID"))
    sequence = None
    while (name := header.peek()) in ("FirstInSequence", "PrecedingServiceRequestID"):
        header.skip(name)
        sequence = name
    variant = _number(header, "CommandVariant", _DIGIT)
    reference = header.text("ServiceReference")
    reference_variant = header.text("ServiceReferenceVariant")
    header.end()
    body = cursor.inside("Body")
    content = _request_body(body)
    body.end()
    if sequence is not None:
        content = OtherBody(sequence)
    return Request(
        originator_id=request_id.originator_id,
        target_id=request_id.target_id,
        originator_counter=request_id.originator_counter,
        command_variant=variant,
        body=content,
        service_reference=reference,
        service_reference_variant=reference_variant,
        schema_version=schema_version,
    )


def _request_body(body: Cursor) -> RequestBody:
    match body.peek():
        case "UpdateDeviceConfigurationALCDescriptions":
            descriptions = body.inside("UpdateDeviceConfigurationALCDescriptions")
            labels = []
            while descriptions.peek() is not None:
                one = descriptions.inside("ALCSHCALCSDescription", ("index",))
                index = one.attribute("index")
                if not _DIGIT.fullmatch(index):
                    raise one.error(f"index {index[:20]!r}: expected 1 to 5")
                labels.append(Label(int(index), one.text("SwitchDescription")))
                one.end()
            return UpdateAlcDescriptions(tuple(labels))
        case "SignedPreCommand":
            signed = body.inside("SignedPreCommand")
            if (future := signed.peek()) == "ExecutionDateTime":
                return OtherBody(future)
            payload = signed.base64("GBCSPayload")
            signed.end()
            return SignedPreCommandBody(payload)
        case "ReadInventory":
            return decode_read_inventory(body.inside("ReadInventory"))
        case "UpdateInventory":
            return decode_update_inventory(body.inside("UpdateInventory"))
        case "ReturnLocalCommandResponse":
            returned = body.inside("ReturnLocalCommandResponse")
            original = None
            if returned.peek() == "OriginalRequestID":
                original = RequestId.parse_untrusted(returned.token("OriginalRequestID"))
            payload = returned.base64("DeviceGBCSResponse")
            returned.end()
            return ReturnLocalCommandResponse(payload, original)
        case _:
            return _other(body)


def _other(cursor: Cursor) -> OtherBody:
    name = cursor.peek()
    if not name:
        raise cursor.error("expected one element of the DUIS namespace")
    cursor.skip(name)
    return OtherBody(name)


def _response(cursor: Cursor, schema_version: str) -> Response:
    header = cursor.inside("Header")
    request_id = response_id = None
    if header.peek() == "RequestID":
        request_id = RequestId.parse_untrusted(header.token("RequestID"))
    if header.peek() == "ResponseID":
        response_id = RequestId.parse_untrusted(header.token("ResponseID"))
    code = header.text("ResponseCode")
    moment = _date_time(header)
    header.end()
    body = cursor.inside("Body")
    reference = reference_variant = None
    content: ResponseBody
    match body.peek():
        case "ResponseMessage":
            message = body.inside("ResponseMessage")
            reference = message.text("ServiceReference")
            reference_variant = message.text("ServiceReferenceVariant")
            content = _response_content(message, code)
            message.end()
        case "DeviceAlertMessage":
            content = _device_alert(body.inside("DeviceAlertMessage"))
        case "DCCAlertMessage":
            content = _dcc_alert(body.inside("DCCAlertMessage"))
        case _:
            content = _other(body)
    body.end()
    return Response(
        response_code=code,
        response_date_time=moment,
        body=content,
        request_id=request_id,
        response_id=response_id,
        service_reference=reference,
        service_reference_variant=reference_variant,
        schema_version=schema_version,
    )


def _response_content(message: Cursor, code: str) -> ResponseBody:
    match message.peek():
        case None:
            return ErrorBody() if code.startswith("E") else AcknowledgementBody()
        case "GBCSPayload":
            return ServiceResponseBody(message.base64("GBCSPayload"))
        case "PreCommand":
            pre_command = message.inside("PreCommand")
            version = pre_command.text("GBCSVersion")
            payload = pre_command.base64("GBCSPayload")
            pre_command.end()
            return PreCommandBody(payload, version)
        case "LocalCommand":
            local = message.inside("LocalCommand")
            payload = local.base64("GBCSPayload")
            local.end()
            return LocalCommandBody(payload)
        case "DSPInventory":
            return decode_inventory(message.inside("DSPInventory"))
        case _:
            return _other(message)


def _device_alert(alert: Cursor) -> DeviceAlertBody:
    code = alert.token("AlertCode")
    if not _ALERT_CODE.fullmatch(code):
        raise alert.error(f"alert code {code[:20]!r}: expected four hexadecimal digits")
    throttled = _throttled(alert)
    payload = alert.base64("GBCSPayload")
    alert.end()
    return DeviceAlertBody(int(code, 16), payload, throttled)


def _throttled(alert: Cursor) -> Throttled | None:
    sequence_id = count = None
    if alert.peek() == "ThrottledAlertSequenceId":
        sequence_id = _number(alert, "ThrottledAlertSequenceId", _UNSIGNED_32)
    if alert.peek() == "ThrottledAlertCount":
        count = _number(alert, "ThrottledAlertCount", _UNSIGNED_32)
    if sequence_id is None and count is None:
        return None
    return Throttled(sequence_id, count)


def _dcc_alert(message: Cursor) -> DccAlertBody:
    code = message.text("DCCAlertCode")
    throttled = _throttled(message)
    alert = message.inside("DCCAlert")
    message.end()
    content: CommandFailure | QuarantinedRequest | OtherBody
    match alert.peek():
        case "CommandFailure":
            failure = alert.inside("CommandFailure")
            request_id = RequestId.parse_untrusted(failure.token("CommandRequestID"))
            if failure.peek() == "DSPScheduleID":
                failure.text("DSPScheduleID")
            device = failure.token("DeviceID")
            if not _HYPHENATED.fullmatch(device):
                raise failure.error(f"device {device[:40]!r}: expected an EUI-64 with hyphens")
            failure.end()
            content = CommandFailure(request_id, EntityId.parse(device))
        case "QuarantinedRequest":
            content = _quarantined(alert.inside("QuarantinedRequest"))
        case _:
            content = _other(alert)
    alert.end()
    return DccAlertBody(code, content, throttled)


def _quarantined(request: Cursor) -> QuarantinedRequest:
    reason = request.peek() or ""
    if reason not in QUARANTINE_REASONS:
        raise request.error(f"expected one of {', '.join(QUARANTINE_REASONS)}")
    breach = request.inside(reason)
    request.end()
    request_id = RequestId.parse_untrusted(breach.token("RequestID"))
    event_reference = _number(breach, "QuarantineEventRef", _EVENT_REFERENCE)
    breach.end()
    return QuarantinedRequest(request_id, reason, event_reference)


def _number(cursor: Cursor, name: str, form: re.Pattern[str]) -> int:
    text = cursor.token(name)
    if not form.fullmatch(text):
        raise cursor.error(f"{name} is {text[:40]!r}: expected a decimal number")
    return int(text)


def _date_time(header: Cursor) -> datetime:
    text = header.token("ResponseDateTime")
    found = _DATE_TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError("of another form")
        fraction = (found[2] or ".0")[:7]
        # DUIS speaks UTC; a time without zone is read so.
        moment = datetime.fromisoformat(found[1] + fraction.ljust(7, "0") + (found[3] or "Z"))
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise header.error(
            f"ResponseDateTime is {text[:40]!r}: expected a date and time like "
            "2026-11-21T19:50:00.000Z"
        ) from None

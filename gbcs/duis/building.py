"""Writing DUIS messages: text that is in canonical form from the start.

What is signed is the text itself, so nothing has to be canonicalised; tests compare it with what
a C14N library makes of the result.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from gbcs.duis.inventory import (
    InventoryBody,
    ReadInventory,
    UpdateInventory,
    encode_inventory,
    encode_read_inventory,
    encode_update_inventory,
)
from gbcs.duis.model import (
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
    Response,
    ReturnLocalCommandResponse,
    ServiceResponseBody,
    SignedPreCommandBody,
    Throttled,
    UpdateAlcDescriptions,
)
from gbcs.duis.reading import DUIS_NAMESPACE
from gbcs.duis.signature import XmlSigner, escape_text
from gbcs.errors import BuildError

_PROLOGUE = '<?xml version="1.0" encoding="UTF-8" standalone="no"?>'


def build_request(request: Request, xml_signer: XmlSigner) -> bytes:
    """Write and sign a request.

    Args:
        request: what to say.
        xml_signer: the user's.

    Returns:
        The XML document, UTF-8, without white space between elements.

    Raises:
        BuildError: the request has a body that cannot be written.

    Source: DUIS schema 5.4, type Request.
    """
    text = (
        f'<sr:Request xmlns:sr="{DUIS_NAMESPACE}" schemaVersion="{request.schema_version}">'
        f"<sr:Header><sr:RequestID>{request.request_id}</sr:RequestID>"
        f"<sr:CommandVariant>{request.command_variant}</sr:CommandVariant>"
        f"<sr:ServiceReference>{request.service_reference}</sr:ServiceReference>"
        f"<sr:ServiceReferenceVariant>{request.service_reference_variant}"
        f"</sr:ServiceReferenceVariant></sr:Header><sr:Body>{_request_body(request.body)}</sr:Body>"
    )
    return _finish(text, "</sr:Request>", xml_signer)


def build_response(response: Response, xml_signer: XmlSigner | None) -> bytes:
    """Write a response or alert, signed or not.

    Args:
        response: what to say.
        xml_signer: the DCC's; None for acknowledgements and errors, which go unsigned.

    Returns:
        The XML document, UTF-8, without white space between elements.

    Raises:
        BuildError: the response has a body that cannot be written.

    Source: DUIS schema 5.4, type Response.
    """
    header = ""
    if response.request_id is not None:
        header += f"<sr:RequestID>{response.request_id}</sr:RequestID>"
    if response.response_id is not None:
        header += f"<sr:ResponseID>{response.response_id}</sr:ResponseID>"
    text = (
        f'<sr:Response xmlns:sr="{DUIS_NAMESPACE}" schemaVersion="{response.schema_version}">'
        f"<sr:Header>{header}<sr:ResponseCode>{response.response_code}</sr:ResponseCode>"
        f"<sr:ResponseDateTime>{_date_time(response.response_date_time)}</sr:ResponseDateTime>"
        f"</sr:Header><sr:Body>{_response_body(response)}</sr:Body>"
    )
    return _finish(text, "</sr:Response>", xml_signer)


def _finish(text: str, end: str, xml_signer: XmlSigner | None) -> bytes:
    signature = "" if xml_signer is None else xml_signer.signature_over(text + end)
    return (_PROLOGUE + text + signature + end).encode()


def _request_body(body: RequestBody) -> str:
    match body:
        case UpdateAlcDescriptions(labels):
            descriptions = "".join(
                f'<sr:ALCSHCALCSDescription index="{label.index}"><sr:SwitchDescription>'
                f"{escape_text(label.text)}</sr:SwitchDescription></sr:ALCSHCALCSDescription>"
                for label in labels
            )
            return (
                f"<sr:UpdateDeviceConfigurationALCDescriptions>{descriptions}"
                "</sr:UpdateDeviceConfigurationALCDescriptions>"
            )
        case SignedPreCommandBody(payload):
            return f"<sr:SignedPreCommand>{_gbcs_payload(payload)}</sr:SignedPreCommand>"
        case ReadInventory():
            return encode_read_inventory(body)
        case UpdateInventory():
            return encode_update_inventory(body)
        case ReturnLocalCommandResponse(payload, request_id):
            original = (
                ""
                if request_id is None
                else f"<sr:OriginalRequestID>{request_id}</sr:OriginalRequestID>"
            )
            return (
                f"<sr:ReturnLocalCommandResponse>{original}<sr:DeviceGBCSResponse>"
                f"{base64.b64encode(payload).decode()}</sr:DeviceGBCSResponse>"
                "</sr:ReturnLocalCommandResponse>"
            )
        case OtherBody(element):
            raise BuildError(f"a request with the body {element!r} cannot be written here")


def _response_body(response: Response) -> str:
    match response.body:
        case DeviceAlertBody(alert_code, payload, throttled):
            return (
                f"<sr:DeviceAlertMessage><sr:AlertCode>{alert_code:04X}</sr:AlertCode>"
                f"{_throttled(throttled)}{_gbcs_payload(payload)}</sr:DeviceAlertMessage>"
            )
        case DccAlertBody():
            return _dcc_alert(response.body)
        case PreCommandBody(payload, version):
            content = (
                f"<sr:PreCommand><sr:GBCSVersion>{escape_text(version)}</sr:GBCSVersion>"
                f"{_gbcs_payload(payload)}</sr:PreCommand>"
            )
        case ServiceResponseBody(payload):
            content = _gbcs_payload(payload)
        case LocalCommandBody(payload):
            content = f"<sr:LocalCommand>{_gbcs_payload(payload)}</sr:LocalCommand>"
        case InventoryBody():
            content = encode_inventory(response.body)
        case AcknowledgementBody() | ErrorBody():
            content = ""
        case OtherBody(element):
            raise BuildError(f"a response with the body {element!r} cannot be written here")
    return (
        f"<sr:ResponseMessage><sr:ServiceReference>{response.service_reference}"
        "</sr:ServiceReference><sr:ServiceReferenceVariant>"
        f"{response.service_reference_variant}</sr:ServiceReferenceVariant>{content}"
        "</sr:ResponseMessage>"
    )


def _dcc_alert(body: DccAlertBody) -> str:
    match body.alert:
        case CommandFailure(request_id, device_id):
            content = (
                f"<sr:CommandFailure><sr:CommandRequestID>{request_id}</sr:CommandRequestID>"
                f"<sr:DeviceID>{device_id}</sr:DeviceID></sr:CommandFailure>"
            )
        case QuarantinedRequest(request_id, reason, event_reference):
            content = (
                f"<sr:QuarantinedRequest><sr:{reason}><sr:RequestID>{request_id}</sr:RequestID>"
                f"<sr:QuarantineEventRef>{event_reference}</sr:QuarantineEventRef></sr:{reason}>"
                "</sr:QuarantinedRequest>"
            )
        case OtherBody(element):
            raise BuildError(f"a DCC alert with the content {element!r} cannot be written here")
    return (
        f"<sr:DCCAlertMessage><sr:DCCAlertCode>{body.alert_code}</sr:DCCAlertCode>"
        f"{_throttled(body.throttled)}<sr:DCCAlert>{content}</sr:DCCAlert></sr:DCCAlertMessage>"
    )


def _throttled(throttled: Throttled | None) -> str:
    text = ""
    if throttled is not None and throttled.sequence_id is not None:
        text += (
            f"<sr:ThrottledAlertSequenceId>{throttled.sequence_id}</sr:ThrottledAlertSequenceId>"
        )
    if throttled is not None and throttled.count is not None:
        text += f"<sr:ThrottledAlertCount>{throttled.count}</sr:ThrottledAlertCount>"
    return text


def _gbcs_payload(payload: bytes) -> str:
    return f"<sr:GBCSPayload>{base64.b64encode(payload).decode()}</sr:GBCSPayload>"


def _date_time(moment: datetime) -> str:
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"

"""DUIS, the XML in which service users and the DCC speak: values, building, reading, signatures."""

from __future__ import annotations

from gbcs.duis.building import build_request, build_response
from gbcs.duis.codes import (
    DCC_ALERT_CODES,
    RESPONSE_CODES,
    Code,
    DccAlertCode,
    ResponseCode,
    Standing,
    describe,
)
from gbcs.duis.model import (
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    OtherBody,
    PreCommandBody,
    QuarantinedRequest,
    Request,
    RequestBody,
    RequestId,
    Response,
    ResponseBody,
    ServiceResponseBody,
    SignedPreCommandBody,
    Throttled,
    UpdateAlcDescriptions,
)
from gbcs.duis.parsing import (
    ParsedRequest,
    ParsedResponse,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.duis.reading import MAX_DUIS_OCTETS
from gbcs.duis.schema import SCHEMA_FILES, Schema
from gbcs.duis.signature import XmlSigner

__all__ = [
    "DCC_ALERT_CODES",
    "MAX_DUIS_OCTETS",
    "RESPONSE_CODES",
    "SCHEMA_FILES",
    "AcknowledgementBody",
    "Code",
    "CommandFailure",
    "DccAlertBody",
    "DccAlertCode",
    "DeviceAlertBody",
    "ErrorBody",
    "OtherBody",
    "ParsedRequest",
    "ParsedResponse",
    "PreCommandBody",
    "QuarantinedRequest",
    "Request",
    "RequestBody",
    "RequestId",
    "Response",
    "ResponseBody",
    "ResponseCode",
    "Schema",
    "ServiceResponseBody",
    "SignedPreCommandBody",
    "Standing",
    "Throttled",
    "UpdateAlcDescriptions",
    "XmlSigner",
    "build_request",
    "build_response",
    "describe",
    "parse_untrusted_request",
    "parse_untrusted_response",
]

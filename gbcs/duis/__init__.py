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
from gbcs.duis.inventory import (
    STATUS_CHANGES,
    DeviceRecord,
    InventoryBody,
    PropertyFilter,
    ReadInventory,
    UpdateInventory,
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
    RequestId,
    Response,
    ResponseBody,
    ReturnLocalCommandResponse,
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
    "STATUS_CHANGES",
    "AcknowledgementBody",
    "Code",
    "CommandFailure",
    "DccAlertBody",
    "DccAlertCode",
    "DeviceAlertBody",
    "DeviceRecord",
    "ErrorBody",
    "InventoryBody",
    "LocalCommandBody",
    "OtherBody",
    "ParsedRequest",
    "ParsedResponse",
    "PreCommandBody",
    "PropertyFilter",
    "QuarantinedRequest",
    "ReadInventory",
    "Request",
    "RequestBody",
    "RequestId",
    "Response",
    "ResponseBody",
    "ResponseCode",
    "ReturnLocalCommandResponse",
    "Schema",
    "ServiceResponseBody",
    "SignedPreCommandBody",
    "Standing",
    "Throttled",
    "UpdateAlcDescriptions",
    "UpdateInventory",
    "XmlSigner",
    "build_request",
    "build_response",
    "describe",
    "parse_untrusted_request",
    "parse_untrusted_response",
]

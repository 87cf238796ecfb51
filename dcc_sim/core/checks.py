"""The checks on a user's request: one table, in the order in which they are made.

The order is ours (assumed). `gbcs.duis.codes` says how well the meaning of each code is known;
because many are not public, each can be changed by configuration (``response_codes``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gbcs.duis.codes import Code


class Check(enum.Enum):
    """The name of a check; `CHECKS` has the code that it gives."""

    XML = enum.auto()
    SCHEMA = enum.auto()
    XML_SIGNATURE = enum.auto()
    CERTIFICATE = enum.auto()
    USER = enum.auto()
    ROLE = enum.auto()
    DEVICE_KNOWN = enum.auto()
    DEVICE_AUTHORISED = enum.auto()
    DEVICE_STATUS = enum.auto()
    DEVICE_TYPE = enum.auto()
    COMMAND_VARIANT = enum.auto()
    ADDRESS = enum.auto()
    LOCAL_DELIVERY = enum.auto()
    OFFERED = enum.auto()
    STRUCTURE = enum.auto()
    COUNTER_STALE = enum.auto()
    COUNTER_USED = enum.auto()
    ALREADY_ACCEPTED = enum.auto()
    GBCS_FORMAT = enum.auto()
    NOT_TRANSFORMED = enum.auto()
    CORRELATION = enum.auto()
    GBCS_SIGNATURE = enum.auto()
    SYSTEM = enum.auto()
    DEVICE_REACHABLE = enum.auto()
    DEVICE_RESPONDS = enum.auto()


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What one check is about.

    Attributes:
        code: the DUIS response code when it fails.
        what: what must hold.
    """

    code: Code
    what: str


CHECKS: dict[Check, CheckRow] = {
    # Without a RequestID to answer to: HTTP 400.
    Check.XML: CheckRow(Code.XML_INVALID, "well-formed XML of a DUIS request, within the size"),
    # From here on: HTTP 200 and an unsigned DUIS error response.
    Check.SCHEMA: CheckRow(Code.XML_INVALID, "valid against the DUIS schema, if one is given"),
    Check.XML_SIGNATURE: CheckRow(
        Code.XML_SIGNATURE_INVALID, "an XML signature of the DUIS profile, which holds"
    ),
    Check.CERTIFICATE: CheckRow(
        Code.XML_CERTIFICATE_REFUSED,
        "made with a valid XML-signing certificate of the RequestID's originator",
    ),
    Check.USER: CheckRow(Code.UNKNOWN_USER, "the originator is a user of the DCC"),
    Check.ROLE: CheckRow(Code.ROLE_NOT_ELIGIBLE, "the user's role may send this service"),
    Check.DEVICE_KNOWN: CheckRow(Code.UNKNOWN_DEVICE, "the target is in the inventory"),
    Check.DEVICE_AUTHORISED: CheckRow(
        Code.ROLE_NOT_AUTHORISED, "the device is one of this supplier's"
    ),
    Check.DEVICE_STATUS: CheckRow(Code.DEVICE_STATUS, "the device's status fits the service"),
    Check.DEVICE_TYPE: CheckRow(
        Code.SERVICE_NOT_FOR_DEVICE_TYPE, "the device's type fits the service"
    ),
    Check.COMMAND_VARIANT: CheckRow(
        Code.COMMAND_VARIANT_NOT_APPLICABLE, "the command variant fits the service and the body"
    ),
    Check.ADDRESS: CheckRow(
        Code.WRONG_SERVICE_ADDRESS, "sent to the address for this command variant"
    ),
    Check.LOCAL_DELIVERY: CheckRow(
        Code.NOT_FOR_LOCAL_COMMAND, "not for local delivery, which is not simulated"
    ),
    Check.OFFERED: CheckRow(Code.SYSTEM_ERROR, "a service that the simulator offers"),
    Check.STRUCTURE: CheckRow(Code.XML_INVALID, "the body is one that a command can be made of"),
    Check.COUNTER_STALE: CheckRow(
        Code.COUNTER_NOT_HIGHER, "the counter is not below those remembered for the user"
    ),
    Check.COUNTER_USED: CheckRow(
        Code.COUNTER_USED_BEFORE, "the counter was not used before, but for the same transform"
    ),
    Check.ALREADY_ACCEPTED: CheckRow(
        Code.SIGNED_PRE_COMMAND_REPEATED, "the signed pre-command was not accepted before"
    ),
    Check.GBCS_FORMAT: CheckRow(Code.GBCS_INVALID, "the payload is a signed pre-command"),
    Check.NOT_TRANSFORMED: CheckRow(
        Code.PRE_COMMAND_NOT_KNOWN, "a pre-command was made for this RequestID"
    ),
    Check.CORRELATION: CheckRow(
        Code.PRE_COMMAND_CHANGED, "the signed pre-command is that one, octet for octet"
    ),
    Check.GBCS_SIGNATURE: CheckRow(
        Code.GBCS_SIGNATURE_INVALID, "signed by the supplier's digital-signature key"
    ),
    Check.SYSTEM: CheckRow(Code.SYSTEM_ERROR, "the DCC itself can do its work"),
    # After acceptance: an error response, posted to the user.
    Check.DEVICE_REACHABLE: CheckRow(
        Code.DEVICE_UNREACHABLE, "the device connects within the time"
    ),
    Check.DEVICE_RESPONDS: CheckRow(Code.DEVICE_SILENT, "the device responds within the time"),
}

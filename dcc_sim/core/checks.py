"""The checks on a user's request: one table, in the order in which they are made.

The order is ours (assumed). `gbcs.duis.codes` says how well the meaning of each code is known;
because many are not public, each can be changed by configuration (``response_codes``).
``specs/dcc-sim-checks.md`` has this table for readers; a test compares them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gbcs.duis.codes import RESPONSE_CODES, Code, DccAlertCode, Standing


class Check(enum.Enum):
    """The name of a check; `CHECKS` has the code that it gives."""

    XML = enum.auto()
    SCHEMA = enum.auto()
    SCHEMA_VERSION = enum.auto()
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
    OFFERED = enum.auto()
    STRUCTURE = enum.auto()
    COUNTER_STALE = enum.auto()
    COUNTER_USED = enum.auto()
    ALREADY_ACCEPTED = enum.auto()
    INVENTORY_FOUND = enum.auto()
    INVENTORY_DEVICE = enum.auto()
    INVENTORY_STATUS = enum.auto()
    LOCAL_RESPONSE = enum.auto()
    LOCAL_COMMAND = enum.auto()
    GBCS_FORMAT = enum.auto()
    NOT_TRANSFORMED = enum.auto()
    CORRELATION = enum.auto()
    GBCS_SIGNATURE = enum.auto()
    MAC = enum.auto()
    COMMAND_ROOM = enum.auto()
    QUARANTINE_ROOM = enum.auto()
    ANOMALY = enum.auto()
    RELEASED = enum.auto()
    DEVICE_REACHABLE = enum.auto()
    DEVICE_RESPONDS = enum.auto()


class Told(enum.Enum):
    """How the user learns that a check failed; the value is for readers."""

    BAD_REQUEST = "HTTP 400 with an unsigned error response, which has no RequestID"
    ANSWER = "HTTP 200 with an unsigned error response"
    POSTED = "accepted (I99); later a signed error response is posted"
    ALERT = "accepted (I99); a signed DCC alert is posted"


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What one check is about.

    Attributes:
        code: when it fails: a DUIS response code, or a DCC alert code where an alert tells it.
        what: what must hold.
        told: how the user learns that it does not.
    """

    code: Code | DccAlertCode
    what: str
    told: Told = Told.ANSWER

    @property
    def standing(self) -> Standing:
        """How well the meaning of the code is known."""
        if self.told is Told.ALERT:
            return Standing.ASSUMED
        return RESPONSE_CODES[self.code].standing


CHECKS: dict[Check, CheckRow] = {
    Check.XML: CheckRow(
        Code.XML_INVALID, "well-formed XML of a DUIS request, within the size", Told.BAD_REQUEST
    ),
    Check.SCHEMA: CheckRow(Code.XML_INVALID, "valid against the DUIS schema, if one is given"),
    Check.SCHEMA_VERSION: CheckRow(Code.XML_INVALID, "the schema version is 5.2 to 5.4"),
    Check.XML_SIGNATURE: CheckRow(
        Code.XML_SIGNATURE_INVALID, "an XML signature of the DUIS profile, which holds"
    ),
    Check.CERTIFICATE: CheckRow(
        Code.XML_CERTIFICATE_REFUSED,
        "made with a valid, unrevoked XML-signing certificate of the RequestID's originator",
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
    Check.OFFERED: CheckRow(Code.SYSTEM_ERROR, "a service that the simulator offers"),
    Check.STRUCTURE: CheckRow(Code.XML_INVALID, "the body is the service's"),
    Check.COUNTER_STALE: CheckRow(
        Code.COUNTER_NOT_HIGHER, "the counter is not below those remembered for the user"
    ),
    Check.COUNTER_USED: CheckRow(
        Code.COUNTER_USED_BEFORE, "the counter was not used before, but for the same transform"
    ),
    Check.ALREADY_ACCEPTED: CheckRow(
        Code.SIGNED_PRE_COMMAND_REPEATED, "the signed pre-command was not accepted before"
    ),
    Check.INVENTORY_FOUND: CheckRow(
        Code.INVENTORY_NOT_FOUND, "8.2: the inventory has what is asked for"
    ),
    Check.INVENTORY_DEVICE: CheckRow(
        Code.INVENTORY_UPDATE_DEVICE, "8.4: the device is in the inventory, and this supplier's"
    ),
    Check.INVENTORY_STATUS: CheckRow(
        Code.INVENTORY_UPDATE_STATUS, "8.4: the device's type can have the new status"
    ),
    Check.LOCAL_RESPONSE: CheckRow(
        Code.LOCAL_RESPONSE_INVALID, "8.13: the payload is a response that its device signed"
    ),
    Check.LOCAL_COMMAND: CheckRow(
        Code.LOCAL_COMMAND_NOT_KNOWN,
        "8.13: a command of this user for local delivery (6 or 7) awaits that response",
    ),
    Check.GBCS_FORMAT: CheckRow(Code.GBCS_INVALID, "the payload is a signed pre-command"),
    Check.NOT_TRANSFORMED: CheckRow(
        Code.PRE_COMMAND_NOT_KNOWN, "a pre-command was made for this RequestID"
    ),
    Check.CORRELATION: CheckRow(
        Code.PRE_COMMAND_CHANGED, "the signed pre-command is that one, octet for octet"
    ),
    Check.GBCS_SIGNATURE: CheckRow(
        Code.GBCS_SIGNATURE_INVALID, "signed by the supplier's digital-signature key, unrevoked"
    ),
    Check.MAC: CheckRow(
        Code.SYSTEM_ERROR,
        "the device's key-agreement certificate is there and good, so that a MAC can be added",
    ),
    Check.COMMAND_ROOM: CheckRow(
        Code.SYSTEM_ERROR,
        "there is room for one more command to the device, and for what is posted to the user",
    ),
    Check.QUARANTINE_ROOM: CheckRow(
        Code.SYSTEM_ERROR, "the user's quarantine has room for what breaks a threshold"
    ),
    Check.ANOMALY: CheckRow(
        DccAlertCode.REQUEST_QUARANTINED,
        "the user sent no more of this kind in the period than its threshold allows; what breaks "
        "it waits in quarantine",
        Told.ALERT,
    ),
    Check.RELEASED: CheckRow(
        Code.QUARANTINED_DISCARDED, "what was quarantined was released", Told.POSTED
    ),
    Check.DEVICE_REACHABLE: CheckRow(
        Code.DEVICE_UNREACHABLE, "the device connects within the time", Told.POSTED
    ),
    Check.DEVICE_RESPONDS: CheckRow(
        Code.DEVICE_SILENT, "the device responds within the time", Told.POSTED
    ),
}


def describe_checks() -> str:
    """Return the table of checks as Markdown, for `specs/dcc-sim-checks.md`."""
    lines = [
        "| # | check | what must hold | code | standing of the code | how the user is told |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {number} | {check.name} | {row.what} | {row.code} | {row.standing.value} "
        f"| {row.told.value} |"
        for number, (check, row) in enumerate(CHECKS.items(), 1)
    ]
    return "\n".join(lines) + "\n"

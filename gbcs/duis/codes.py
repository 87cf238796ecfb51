"""Every response code and DCC alert code of the DUIS schema, with what is known of its meaning.

The official meanings are not in the schema. ``Standing`` tells how far a row may be trusted:
whoever answers with one of the assumed codes makes it configurable.

Source: DUIS schema 5.4, simple type ResponseCode and element DCCAlertCode.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Standing(enum.Enum):
    """How well the meaning of a code is known."""

    SECONDARY = "read in a secondary public list"
    OBSERVED = "seen in use"
    ASSUMED = "assumed"
    UNKNOWN = "the schema has the code; its meaning is not public"


class Code(enum.StrEnum):
    """The response codes that the parts of this project give and look for."""

    SUCCESS = "I0"
    ACCEPTED = "I99"
    UNKNOWN_USER = "E1"
    ROLE_NOT_ELIGIBLE = "E2"
    USER_STATUS = "E3"
    ROLE_NOT_AUTHORISED = "E4"
    DEVICE_STATUS = "E5"
    SERVICE_NOT_FOR_DEVICE_TYPE = "E11"
    COMMAND_VARIANT_NOT_APPLICABLE = "E12"
    WRONG_SERVICE_ADDRESS = "E13"
    NOT_FOR_LOCAL_COMMAND = "E17"
    UNKNOWN_DEVICE = "E19"
    DEVICE_UNREACHABLE = "E20"
    DEVICE_SILENT = "E21"
    FUTURE_DATED_TIME_OUT = "E30"
    COMMAND_TIME_OUT = "E31"
    COUNTER_NOT_HIGHER = "E40"
    PRE_COMMAND_NOT_KNOWN = "E41"
    PRE_COMMAND_CHANGED = "E42"
    GBCS_SIGNATURE_INVALID = "E43"
    GBCS_INVALID = "E44"
    SIGNED_PRE_COMMAND_REPEATED = "E47"
    COUNTER_USED_BEFORE = "E48"
    QUARANTINED_DISCARDED = "E50"
    XML_CERTIFICATE_REFUSED = "E63"
    XML_SIGNATURE_INVALID = "E64"
    XML_INVALID = "E65"
    SYSTEM_ERROR = "E100"
    INVENTORY_NOT_FOUND = "E080201"
    INVENTORY_UPDATE_DEVICE = "E080405"
    INVENTORY_UPDATE_STATUS = "E080406"
    LOCAL_COMMAND_NOT_KNOWN = "E081301"
    LOCAL_RESPONSE_INVALID = "E081302"


class DccAlertCode(enum.StrEnum):
    """The DCC alert codes that the parts of this project give and look for."""

    COMMAND_NOT_DELIVERED = "N12"
    COMMAND_NOT_ANSWERED = "N13"
    REQUEST_QUARANTINED = "N38"


@dataclass(frozen=True, slots=True)
class ResponseCode:
    """One row of the table of codes.

    Attributes:
        code: as it stands in the message.
        meaning: in our own words.
        standing: how well the meaning is known.
    """

    code: str
    meaning: str
    standing: Standing


_MEANINGS: dict[str, tuple[str, Standing]] = {
    Code.SUCCESS: ("success", Standing.SECONDARY),
    Code.ACCEPTED: (
        "accepted, access control passed, on its way; or done with nothing to return",
        Standing.SECONDARY,
    ),
    Code.UNKNOWN_USER: ("no such user or role", Standing.SECONDARY),
    Code.ROLE_NOT_ELIGIBLE: ("this role may not send this service", Standing.SECONDARY),
    Code.USER_STATUS: ("the user's status forbids it", Standing.SECONDARY),
    Code.ROLE_NOT_AUTHORISED: (
        "the role is not authorised for this device at this time",
        Standing.SECONDARY,
    ),
    Code.DEVICE_STATUS: ("the device's status does not fit the service", Standing.SECONDARY),
    Code.SERVICE_NOT_FOR_DEVICE_TYPE: (
        "the service does not fit the device type",
        Standing.SECONDARY,
    ),
    Code.COMMAND_VARIANT_NOT_APPLICABLE: (
        "the command variant does not fit the request type",
        Standing.SECONDARY,
    ),
    Code.WRONG_SERVICE_ADDRESS: (
        "the request type was sent to the wrong address",
        Standing.SECONDARY,
    ),
    Code.NOT_FOR_LOCAL_COMMAND: ("not available for local command services", Standing.SECONDARY),
    Code.UNKNOWN_DEVICE: ("no such device", Standing.SECONDARY),
    Code.DEVICE_UNREACHABLE: ("the device cannot be reached", Standing.SECONDARY),
    Code.DEVICE_SILENT: ("no response from the device", Standing.SECONDARY),
    Code.FUTURE_DATED_TIME_OUT: ("time-out of a future-dated command", Standing.SECONDARY),
    Code.COMMAND_TIME_OUT: ("time-out of a command", Standing.ASSUMED),
    Code.COUNTER_NOT_HIGHER: (
        "the originator counter is not higher than the last one",
        Standing.ASSUMED,
    ),
    Code.PRE_COMMAND_NOT_KNOWN: ("no pre-command was made for this request", Standing.ASSUMED),
    Code.PRE_COMMAND_CHANGED: (
        "the signed pre-command is not the pre-command that was made",
        Standing.ASSUMED,
    ),
    Code.GBCS_SIGNATURE_INVALID: (
        "the signature of the signed pre-command does not hold",
        Standing.ASSUMED,
    ),
    Code.GBCS_INVALID: ("the payload is not a signed pre-command", Standing.ASSUMED),
    Code.SIGNED_PRE_COMMAND_REPEATED: (
        "this signed pre-command was accepted before",
        Standing.ASSUMED,
    ),
    Code.COUNTER_USED_BEFORE: ("the originator counter was used before", Standing.ASSUMED),
    Code.QUARANTINED_DISCARDED: ("a quarantined request was discarded", Standing.ASSUMED),
    Code.XML_CERTIFICATE_REFUSED: (
        "the XML-signing certificate is unknown, or not the originator's",
        Standing.ASSUMED,
    ),
    Code.XML_SIGNATURE_INVALID: (
        "the XML signature is missing or does not hold",
        Standing.ASSUMED,
    ),
    Code.XML_INVALID: ("the XML is not a valid DUIS message", Standing.OBSERVED),
    Code.SYSTEM_ERROR: ("system error", Standing.ASSUMED),
    Code.INVENTORY_NOT_FOUND: ("8.2: the inventory has nothing of the kind", Standing.ASSUMED),
    Code.INVENTORY_UPDATE_DEVICE: (
        "8.4: the device is not in the inventory, or not this user's",
        Standing.ASSUMED,
    ),
    Code.INVENTORY_UPDATE_STATUS: (
        "8.4: the device cannot take that status",
        Standing.ASSUMED,
    ),
    Code.LOCAL_COMMAND_NOT_KNOWN: (
        "8.13: no command for local delivery awaits this response",
        Standing.ASSUMED,
    ),
    Code.LOCAL_RESPONSE_INVALID: (
        "8.13: the payload is not the device's signed response",
        Standing.ASSUMED,
    ),
}

_GENERAL = (
    "I0 I99 E1 E2 E3 E4 E5 E11 E12 E13 E17 E19 E20 E21 E30 E31 "
    + " ".join(f"E{number}" for number in range(40, 72))
    + " E100 E1000 E1001 E1003 E1004 E1006 E1007 E1008 E1010 E1011"
).split()

# Six digits: the service reference (2 and 2), then a case of that service.
_OF_A_SERVICE = {
    "0101": "E01 E02",
    "0102": "E01",
    "0303": "E01 E02",
    "0401": "E01",
    "0417": "E01",
    "0501": "E01 E02 E03 E05 E07 E08 E09 E10 E11 E12",
    "0502": "E01 E02 W01",
    "0503": "E01 E02 W01",
    "0605": "E01 E02",
    "0607": "E01",
    "0608": "E01 E02 E03",
    "0613": "E01 E04 E05",
    "0615": "E01 E04 E05 E06 E07 E08 E09",
    "0618": "E01 E02 E03",
    "0621": "E01 E02 E03 E05",
    "0622": "E01 E02 E03",
    "0623": "E01 E02 E03 E04 E05 E06",
    "0624": "E01 E02 E03",
    "0628": "E01 E02 E03",
    "0802": "E01 E02",
    "0803": "E01 E02",
    "0804": "E05 E06 E07 E08 E09 E10 E11 E12 E13 E14 E15",
    "0805": "E01 E02 E03",
    "0806": "E01 E02 E04 E06 E07",
    "0807": "E02 E21 E22 E23",
    "0808": "E01 E21 E22",
    "0809": "E01 E02 E03",
    "0811": "E01 E02 E04 E05 E06 E07 E08 E09 E10 E11",
    "0812": "E02 E04 E05 E21 E22 E23",
    "0813": "E01 E02 E03",
    "0814": "E01 E02 E05 E06 W01",
    "1101": "E01 E02 E03 E05 E06 W01",
    "1104": "E01 E02 E03 E05 W01",
    "1201": "E01 E02 E03",
    "1202": "E01 E03 E04 E07",
}


def _rows() -> list[ResponseCode]:
    unknown = ("a check of the DCC; which one is not public", Standing.UNKNOWN)
    rows = [ResponseCode(str(code), *_MEANINGS.get(code, unknown)) for code in _GENERAL]
    for reference, cases in _OF_A_SERVICE.items():
        service = f"{int(reference[:2])}.{int(reference[2:])}"
        for case in cases.split():
            what = "warning" if case[0] == "W" else "error"
            code = case[0] + reference + case[1:]
            assumed = (f"{what} {int(case[1:])} of service {service}", Standing.UNKNOWN)
            rows.append(ResponseCode(code, *_MEANINGS.get(code, assumed)))
    return rows


RESPONSE_CODES: dict[str, ResponseCode] = {row.code: row for row in _rows()}
"""Every response code of the schema."""

DCC_ALERT_CODES: frozenset[str] = frozenset(
    ["AD1", "N999", *(f"N{number}" for number in range(1, 66) if number != 32)]
)
"""Every DCC alert code of the schema."""


def describe(code: str) -> str:
    """Return the code with its meaning, for a person: "E19 (no such device)"."""
    row = RESPONSE_CODES.get(code)
    return f"{code} ({row.meaning})" if row is not None else f"{code} (not a code of the schema)"

"""The GBCS messages of the tunnel's carriers, read from octets.

Their types live in `gbcs.ecs46a` (down) and `gbcs.ecs200` (up) and are
reachable from here. Encoding is canonical: what `parse_untrusted` accepts,
``to_bytes`` gives back octet for octet, so that signatures are always checked
over the octets as received.

Source: GBCS 4.3, use cases ECS46a and ECS200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gbcs import layouts
from gbcs.date_time import GbcsDateTime
from gbcs.ecs46a import (
    MESSAGE_CODE_ECS46A,
    Command,
    DataAccessResult,
    Label,
    PreCommand,
    Response,
    SignedPreCommand,
    make_command,
    make_pre_command,
    make_response,
    make_signed_pre_command,
)
from gbcs.ecs200 import ALERT_CODE_8F88, MESSAGE_CODE_ECS200, Alert, make_alert
from gbcs.errors import BuildError, FormatError
from gbcs.header import MAX_MESSAGE_OCTETS, MESSAGE_CODE_ROUTE_2B, CraFlag
from gbcs.layouts import MAX_LABEL_CHARS, MAX_LABELS, Layout

__all__ = [
    "ALERT_CODE_8F88",
    "MAX_LABELS",
    "MAX_LABEL_CHARS",
    "MAX_MESSAGE_OCTETS",
    "MESSAGE_CODE_ECS46A",
    "MESSAGE_CODE_ECS200",
    "Alert",
    "Command",
    "CraFlag",
    "DataAccessResult",
    "GbcsDateTime",
    "Label",
    "Message",
    "PreCommand",
    "Response",
    "SignedPreCommand",
    "layout_of",
    "parse_untrusted",
]

_CIPHERED = 0xDD
_GENERAL_SIGNING = 0xDF
_CRA_OFFSET = 2
_MESSAGE_CODE = slice(31, 33)
_LABEL_COUNT_OFFSET = 6
_ECS46A_COMMAND = (b"\x01", b"\x00\x53")
_ECS46A_RESPONSE = (b"\x02", b"\x00\x53")
_ROUTE_2B = MESSAGE_CODE_ROUTE_2B.to_bytes(2, "big")
_ECS200_ALERT = (b"\x03", b"\x01\x23")

Message: TypeAlias = PreCommand | SignedPreCommand | Command | Response | Alert
"""Every message that this package reads."""


def parse_untrusted(octets: bytes) -> Message:
    """Read a GBCS message of any of our kinds, checking every octet.

    Encodings that are not canonical are refused, and so is anything after the
    end. Signature and MAC are not checked: see `gbcs.crypto`.

    Args:
        octets: one whole message, at most `MAX_MESSAGE_OCTETS`.

    Returns:
        The message; its ``to_bytes()`` gives back the same octets.

    Raises:
        FormatError: not a message that we know; says where and why.
    """
    layout, make = _choose(octets)
    values = layout.read_unchecked(octets)
    if values is not None:
        try:
            message = make(values)
        except (BuildError, FormatError):
            message = None
        # Same octets when built again: then every constant, length and count was as it must be.
        if message is not None and message.to_bytes() == octets:
            return message
    strict = layout.read_strictly(octets)
    try:
        return make(strict.values)
    except BuildError as error:
        raise FormatError(str(error)) from None


def label_count(pre_command: bytes) -> int:
    """Return how many labels a pre-command sets, without reading all of it.

    Args:
        pre_command: the octets of one that was read or made here.
    """
    # The count of a list stands after tag and priority, invoke id and an empty field.
    length = _MESSAGE_CODE.stop
    first = pre_command[length]
    content = length + 1 + (0 if first < 0x80 else first - 0x80)
    return pre_command[content + _LABEL_COUNT_OFFSET]


def layout_of(octets: bytes) -> Layout:
    """Return the layout that these octets claim to follow.

    Raises:
        FormatError: empty, too long, or of a kind that we do not know.
    """
    return _choose(octets)[0]


def _choose(octets: bytes) -> tuple[Layout, Callable[[Mapping[str, Any]], Message]]:
    if not octets:
        raise FormatError("there are no octets at all", offset=0)
    if octets[:1] == b"\xdf" and octets[_MESSAGE_CODE] == _ROUTE_2B:
        raise FormatError(
            f"message code {MESSAGE_CODE_ROUTE_2B:04X} is that of route 2b: such a message comes "
            "over route 2b's WebSocket only, never through the smart metering system",
            offset=_MESSAGE_CODE.start,
            field="message code",
        )
    if len(octets) > MAX_MESSAGE_OCTETS:
        raise FormatError(f"{len(octets)} octets; a message has at most {MAX_MESSAGE_OCTETS}")
    if octets[0] == _CIPHERED:
        return layouts.COMMAND, make_command
    if octets[0] != _GENERAL_SIGNING:
        raise FormatError(
            f"found {octets[0]:02X}, expected DF (general-signing) or DD (general-ciphering)",
            offset=0,
            field="tag",
        )
    kind = (octets[_CRA_OFFSET : _CRA_OFFSET + 1], octets[_MESSAGE_CODE])
    if kind == _ECS46A_COMMAND:
        if _content_end(octets) >= len(octets):
            return layouts.PRE_COMMAND, make_pre_command
        return layouts.SIGNED_PRE_COMMAND, make_signed_pre_command
    if kind == _ECS46A_RESPONSE:
        return layouts.RESPONSE, make_response
    if kind == _ECS200_ALERT:
        return layouts.ALERT, make_alert
    # A header that does not even hold its form says more than "unknown kind".
    header = layouts.GROUPING_HEADER.read_strictly(octets).values
    raise FormatError(
        f"CRA flag {header['cra_flag']:02X} with message code {header['message_code']:04X} is "
        f"none of ECS46a (0053: 01 command, 02 response) and ECS200 (0123: 03 alert)",
        offset=_MESSAGE_CODE.start,
        field="message code",
    )


def _content_end(octets: bytes) -> int:
    """Return where the content of a general-signing message claims to end."""
    at = _MESSAGE_CODE.stop
    first = octets[at] if at < len(octets) else 0
    if first < 0x80:
        return at + 1 + first
    length_octets = octets[at + 1 : at + 1 + (first & 0x7F)]
    return at + 1 + len(length_octets) + int.from_bytes(length_octets, "big")

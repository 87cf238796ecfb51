"""Correlation: a pre-command is signed only if it says exactly what was asked.

The DCC turns a request into GBCS octets and the user signs them with the key that
commands its devices. Whatever the DCC, or who stands in its place, made of the request:
this is the last look at it.

Source: DUIS (correlation of pre-commands)
"""

from __future__ import annotations

from dsrsp.errors import CorrelationFailed
from gbcs.errors import FormatError
from gbcs.messages import Label, PreCommand, parse_untrusted


def correlate(asked: PreCommand, received: bytes) -> PreCommand:
    """Check that a pre-command from the DCC says what was asked, field by field.

    Args:
        asked: what the request was made from.
        received: the GBCS octets in the DCC's answer.

    Returns:
        The pre-command to sign; its octets are the received ones.

    Raises:
        CorrelationFailed: with every difference by name.
    """
    try:
        message = parse_untrusted(received)
    except FormatError as error:
        raise CorrelationFailed(f"the DCC's pre-command is not readable: {error}") from None
    if not isinstance(message, PreCommand):
        raise CorrelationFailed(
            f"asked for an unsigned {asked.use_case} pre-command, "
            f"the DCC made a {type(message).__name__}"
        )
    differences = _differences(asked, message)
    if differences:
        raise CorrelationFailed(
            "the DCC's pre-command does not say what was asked: " + "; ".join(differences)
        )
    # Belt and braces: the fields agree, and so must every octet that will be signed.
    if received != asked.to_bytes():
        raise CorrelationFailed("the DCC's pre-command has other octets than its fields explain")
    return message


def _differences(asked: PreCommand, received: PreCommand) -> list[str]:
    found = [
        f"{name}: asked {mine}, received {theirs}"
        for name, mine, theirs in (
            ("use case", asked.use_case, received.use_case),
            ("originator", asked.originator_id, received.originator_id),
            ("target", asked.target_id, received.target_id),
            ("originator counter", asked.originator_counter, received.originator_counter),
        )
        if mine != theirs
    ]
    mine_by_index = {label.index: label for label in asked.labels}
    theirs_by_index = {label.index: label for label in received.labels}
    for index in sorted(mine_by_index.keys() | theirs_by_index.keys()):
        mine, theirs = mine_by_index.get(index), theirs_by_index.get(index)
        if mine != theirs:
            found.append(f"label {index}: asked {_text(mine)}, received {_text(theirs)}")
    return found


def _text(label: Label | None) -> str:
    return "none" if label is None else repr(label.text)

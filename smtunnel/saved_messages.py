"""The saved form of an outgoing message: what keeps its encoding (fixed), and what moves.

What is under way on route 2b is not saved: a restart ends every connection. So a message that goes
there is saved as one that is to go there.
"""

from __future__ import annotations

import struct
from typing import Final

from smtunnel.delivery import TRANSITIONS, DeliveryState, MessageStatus
from smtunnel.errors import StateError
from smtunnel.header import Compression
from smtunnel.outgoing import Flight, OutgoingMessage
from smtunnel.policy import Confirmation
from smtunnel.route_choice import RouteChoice
from smtunnel.send_states import SendState

_VERSION: Final = 2
_FIXED: Final = struct.Struct(">BBBBBiQdIIIHB")
_MOVING: Final = struct.Struct(">BBBBBhQQHddHHHBBBB")
_BEGUN_STATES: Final = frozenset({SendState.SENDING, SendState.WAITING, SendState.DISPUTED})
_FLIGHT: Final = struct.Struct(">QHBd")
_RETRY: Final = struct.Struct(">dH")
_DELIVERY_STATES: Final = tuple(DeliveryState)

_CONTROL, _PRINTABLE, _URGENT, _DATED = 1, 2, 4, 8
_ON_2A, _ENGAGED = 1, 2


def export_fixed(message: OutgoingMessage) -> bytes:
    """Build what does not change while the message keeps its encoding."""
    ref = message.ref.encode()
    head = _FIXED.pack(
        _VERSION,
        message.control * _CONTROL
        | message.printable * _PRINTABLE
        | message.urgent * _URGENT
        | message.dated * _DATED,
        message.body_compression,
        message.confirmation,
        message.choice,
        message.priority,
        message.sequence,
        message.deadline,
        message.message_octets,
        len(message.stream),
        message.piece,
        len(ref),
        len(message.peer),
    )
    return head + ref + message.peer + message.stream


def restore_fixed(saved: bytes) -> OutgoingMessage:
    """Make a queued message from what export_fixed built.

    Raises:
        StateError: it is something else.
    """
    try:
        version, flags, compression, confirmation, choice, *numbers = _FIXED.unpack_from(saved)
        priority, sequence, deadline, message_octets, stream_octets, piece, ref, peer = numbers
        if (
            version != _VERSION
            or len(saved) != _FIXED.size + ref + peer + stream_octets
            or not piece
        ):
            raise StateError("a saved message is cut short or of another version")
        place = _FIXED.size
        name = saved[place : place + ref].decode()
        place += ref
        return OutgoingMessage(
            ref=name,
            peer=saved[place : place + peer],
            control=bool(flags & _CONTROL),
            confirmation=Confirmation(confirmation),
            priority=priority,
            sequence=sequence,
            deadline=deadline,
            stream=saved[place + peer :],
            printable=bool(flags & _PRINTABLE),
            piece=piece,
            body_compression=Compression(compression),
            message_octets=message_octets,
            status=MessageStatus(ref=name, fragments_total=1, message_octets=message_octets),
            choice=RouteChoice(choice),
            urgent=bool(flags & _URGENT),
            dated=bool(flags & _DATED),
        )
    except (struct.error, ValueError) as error:
        raise StateError(f"a saved message is not what was saved: {error}") from None


def export_moving(message: OutgoingMessage) -> bytes:
    """Build what changes as the message moves."""
    reason = message.reason.encode()[:65_535]
    status, state, whole = message.status, message.state, message.whole
    receipt_due = message.receipt_due
    # By both routes: what went by 2a goes on alone.
    engaged = whole.engaged and message.choice is not RouteChoice.BOTH
    if engaged and state is SendState.WAITING:
        state = SendState.SENDING
    if engaged or (whole.engaged and message.confirmation is not Confirmation.RECEIPTS):
        receipt_due = None
    head = _MOVING.pack(
        _VERSION,
        state,
        message.begun,
        message.asked,
        _DELIVERY_STATES.index(status.state) | status.receipt_expected << 7,
        -1 if message.message_id is None else message.message_id,
        message.first_counter or 0,
        message.highest_counter,
        message.next_new,
        -1.0 if receipt_due is None else receipt_due,
        -1.0 if message.wake_at is None else message.wake_at,
        len(message.flights),
        len(message.retries),
        len(reason),
        len(message.flags) > 0,
        message.on_2a * _ON_2A | engaged * _ENGAGED,
        whole.sent,
        whole.asked,
    )
    flights = [
        _FLIGHT.pack(
            counter,
            flight.index,
            flight.handed_over,
            -1.0 if flight.deadline is None else flight.deadline,
        )
        for counter, flight in message.flights.items()
    ]
    retries = [_RETRY.pack(due, index) for due, index in message.retries]
    arrays = [message.sent, message.losses, message.flags]
    return b"".join([head, *arrays, *flights, *retries, reason])


def restore_moving(message: OutgoingMessage, saved: bytes) -> None:
    """Take over what export_moving built.

    Raises:
        StateError: it is something else.
    """
    try:
        delivery = _restore_moving(message, saved)
        delivery_state = _DELIVERY_STATES[delivery & 0x7F]
    except (struct.error, ValueError, IndexError) as error:
        raise StateError(
            f"the saved state of message {message.ref} is not what was saved: {error}"
        ) from None
    if DeliveryState.FAILED not in TRANSITIONS[delivery_state]:
        raise StateError(f"message {message.ref} was saved though it had ended")
    _check(message)
    message.status = MessageStatus(
        ref=message.ref,
        state=delivery_state,
        receipt_expected=bool(delivery & 0x80),
        fragments_total=message.total,
        fragments_accepted=message.accepted,
        fragments_delivered=message.delivered,
        message_octets=message.message_octets,
        tunnel_message_id=message.message_id,
        first_counter=message.first_counter,
        routes=message.routes,
    )


def _restore_moving(message: OutgoingMessage, saved: bytes) -> int:
    version, state, begun, asked, delivery, *numbers = _MOVING.unpack_from(saved)
    number, first, highest, next_new, receipt, wake, *counts = numbers
    flights, retries, reason, has_begun, routes, wholes, wholes_asked = counts
    total = message.total if has_begun else 0
    place = _MOVING.size
    expected = 3 * total + flights * _FLIGHT.size + retries * _RETRY.size + reason
    if version != _VERSION or len(saved) != place + expected:
        raise StateError(f"the saved state of message {message.ref} is cut short")
    message.state = SendState(state)
    message.begun, message.asked = begun, asked
    message.highest_counter, message.next_new = highest, next_new
    message.message_id = None if number < 0 else number
    message.first_counter = None if number < 0 else first
    message.receipt_due = None if receipt < 0 else receipt
    message.wake_at = None if wake < 0 else wake
    message.on_2a = bool(routes & _ON_2A)
    message.whole.sent, message.whole.asked = wholes, wholes_asked
    if routes & _ENGAGED:
        message.whole.engaged, message.whole.due = True, 0.0
    parts = [bytearray(saved[place + i * total : place + (i + 1) * total]) for i in (0, 1, 2)]
    message.sent, message.losses, message.flags = parts
    place += 3 * total
    message.flights = {}
    for counter, index, handed_over, deadline in _FLIGHT.iter_unpack(
        saved[place : place + flights * _FLIGHT.size]
    ):
        message.flights[counter] = Flight(
            index, None if deadline < 0 else deadline, bool(handed_over)
        )
    place += flights * _FLIGHT.size
    message.retries = list(_RETRY.iter_unpack(saved[place : place + retries * _RETRY.size]))
    message.reason = saved[place + retries * _RETRY.size :].decode()
    return int(delivery)


def _check(message: OutgoingMessage) -> None:
    """Check that what was saved of the fragments is of fragments that there are.

    Raises:
        StateError: it is not.
    """
    sent = len(message.sent)
    indices = [flight.index for flight in message.flights.values()]
    indices += [index for _, index in message.retries]
    begun = message.message_id is not None
    if (
        message.final
        or max(indices, default=-1) >= sent
        or message.next_new > sent
        or (begun and not sent)
        or (not begun and message.state in _BEGUN_STATES)
        or (not begun and (message.on_2a or message.whole.engaged))
    ):
        raise StateError(f"the saved state of message {message.ref} contradicts itself")

"""A message on its way down: cut into requests, and what their states say of it.

Source: ``specs/tunnel-protocol.md``, downlink delivery: all results 00 on all fragments is
the receipt, for the CEM answers the last one only after it has the whole message on its disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsrsp.core.refusals import explain_results
from dsrsp.core.request import Request, State
from dsrsp.errors import MessageNotSendable
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand
from smtunnel import (
    ECS46A,
    CompressionChoice,
    DeliveryState,
    LocalError,
    MessageStatus,
    Originator,
    advance,
    encode_message,
    payload_to_labels,
)


def cut_message(
    message: bytes,
    *,
    tunnel_message_id: int,
    compression: CompressionChoice,
    max_message_octets: int,
) -> list[str]:
    """Cut a message into the payloads of ECS46a commands.

    Raises:
        MessageNotSendable: too long, or a compression that does not exist.
    """
    try:
        encoded = encode_message(
            message,
            carrier=ECS46A,
            originator=Originator.DSRSP,
            tunnel_message_id=tunnel_message_id,
            compression=compression,
            max_message_octets=max_message_octets,
        )
    except LocalError as error:
        raise MessageNotSendable(str(error)) from None
    return [payload for payload in encoded.payloads if isinstance(payload, str)]


def make_requests(
    ref: str,
    payloads: Sequence[str],
    *,
    supplier_id: EntityId,
    device: EntityId,
    first_counter: int,
) -> list[Request]:
    """Make the requests of a message, with a contiguous block of counters."""
    return [
        Request(
            message_ref=ref,
            index=index,
            pre_command=PreCommand(
                originator_id=supplier_id,
                target_id=device,
                originator_counter=first_counter + index,
                labels=tuple(Label(number, text) for number, text in payload_to_labels(payload)),
            ),
        )
        for index, payload in enumerate(payloads)
    ]


def payload_of(request: Request) -> str:
    """Return the carrier payload that a request carries."""
    return "".join(label.text for label in request.pre_command.labels)


def started(
    status: MessageStatus, *, message_id: int, requests: Sequence[Request]
) -> MessageStatus:
    """Return the status of a message that has got its id and counters."""
    counted = replace(status, fragments_total=len(requests))
    return advance(
        counted,
        tunnel_message_id=message_id,
        first_counter=requests[0].originator_counter,
    )


def status_after(status: MessageStatus, before: Request, after: Request) -> list[MessageStatus]:
    """Return the statuses that follow from the change of one request, oldest first.

    Args:
        status: what was known; nothing follows a final one.
        before: the request as it was when that was known.
        after: the request now.
    """
    if status.final:
        return []
    total = status.fragments_total
    accepted = status.fragments_accepted + (after.accepted and not before.accepted)
    delivered = status.fragments_delivered + (after.delivered and not before.delivered)
    counted = advance(status, fragments_accepted=accepted, fragments_delivered=delivered)
    why = failure(after)
    if why is not None:
        fragment = f"fragment {after.index + 1} of {total}, counter {after.originator_counter}"
        return [advance(counted, DeliveryState.FAILED, reason=f"{fragment}: {why}")]
    if delivered == total:
        whole = advance(counted, DeliveryState.DELIVERED)
        return [whole, advance(whole, DeliveryState.REASSEMBLED)]
    if accepted == total and status.state is DeliveryState.QUEUED:
        return [advance(counted, DeliveryState.ACCEPTED)]
    return [] if counted == status else [counted]


def failure(request: Request) -> str | None:
    """Say why a request keeps its message from being delivered; None: it does not."""
    if request.state in (State.REFUSED, State.TIMED_OUT):
        return request.reason or request.state.value
    if request.state is State.ANSWERED and not request.delivered:
        return explain_results(request.results or (), len(request.pre_command.labels))
    return None

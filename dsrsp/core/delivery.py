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


def status_after(status: MessageStatus, requests: Sequence[Request]) -> list[MessageStatus]:
    """Return the statuses that follow from the requests' states, oldest first.

    Args:
        status: what was known; nothing follows a final one.
        requests: all of the message.
    """
    if status.final:
        return []
    accepted = max(status.fragments_accepted, sum(request.accepted for request in requests))
    delivered = sum(request.delivered for request in requests)
    news: list[MessageStatus] = []
    counted = advance(status, fragments_accepted=accepted, fragments_delivered=delivered)
    failed = next((request for request in requests if failure(request) is not None), None)
    if failed is not None:
        return [
            advance(
                counted,
                DeliveryState.FAILED,
                reason=f"fragment {failed.index + 1} of {len(requests)}, "
                f"counter {failed.originator_counter}: {failure(failed)}",
            )
        ]
    if delivered == len(requests):
        news.append(advance(counted, DeliveryState.DELIVERED))
        news.append(advance(news[-1], DeliveryState.REASSEMBLED))
    elif accepted == len(requests) and status.state is DeliveryState.QUEUED:
        news.append(advance(counted, DeliveryState.ACCEPTED))
    elif counted != status:
        news.append(counted)
    return news


def failure(request: Request) -> str | None:
    """Say why a request keeps its message from being delivered; None: it does not."""
    if request.state in (State.REFUSED, State.TIMED_OUT):
        return request.reason or request.state.value
    if request.state is State.ANSWERED and not request.delivered:
        return explain_results(request.results or (), len(request.pre_command.labels))
    return None

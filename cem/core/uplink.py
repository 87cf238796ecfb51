"""From a message of the application to signed ECS200 alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from cem.core.admission import Identities
from cem.ports import BuiltAlert, OutgoingMessage
from gbcs.counters import OriginatorCounter
from gbcs.crypto import sign_alert
from gbcs.date_time import GbcsDateTime
from gbcs.messages import Alert
from gbcs.ports import Signer
from smtunnel import (
    ECS200,
    CompressionChoice,
    EncodedMessage,
    MessageStatus,
    Originator,
    advance,
    encode_message,
    next_message_id,
)


@dataclass(frozen=True, slots=True)
class BuiltMessage:
    """A message's alerts, not stored yet, and the status that names id and counters."""

    status: MessageStatus
    alerts: tuple[BuiltAlert, ...]


class Uplink:
    """Builds the alerts of one device.

    Args:
        identities: who the alerts are from and for.
        signer: the device's digital-signature key.
        counter: the device's Originator Counter.
        message_octets: longest message, in octets.
        last_tunnel_message_id: the id used last before a restart; None where there was none.
    """

    def __init__(
        self,
        identities: Identities,
        signer: Signer,
        counter: OriginatorCounter,
        *,
        message_octets: int,
        last_tunnel_message_id: int | None,
    ) -> None:
        self._identities = identities
        self._signer = signer
        self._counter = counter
        self._message_octets = message_octets
        self._last_tunnel_message_id = last_tunnel_message_id

    def accept(self, ref: str, message: bytes, compression: str) -> MessageStatus:
        """Return the first status of a message that can be sent; nothing is built or counted.

        Raises:
            LocalError: the message is too long, or the compression is not known.
        """
        encoded = self._encode(message, compression, 0)
        return MessageStatus(
            ref=ref, fragments_total=encoded.fragments, message_octets=len(message)
        )

    def build(self, outgoing: OutgoingMessage, status: MessageStatus, now: float) -> BuiltMessage:
        """Build and sign a message's alerts with counters that follow each other without a gap.

        Args:
            outgoing: the message; only one at a time is between build and its end, so that
                its id is of no other message on its way.
            status: its status so far.
            now: the date-time of the alerts, seconds since 1970.

        Raises:
            LocalError: the message cannot be encoded.
            BuildError: the Originator Counters are used up, or now is no date.
            StoreError: the counters cannot be reserved.
        """
        tunnel_message_id = next_message_id(self._last_tunnel_message_id, ())
        payloads = self._encode(outgoing.message, outgoing.compression, tunnel_message_id).payloads
        date_time = GbcsDateTime.from_timestamp(now)
        first_counter = self._counter.issue_block(len(payloads))
        alerts = tuple(
            BuiltAlert(
                index,
                first_counter + index,
                payload,
                self._alert(first_counter + index, payload, date_time),
            )
            for index, payload in enumerate(payloads)
        )
        self._last_tunnel_message_id = tunnel_message_id
        return BuiltMessage(
            advance(status, tunnel_message_id=tunnel_message_id, first_counter=first_counter),
            alerts,
        )

    def _encode(self, message: bytes, compression: str, tunnel_message_id: int) -> EncodedMessage:
        return encode_message(
            message,
            carrier=ECS200,
            originator=Originator.CEM,
            tunnel_message_id=tunnel_message_id,
            # Text from the application: encode_message refuses what it does not know.
            compression=cast(CompressionChoice, compression),
            max_message_octets=self._message_octets,
        )

    def _alert(self, originator_counter: int, payload: str, date_time: GbcsDateTime) -> bytes:
        """Source: GBCS use case ECS200; the load controller is the supplementary remote party."""
        alert = Alert(
            originator_id=self._identities.device_id,
            target_id=self._identities.supplier_id,
            originator_counter=originator_counter,
            text=payload,
            date_time=date_time,
            supplementary_remote_party_id=self._identities.load_controller_id,
        )
        return sign_alert(alert, self._signer).to_bytes()

"""What one message costs on its way: fragments, commands, DUIS requests, octets on the SM WAN.

The sizes are those of real GBCS messages, built here with the right lengths everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gbcs.entity_id import EntityId
from gbcs.messages import (
    Alert,
    Command,
    GbcsDateTime,
    Label,
    PreCommand,
    Response,
    SignedPreCommand,
)
from smtunnel import (
    DICTIONARIES,
    DICTIONARY_IDS,
    ECS46A,
    ECS200,
    Carrier,
    CompressionChoice,
    EncodedMessage,
    Originator,
    encode_message,
    payload_to_labels,
)

# Only lengths matter here: no identity, counter, signature or MAC changes one.
_PARTY: Final = EntityId(bytes(8))
_SIGNATURE: Final = bytes(64)
_MAC: Final = bytes(12)

DUIS_REQUESTS_PER_COMMAND: Final = 2
"""Transform (command variant 4) and signed pre-command (5). Source: DUIS, critical commands."""
DUIS_ANSWERS_PER_COMMAND: Final = 3
"""Pre-command, acknowledgement I99, and the service response that is posted to the DSRSP."""
DUIS_ALERTS_PER_ALERT: Final = 2
"""The DCC posts each alert to the supplier and to the load controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionCost:
    """What one message costs in one direction.

    Attributes:
        carrier: name of the carrier.
        compression: what was chosen, "none", "zlib" or "zlib, dictionary 1".
        compressed_octets: the message after compression.
        text_chars: all payloads together, headers included, in characters.
        fragments: how many carrier payloads.
        commands: ECS46a commands sent (down only).
        alerts: ECS200 alerts sent (up only).
        duis_requests: DUIS requests that the DSRSP sends.
        duis_received: DUIS messages that the DSRSP receives, answers included.
        sm_wan_octets_down: GBCS octets to the device.
        sm_wan_octets_up: GBCS octets from the device.
    """

    carrier: str
    compression: str
    compressed_octets: int
    text_chars: int
    fragments: int
    commands: int
    alerts: int
    duis_requests: int
    duis_received: int
    sm_wan_octets_down: int
    sm_wan_octets_up: int

    @property
    def sm_wan_octets(self) -> int:
        """GBCS octets on the SM WAN, both ways."""
        return self.sm_wan_octets_down + self.sm_wan_octets_up


def cost_down(message: bytes, compression: CompressionChoice = "auto") -> DirectionCost:
    """Count what a message costs from the DSRSP down to a CEM, as ECS46a commands.

    Raises:
        MessageTooLong: the message does not fit the tunnel.
    """
    encoded = _encode(message, ECS46A, Originator.DSRSP, compression)
    commands = [_command(payload) for payload in encoded.payloads]
    return DirectionCost(
        carrier=ECS46A.name,
        compression=_compression(encoded),
        compressed_octets=encoded.compressed_octets,
        text_chars=sum(map(len, encoded.payloads)),
        fragments=encoded.fragments,
        commands=len(commands),
        alerts=0,
        duis_requests=DUIS_REQUESTS_PER_COMMAND * len(commands),
        duis_received=DUIS_ANSWERS_PER_COMMAND * len(commands),
        sm_wan_octets_down=sum(len(command.to_bytes()) for command in commands),
        sm_wan_octets_up=sum(len(_response(command).to_bytes()) for command in commands),
    )


def cost_up(message: bytes, compression: CompressionChoice = "auto") -> DirectionCost:
    """Count what a message costs from a CEM up to the DSRSP, as ECS200 alerts.

    Raises:
        MessageTooLong: the message does not fit the tunnel.
    """
    encoded = _encode(message, ECS200, Originator.CEM, compression)
    return DirectionCost(
        carrier=ECS200.name,
        compression=_compression(encoded),
        compressed_octets=encoded.compressed_octets,
        text_chars=sum(map(len, encoded.payloads)),
        fragments=encoded.fragments,
        commands=0,
        alerts=encoded.fragments,
        duis_requests=0,
        duis_received=DUIS_ALERTS_PER_ALERT * encoded.fragments,
        sm_wan_octets_down=0,
        sm_wan_octets_up=sum(len(_alert(payload).to_bytes()) for payload in encoded.payloads),
    )


def _encode(
    message: bytes, carrier: Carrier, originator: Originator, compression: CompressionChoice
) -> EncodedMessage:
    return encode_message(
        message,
        carrier=carrier,
        originator=originator,
        tunnel_message_id=0,
        compression=compression,
        peer_dictionaries=DICTIONARIES,
    )


def _compression(encoded: EncodedMessage) -> str:
    for number, dictionary_id in DICTIONARY_IDS.items():
        if dictionary_id == encoded.dictionary_id:
            return f"zlib, dictionary {number}"
    return encoded.compression.name.lower()


def _command(payload: str) -> Command:
    labels = tuple(Label(index, text) for index, text in payload_to_labels(payload))
    pre_command = PreCommand(
        originator_id=_PARTY, target_id=_PARTY, originator_counter=1, labels=labels
    )
    return Command(SignedPreCommand(pre_command, _SIGNATURE), _MAC)


def _response(command: Command) -> Response:
    return Response(
        originator_id=_PARTY,
        target_id=_PARTY,
        originator_counter=1,
        results=(0,) * len(command.pre_command.labels),
        signature=_SIGNATURE,
    )


def _alert(payload: str) -> Alert:
    return Alert(
        originator_id=_PARTY,
        target_id=_PARTY,
        originator_counter=1,
        text=payload,
        date_time=GbcsDateTime(),
        supplementary_remote_party_id=_PARTY,
        signature=_SIGNATURE,
    )

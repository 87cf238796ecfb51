"""The tunnel protocol: OpenADR messages in fragments. Standard library only, no I/O, no clock.

Sending: encode_message makes the payloads of a message's fragments, payload_to_labels spreads one
over the labels of an ECS46a command. Receiving: a Reassembler takes payloads in any order and tells
what happened in events. Whole messages without counters and time: MessageAssembly.

Both together, with retries, receipts and all that must survive a restart: an Endpoint, which a
gateway persists and transports for. Control records are in smtunnel.records and smtunnel.routes.

A message may go by two routes under one name: in fragments through the smart metering system (2a)
and whole, over the internet (2b). An Endpoint takes both in and chooses between them.

The modules, from the octets up::

    limits, errors, carriers, header, octets       what everything stands on
    codec, dictionaries, labels, fragments         one message to payloads and back
    window, uses, stream, assembly, partials,
    reassembler                                    receiving: replays, ids, pieces, messages
    records, routes, control, aborts               what the ends tell each other
    policy, pacing, message_ids, route_choice,
    outgoing, saved_messages, links, line,
    send_states, outbox, course, giving_out,
    peer_word, sending                             sending until it is confirmed, by both routes
    receipts, prompt_receipts, acquaintances       what is owed to a peer, what it understands
    inbound, outbound, effects, work, endpoint     one end, whole
    events, send_events, delivery                  what comes out
"""

from smtunnel.assembly import MessageAssembly
from smtunnel.carriers import CARRIERS, ECS46A, ECS200, ROUTE_2B, Carrier
from smtunnel.delivery import (
    FINAL_STATES,
    TRANSITIONS,
    DeliveryState,
    MessageStatus,
    advance,
)
from smtunnel.dictionaries import DICTIONARIES, DICTIONARY_IDS
from smtunnel.effects import Answer, ControlNews, Effects, ReceivedMessage
from smtunnel.endpoint import Endpoint
from smtunnel.errors import (
    Base64Error,
    ControlInvalid,
    FragmentConflict,
    LimitExceeded,
    LocalError,
    MessageTooLong,
    NotAFragment,
    RemoteError,
    StateError,
    TunnelError,
    UnknownDictionary,
    UnsupportedCompression,
    WindowTooLarge,
    ZlibError,
)
from smtunnel.events import (
    AbortReason,
    ControlReceived,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    IgnoreReason,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
)
from smtunnel.fragments import (
    CompressionChoice,
    EncodedMessage,
    Fragment,
    Payload,
    encode_message,
    parse_untrusted_fragment,
)
from smtunnel.header import Compression, FragmentHeader, Originator, parse_untrusted_header
from smtunnel.labels import labels_to_payload, payload_to_labels
from smtunnel.limits import Limits
from smtunnel.policy import Confirmation, CounterIssuer, Result, SendPolicy
from smtunnel.reassembler import Reassembler
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import ReceiptPolicy
from smtunnel.route_choice import Route, RouteChoice
from smtunnel.send_events import StatusChanged, Transmit

__all__ = [
    "CARRIERS",
    "DICTIONARIES",
    "DICTIONARY_IDS",
    "ECS46A",
    "ECS200",
    "FINAL_STATES",
    "ROUTE_2B",
    "TRANSITIONS",
    "AbortReason",
    "Answer",
    "Base64Error",
    "Carrier",
    "Compression",
    "CompressionChoice",
    "Confirmation",
    "ControlInvalid",
    "ControlNews",
    "ControlReceived",
    "CounterIssuer",
    "DeliveryState",
    "Effects",
    "EncodedMessage",
    "Endpoint",
    "Event",
    "Fragment",
    "FragmentAccepted",
    "FragmentConflict",
    "FragmentHeader",
    "FragmentIgnored",
    "IgnoreReason",
    "LimitExceeded",
    "Limits",
    "LocalError",
    "MessageAborted",
    "MessageAssembly",
    "MessageExpired",
    "MessageReassembled",
    "MessageRejected",
    "MessageStatus",
    "MessageTooLong",
    "NotAFragment",
    "Originator",
    "Payload",
    "Reassembler",
    "ReceiptPolicy",
    "ReceiptSettings",
    "ReceivedMessage",
    "RemoteError",
    "Result",
    "Route",
    "RouteChoice",
    "SendPolicy",
    "StateError",
    "StatusChanged",
    "Transmit",
    "TunnelError",
    "UnknownDictionary",
    "UnsupportedCompression",
    "WindowTooLarge",
    "ZlibError",
    "advance",
    "encode_message",
    "labels_to_payload",
    "parse_untrusted_fragment",
    "parse_untrusted_header",
    "payload_to_labels",
]

"""The sending side of an Endpoint: messages and control records out, as the peer can take them.

What it saves beside what the MessageSender does, under keys that begin with the peer's name in
hexadecimal: ``c`` the peer's capabilities, ``a`` ours as the peer was told them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from smtunnel.acquaintances import Acquaintances
from smtunnel.carriers import Carrier
from smtunnel.control import Record, build_control, pack_records
from smtunnel.effects import ControlNews
from smtunnel.errors import LocalError, StateError
from smtunnel.fragments import CompressionChoice, EncodedMessage, cut_stream, encode_message
from smtunnel.header import Compression, FragmentHeader, Originator
from smtunnel.policy import Confirmation
from smtunnel.prompt_receipts import is_receipts_only
from smtunnel.records import (
    Capabilities,
    CapabilitiesWanted,
    EchoReply,
    EchoRequest,
    ReceiptPolicy,
)
from smtunnel.route_choice import RouteChoice
from smtunnel.send_events import (
    ControlEnded,
    ReencodeNeeded,
    SenderEvent,
    StatusChanged,
    Transmit,
)
from smtunnel.sending import MessageSender
from smtunnel.work import Work

CONTROL_REF: Final = "~"
"""The refs of control messages begin with this; those of messages must not."""

MAX_CONTROL_MESSAGES: Final = 64
"""So many control messages to one peer may wait. What more there is to say is dropped: all of it
is said again when the peer asks again."""

CONTROL_OCTETS_2B: Final = 1024
"""Control messages are no longer than this while route 2b is up; on 2a each fits one fragment."""

_TELLS_CAPABILITIES: Final = "c"


class Outbound:
    """Sender, control messages and what is known of peers together."""

    def __init__(
        self, sender: MessageSender, side: Originator, carrier: Carrier, own: Capabilities
    ) -> None:
        """Begin knowing no peer.

        Args:
            sender: sends.
            side: which end this is.
            carrier: what carries the fragments.
            own: what this end understands.
        """
        self.sender = sender
        self.acquaintances = Acquaintances(own)
        self._side = side
        self._carrier = carrier
        self.dropped = 0
        """How many control messages were dropped because too many wait."""
        self._control_number = 0
        # Peers to which our capabilities are on their way.
        self._telling: set[bytes] = set()

    def introduce(self, work: Work, peer: bytes) -> None:
        """Tell a peer what this end understands, unless it knows or is being told."""
        if not self.acquaintances.knows_us(peer) and peer not in self._telling:
            work.tell(peer, self.acquaintances.own)

    def send(
        self,
        work: Work,
        ref: str,
        peer: bytes,
        message: bytes,
        *,
        compression: CompressionChoice,
        priority: int,
        lifetime_s: float | None,
        route: RouteChoice,
        urgent: bool,
    ) -> None:
        """Enqueue a message, encoded as the peer can take it.

        Raises:
            MessageTooLong: longer than the peer takes.
            LocalError: the ref is taken, or the compression cannot be had.
        """
        if ref.startswith(CONTROL_REF):
            raise LocalError(f"ref {ref!r} begins with {CONTROL_REF!r}, as control messages do")
        events = self.sender.enqueue(
            ref,
            peer,
            self._encode(peer, message, compression, route),
            now=work.now,
            confirmation=self.confirmation(peer),
            priority=priority,
            lifetime_s=lifetime_s,
            choice=route,
            urgent=urgent,
        )
        self.take(work, events)
        self.introduce(work, peer)
        if self._side is Originator.DSRSP and self.acquaintances.must_ask(peer):
            # A CEM announces itself; this one has not, or it is forgotten here.
            work.tell(peer, CapabilitiesWanted())

    def confirmation(self, peer: bytes) -> Confirmation:
        """Return what confirms messages to a peer."""
        confirmation = self.sender.policy.confirmation
        known = self.acquaintances.of(peer)
        if (
            confirmation is Confirmation.RECEIPTS
            and known is not None
            and known.receipts is ReceiptPolicy.OFF
        ):
            return Confirmation.NONE
        return confirmation

    def _encode(
        self, peer: bytes, message: bytes, compression: CompressionChoice, route: RouteChoice
    ) -> EncodedMessage:
        known = self.acquaintances.of(peer) or Capabilities()
        return encode_message(
            message,
            carrier=self.sender.carrier_for(route),
            originator=self._side,
            tunnel_message_id=0,
            compression=compression,
            peer_dictionaries=known.dictionaries,
            window_bits=known.window_bits,
            max_message_octets=known.message_octets,
        )

    def learn(self, work: Work, peer: bytes, capabilities: Capabilities) -> None:
        """Take what a peer says it understands."""
        saved = self.acquaintances.learn(peer, capabilities)
        self.sender.limit_messages(peer, capabilities.partial_messages)
        if saved is not None:
            work.saves[f"{peer.hex()}/c"] = saved
            work.news.append(ControlNews(peer, capabilities))
        if self.confirmation(peer) is Confirmation.NONE:
            self.take(work, self.sender.expect_no_receipts(peer, work.now))
        self.introduce(work, peer)

    def take(self, work: Work, events: Iterable[SenderEvent]) -> None:
        """Do what events of the sender bring."""
        for event in events:
            match event:
                case Transmit():
                    work.transmits.append(event)
                case StatusChanged():
                    work.statuses.append(event)
                case ReencodeNeeded():
                    self._reencode(work, event)
                case ControlEnded() if event.ref.endswith(_TELLS_CAPABILITIES):
                    self._telling.discard(event.peer)
                    if event.delivered:
                        saved = self.acquaintances.told(event.peer)
                        work.saves[f"{event.peer.hex()}/a"] = saved
                case _:
                    pass

    def _reencode(self, work: Work, event: ReencodeNeeded) -> None:
        saved = self.acquaintances.learn_limit(event.peer, event.code, event.detail)
        if saved is not None:
            work.saves[f"{event.peer.hex()}/c"] = saved
        try:
            content, route = self.sender.content(event.ref), self.sender.choice(event.ref)
            encoded = self._encode(event.peer, content, "auto", route)
        except LocalError as error:
            self.take(work, self.sender.cancel(event.ref, str(error), work.now))
        else:
            self.take(work, self.sender.reencoded(event.ref, encoded, work.now))

    def flush(self, work: Work) -> None:
        """Enqueue the records that are to be told, and give out what may go now."""
        for peer, records in work.to_tell.items():
            up = self.sender.route_is_up(peer)
            room = CONTROL_OCTETS_2B if up else self._carrier.body_capacity // 4 * 3
            for packed in pack_records(records, room):
                self._tell(work, peer, packed)
        self.take(work, self.sender.poll(work.now))
        work.saves.update(self.sender.take_saves())

    def _tell(self, work: Work, peer: bytes, records: tuple[Record, ...]) -> None:
        if self.sender.control_messages(peer) >= MAX_CONTROL_MESSAGES:
            self.dropped += 1
            return
        octets = build_control(records)
        header = FragmentHeader(
            self._side, Compression.CONTROL, self._carrier.printable, False, 0, 0
        )
        self._control_number += 1
        ref = f"{CONTROL_REF}{self._control_number}"
        if any(isinstance(record, Capabilities) for record in records):
            ref += _TELLS_CAPABILITIES
            self._telling.add(peer)
        confirmation = self.confirmation(peer)
        if all(isinstance(record, EchoRequest | EchoReply) for record in records):
            # Its reply says it all, and one that is sent again would measure nothing.
            confirmation = Confirmation.NONE
        # Receipts for what came by route 2b are of use there or not at all: who waits asks again.
        fleeting = is_receipts_only(records) and self.sender.route_is_up(peer)
        events = self.sender.enqueue(
            ref,
            peer,
            cut_stream(octets, carrier=self._carrier, header=header, message_octets=len(octets)),
            now=work.now,
            control=True,
            confirmation=Confirmation.NONE if fleeting else confirmation,
            choice=RouteChoice.ONLY_2B if fleeting else RouteChoice.AUTO,
            urgent=True,
            fleeting=fleeting,
        )
        self.take(work, events)

    # Restart

    def restore_known(self, peer: bytes, saved: bytes) -> None:
        """Take over the row ``c`` of a peer.

        Raises:
            StateError: something else than what was saved.
        """
        known = self.acquaintances.restore_known(peer, saved)
        self.sender.limit_messages(peer, known.partial_messages)

    def restore(self, work: Work, rows: dict[str, bytes]) -> None:
        """Take over the sender's rows.

        Raises:
            StateError: something else than what was saved.
        """
        for key in rows:
            peer, kind, ref = (*key.split("/", 2), "")[:3]
            if kind != "m" or not ref.startswith(CONTROL_REF):
                continue
            number = ref.removeprefix(CONTROL_REF).removesuffix(_TELLS_CAPABILITIES)
            if not number.isdecimal():
                raise StateError(f"{key} is not the key of a control message")
            self._control_number = max(self._control_number, int(number))
            if ref.endswith(_TELLS_CAPABILITIES):
                self._telling.add(bytes.fromhex(peer))
        self.take(work, self.sender.restore(rows.items(), work.now))
        work.transmits += self.sender.pending()

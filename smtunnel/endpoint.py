"""One end of the tunnel, whole: what gateways need, which only persist and transport.

An Endpoint is one at the DSRSP, for all its CEMs, or one at a CEM. It has no I/O and no clock.
Every method returns Effects. The gateway stores what must last in one transaction, and only then
answers and transmits; when the transaction fails, it makes a new endpoint from the store::

    effects = endpoint.on_fragment(peer, payload, originator_counter=counter, now=clock())
    try:
        with store.transaction():
            store.apply(effects.saves)              # one table: key, octets
            store.add_received(effects.received)
            store.save_statuses(effects.statuses)
    except StoreError:
        endpoint = new_endpoint()                   # memory may be ahead of the disk
        act_on(endpoint.restore(store.rows(), clock()))
        answer(Answer.TEMPORARY_FAILURE)
    else:
        answer(effects.answer)                      # a promise: it is on the disk
        transmit(effects.transmits)

The same holds for every other method. Effects must be stored in the order in which they came;
several may share a transaction.

Source: specs/tunnel-protocol.md, the two ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from smtunnel.carriers import ECS46A, ECS200, Carrier
from smtunnel.control import Record
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.effects import ControlNews, Effects
from smtunnel.errors import StateError
from smtunnel.fragments import CompressionChoice, Payload
from smtunnel.header import Originator
from smtunnel.inbound import Inbound
from smtunnel.limits import Limits
from smtunnel.outbound import Outbound
from smtunnel.policy import CounterIssuer, Result, SendPolicy
from smtunnel.reassembler import Reassembler
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import (
    Abort,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    Missing,
    Receipt,
    ReceiptPolicy,
)
from smtunnel.route_choice import Route, RouteChoice
from smtunnel.routes import RouteAnswer, RouteOffer, RouteWithdrawn
from smtunnel.sending import MessageSender
from smtunnel.work import Work

_MAX_PEER_OCTETS: Final = 255


def carrier_of(side: Originator) -> Carrier:
    """Return what carries the fragments that an end sends."""
    return ECS46A if side is Originator.DSRSP else ECS200


class Endpoint:
    """One end of the tunnel: reassembler, sender, receipts and control records put together."""

    def __init__(
        self,
        *,
        side: Originator,
        counters: CounterIssuer,
        policy: SendPolicy,
        random_fraction: Callable[[], float],
        limits: Limits | None = None,
        receipts: ReceiptSettings | None = None,
        gathers_receipts: bool = False,
    ) -> None:
        """Begin knowing nothing; restore comes before anything else.

        Args:
            side: which end this is.
            counters: gives out this end's originator counters; what it raises passes through, and
                then the endpoint must be made anew from what was saved.
            policy: how messages are sent.
            random_fraction: returns a random number from 0 to 1, for the waits between attempts.
            limits: bounds on what is held of incomplete messages.
            receipts: when receipts go out; by default batched at the DSRSP, and never at a CEM,
                whose answers say what has arrived.
            gathers_receipts: True to give receipts for what came by route 2b only when
                give_receipts is called, soon; False: with whatever is called.
        """
        limits = limits or Limits()
        other = Originator.CEM if side is Originator.DSRSP else Originator.DSRSP
        if receipts is None:
            batched = ReceiptPolicy.BATCHED if side is Originator.DSRSP else ReceiptPolicy.OFF
            receipts = ReceiptSettings(policy=batched)
        self._inbound = Inbound(
            Reassembler(originator=other, carrier=carrier_of(other), limits=limits), receipts
        )
        sender = MessageSender(
            originator=side,
            carrier=carrier_of(side),
            policy=policy,
            counters=counters,
            random_fraction=random_fraction,
        )
        own = Capabilities(
            receipts=receipts.policy,
            window_bits=limits.window_bits,
            partial_messages=min(limits.partial_messages_per_peer, 255),
            message_octets=limits.message_octets,
            dictionaries=tuple(sorted(DICTIONARIES)),
        )
        self._outbound = Outbound(sender, side, carrier_of(side), own)
        self._gathers_receipts = gathers_receipts

    @property
    def reassembler(self) -> Reassembler:
        """The receiving side, for its counts; nobody else may feed it."""
        return self._inbound.reassembler

    def capabilities(self, peer: bytes) -> Capabilities | None:
        """Return what a peer is known to understand; None while nothing is known."""
        return self._outbound.acquaintances.of(peer)

    def peers(self) -> list[bytes]:
        """Return the peers that have said what they understand."""
        return self._outbound.acquaintances.peers()

    # Inputs from this end

    def announce(self, peer: bytes, now: float) -> Effects:
        """Tell a peer what this end understands, unless it knows: at every start of a CEM."""
        work = Work(now)
        self._outbound.introduce(work, peer)
        return self._finish(work)

    def send(
        self,
        ref: str,
        peer: bytes,
        message: bytes,
        now: float,
        *,
        compression: CompressionChoice = "auto",
        priority: int = 0,
        lifetime_s: float | None = None,
        route: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
    ) -> Effects:
        """Take a message for sending.

        Args:
            ref: this end's name for it, of no other message that has not ended; not with "~" first.
            peer: who it is for.
            message: any octets.
            now: the time, in seconds on the clock of all calls.
            compression: as of encode_message, with what the peer is known to understand.
            priority: higher goes first.
            lifetime_s: to its end at the latest, in seconds; the policy's unless given. One that is
                shorter is its caller's deadline, and told as that.
            route: which routes it may take.
            urgent: True to go by 2a at once where 2b is down.

        Raises:
            MessageTooLong: longer than the peer takes, or than route 2a can carry unless the
                message is for route 2b only.
            LocalError: the ref is taken or begins with "~", the compression cannot be had, or the
                message is for route 2b only, but the policy is without it.
        """
        work = Work(now)
        self._outbound.send(
            work,
            ref,
            peer,
            message,
            compression=compression,
            priority=priority,
            lifetime_s=lifetime_s,
            route=route,
            urgent=urgent,
        )
        return self._finish(work)

    def send_record(
        self, peer: bytes, record: RouteOffer | RouteAnswer | RouteWithdrawn, now: float
    ) -> Effects:
        """Tell a peer something about route 2b."""
        work = Work(now)
        work.tell(peer, record)
        return self._finish(work)

    def echo(self, peer: bytes, nonce: bytes, now: float, *, opaque: bytes = b"") -> Effects:
        """Ask a peer to send something back; the EchoReply comes as news, or never.

        Args:
            peer: whom to ask.
            nonce: 8 octets, by which the reply is known.
            now: the time, in seconds.
            opaque: at most 64 octets more.

        Raises:
            LocalError: nonce or opaque is not of such a length.
        """
        work = Work(now)
        work.tell(peer, EchoRequest(nonce, opaque))
        return self._finish(work)

    def cancel(
        self,
        ref: str,
        reason: str,
        now: float,
        *,
        may_have_gone: bool = True,
        refused: int | None = None,
    ) -> Effects:
        """Give a message up; nothing happens where none of this ref is on its way.

        Args:
            ref: which one.
            reason: why, for a person.
            now: the time, in seconds.
            may_have_gone: False when the gateway knows that nothing of what was given out has
                left this end: then there is nothing to tell the peer.
            refused: the Originator Counter of a carrier message that the carrier has refused for
                good, if that is why. All else that was given out may have arrived, and where that
                may be the whole message, its reason says so. What is on its way by route 2b is
                not given up: it goes on there, and by 2a no more unless that fails.
        """
        work = Work(now)
        held = self._outbound.sender.may_be_held(ref) if may_have_gone else None
        self._outbound.take(work, self._outbound.sender.cancel(ref, reason, now, refused=refused))
        if held is not None:
            # What the peer holds of it takes room there.
            for changed in work.statuses:
                work.tell(changed.peer, Cancelled(held))
        return self._finish(work)

    def answered(self, ref: str, now: float) -> Effects:
        """Note that the application at the other end has answered a message: it has arrived."""
        work = Work(now)
        self._outbound.take(work, self._outbound.sender.answered(ref, now))
        return self._finish(work)

    def waits_for_route_2b_s(self, ref: str, now: float) -> float | None:
        """Return for how long a message waits for route 2b before it goes by 2a, in seconds.

        Infinite: by 2a it does not go at all. None: it does not wait for route 2b.
        """
        return self._outbound.sender.waits_for_2b_s(ref, now)

    # Inputs from transport

    def on_fragment(
        self,
        peer: bytes,
        payload: Payload,
        *,
        originator_counter: int,
        now: float,
        busy: bool = False,
    ) -> Effects:
        """Take the payload of an authenticated carrier message.

        Args:
            peer: who sent it, as the authentication says.
            payload: what the carrier held.
            originator_counter: as signed, 64 bits.
            now: the time, in seconds on the clock of all calls.
            busy: True while too many received messages wait for the application.

        Returns:
            Effects with an answer. At the DSRSP nobody is answered, but for a TEMPORARY_FAILURE
            the gateway may let the DCC deliver the alert again.

        Raises:
            LocalError: the counter is not of 64 bits, or the payload's type is not the carrier's.
        """
        work = Work(now)
        self._inbound.receive(work, peer, payload, originator_counter, busy=busy)
        return self._finish(work)

    def on_message(
        self,
        peer: bytes,
        payload: bytes,
        *,
        originator_counter: int,
        now: float,
        busy: bool = False,
    ) -> Effects:
        """Take a whole message that an authenticated peer has sent by route 2b.

        Args:
            peer: who signed it.
            payload: its content without the version octet: the fragment header (3), then the body.
            originator_counter: as signed, 64 bits.
            now: the time, in seconds on the clock of all calls.
            busy: True while too many received messages wait for the application.

        Returns:
            Effects. Nobody is answered; their answer only says what became of it. The receipts
            are among the transmits.

        Raises:
            LocalError: the counter is not of 64 bits, or the payload is not octets.
        """
        work = Work(now, Route.ROUTE_2B)
        self._inbound.receive(work, peer, payload, originator_counter, busy=busy)
        return self._finish(work)

    @property
    def owes_receipts(self) -> bool:
        """Whether give_receipts has something to give."""
        return self._inbound.owes_prompt_receipts

    def give_receipts(self, now: float) -> Effects:
        """Give the receipts that are due for what came by route 2b."""
        return self._finish(Work(now), prompt_receipts=True)

    def route_up(self, peer: bytes, now: float, *, message_octets: int) -> Effects:
        """Note that route 2b to a peer stands: both ends have proved who they are.

        Args:
            peer: which one.
            now: the time, in seconds.
            message_octets: the largest message, before compression, that it takes there.

        Returns:
            Effects: what waits for the route is among the transmits. Where the route was up
            already, the connection of before counts as gone, with what was on its way there.
        """
        work = Work(now)
        events = self._outbound.sender.route_up(peer, now, message_octets=message_octets)
        self._outbound.take(work, events)
        return self._finish(work)

    def route_down(self, peer: bytes, now: float) -> Effects:
        """Note that route 2b to a peer is gone; nothing happens where it was not up.

        What was given out there and has no receipt goes again: by route 2b when it is up again,
        or by 2a after the policy's fallback_after_s.
        """
        work = Work(now)
        self._outbound.take(work, self._outbound.sender.route_down(peer, now))
        return self._finish(work)

    def on_transmitted(self, originator_counter: int, now: float) -> Effects:
        """Note that a carrier message was taken over: by the DCC down, by the hub up.

        On route 2b: that the connection has taken it.
        """
        work = Work(now)
        self._outbound.take(work, self._outbound.sender.transmitted(originator_counter, now))
        return self._finish(work)

    def on_result(
        self, originator_counter: int, result: Result, now: float, *, detail: str = ""
    ) -> Effects:
        """Take what became of a carrier message; late, twice or unknown is fine.

        Args:
            originator_counter: of the carrier message.
            result: what became of it.
            now: the time, in seconds.
            detail: for a person, in words.
        """
        work = Work(now)
        events = self._outbound.sender.result(originator_counter, result, now, detail)
        self._outbound.take(work, events)
        return self._finish(work)

    # Time

    def get_timer(self) -> float | None:
        """Return when on_timer should be called, in seconds, or None."""
        parts = (self._inbound.reassembler, self._inbound.batcher, self._outbound.sender)
        return min((t for part in parts if (t := part.get_timer()) is not None), default=None)

    def on_timer(self, now: float) -> Effects:
        """Do what time brings."""
        work = Work(now)
        self._inbound.take(work, self._inbound.reassembler.handle_timer(now))
        self._outbound.take(work, self._outbound.sender.handle_timer(now))
        return self._finish(work)

    # What happens inside

    def _finish(self, work: Work, *, prompt_receipts: bool = False) -> Effects:
        for peer, record in work.records:
            self._take_record(work, peer, record)
        self._inbound.flush(
            work,
            self._outbound.sender.takes_receipts,
            prompt_receipts=prompt_receipts or not self._gathers_receipts,
        )
        self._outbound.flush(work)
        return work.effects()

    def _take_record(self, work: Work, peer: bytes, record: Record) -> None:
        outbound, sender, now = self._outbound, self._outbound.sender, work.now
        match record:
            case Receipt() | ControlReceipt():
                control = isinstance(record, ControlReceipt)
                for name in record.messages:
                    outbound.take(work, sender.receipt(peer, name, now, control=control))
            case Missing():
                outbound.take(work, sender.missing(peer, record.message, record.ranges, now))
            case Abort():
                events = sender.aborted(peer, record.message, record.code, record.detail, now)
                outbound.take(work, events)
            case Cancelled():
                events_in = self._inbound.reassembler.cancelled(peer, record.message)
                self._inbound.take(work, events_in)
            case EchoRequest():
                work.tell(peer, EchoReply(record.nonce, record.opaque))
            case Capabilities():
                outbound.learn(work, peer, record)
            case CapabilitiesWanted():
                work.tell(peer, outbound.acquaintances.own)
            case _:
                work.news.append(ControlNews(peer, record))

    # Restart

    def restore(self, rows: Iterable[tuple[str, bytes]], now: float) -> Effects:
        """Take over what was saved; before any other call.

        Args:
            rows: all keys that are not deleted, with their newest octets, in any order.
            now: the time, in seconds.

        Returns:
            What follows. Among the transmits is what was given out before and is not known to be
            handed over: to be handed over (again), but for what the gateway has its own record of.

        Raises:
            StateError: something else than what was saved.
        """
        work = Work(now)
        try:
            self._restore(work, rows, now)
        except StateError:
            raise
        except (LookupError, ValueError, OverflowError) as error:
            # Rows may contradict each other in more ways than each of them can check.
            raise StateError(f"what was saved contradicts itself: {error!r}") from None
        return self._finish(work)

    def _restore(self, work: Work, rows: Iterable[tuple[str, bytes]], now: float) -> None:
        sender_rows: dict[str, bytes] = {}
        fragments: list[tuple[bytes, int, str, bytes]] = []
        for key, octets in rows:
            name, kind, rest = (*key.split("/", 2), "", "")[:3]
            if kind in ("m", "s", "i", "b", "pace"):
                sender_rows[key] = octets
                continue
            try:
                peer = bytes.fromhex(name)
                slot = int(rest.partition("/")[0]) if kind == "f" else 0
            except ValueError:
                raise StateError(f"{key!r} is not a key of this version") from None
            if len(peer) > _MAX_PEER_OCTETS:
                raise StateError(f"a peer of {len(peer)} octets cannot have been saved")
            if kind == "f":
                fragments.append((peer, slot, key, octets))
            elif kind == "r":
                self._inbound.restore_window(work, peer, octets)
            elif kind == "o":
                self._inbound.batcher.restore(peer, octets, now)
            elif kind == "c":
                self._outbound.restore_known(peer, octets)
            elif kind == "a":
                self._outbound.acquaintances.restore_told(peer, octets)
            else:
                raise StateError(f"{key!r} is not a key of this version")
        self._inbound.restore_fragments(work, fragments)
        self._outbound.restore(work, sender_rows)

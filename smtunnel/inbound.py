"""The receiving side of an Endpoint: fragments in, and what is owed to their senders for them.

What it saves, under keys that begin with the peer's name in hexadecimal: ``r`` window and uses,
``f/SLOT/INDEX`` a fragment of an incomplete message (counter, time, payload), ``o`` receipts owed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from smtunnel.aborts import abort_of_error, abort_of_reason
from smtunnel.effects import ANSWERS, Answer, ReceivedMessage
from smtunnel.errors import StateError
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
from smtunnel.fragments import Payload
from smtunnel.prompt_receipts import PromptReceipts, is_receipts_only
from smtunnel.reassembler import Reassembler
from smtunnel.receipts import ReceiptBatcher, ReceiptSettings
from smtunnel.records import (
    Abort,
    EchoReply,
    EchoRequest,
    MessageName,
    ReceiptPolicy,
)
from smtunnel.route_choice import Route
from smtunnel.uses import CONTROL_SLOT
from smtunnel.work import Work

_ROW: Final = struct.Struct(">Qd")
_SILENT: Final = frozenset({AbortReason.SUPERSEDED, AbortReason.BY_SENDER})


class Inbound:
    """Reassembler and receipts together, and the rows that must survive a restart."""

    def __init__(self, reassembler: Reassembler, receipts: ReceiptSettings) -> None:
        """Begin knowing no peer.

        Args:
            reassembler: puts messages together.
            receipts: when receipts go out.
        """
        self.reassembler = reassembler
        self.batcher = ReceiptBatcher(receipts, reassembler.missing_ranges)
        self._prompt = PromptReceipts()
        self._gives_receipts = receipts.policy is not ReceiptPolicy.OFF
        # The saved fragments of incomplete messages, by peer and slot.
        self._rows: dict[tuple[bytes, int], set[str]] = {}

    def receive(
        self, work: Work, peer: bytes, payload: Payload, originator_counter: int, *, busy: bool
    ) -> None:
        """Take the payload of an authenticated carrier message, and say how to answer it."""
        events = self.reassembler.receive_fragment(
            peer,
            payload,
            originator_counter=originator_counter,
            now=work.now,
            busy=busy,
            route=work.route,
        )
        work.answer = _answer(events)
        if work.route is Route.ROUTE_2B:
            self.take(work, events)
            return
        octets = payload.encode("ascii", "replace") if isinstance(payload, str) else payload
        self.take(work, events, _ROW.pack(originator_counter, work.now) + octets)
        if self._gives_receipts:
            for event in events:
                if isinstance(event, FragmentAccepted):
                    key = event.first_counter
                    self.batcher.counter(peer, originator_counter, key, work.now)

    def take(self, work: Work, events: Iterable[Event], row: bytes | None = None) -> None:
        """Do what events of the reassembler bring.

        Args:
            work: gathers it.
            events: what happened.
            row: what to save of the fragment that was accepted; None: it is saved already.
        """
        changed: dict[bytes, None] = {}
        for event in events:
            work.events.append(event)
            match event:
                case FragmentIgnored():
                    self._take_ignored(work, event)
                    continue
                case FragmentAccepted() if work.route is Route.ROUTE_2B:
                    # Whole: there is nothing to keep of it but the message.
                    pass
                case FragmentAccepted():
                    self._take_accepted(work, event, row)
                    if row is None:
                        continue
                case MessageReassembled():
                    self._take_message(work, event)
                case ControlReceived():
                    self._take_control(work, event)
                case _:
                    self._take_bad_end(work, event)
            changed[event.peer] = None
        for peer in changed:
            work.saves[f"{peer.hex()}/r"] = self.reassembler.export_window(peer)

    def _take_accepted(self, work: Work, event: FragmentAccepted, row: bytes | None) -> None:
        slot = event.tunnel_message_id | (CONTROL_SLOT if event.control else 0)
        key = f"{event.peer.hex()}/f/{slot}/{event.index}"
        self._rows.setdefault((event.peer, slot), set()).add(key)
        if row is not None:
            work.save_row(key, row)
        if self._gives_receipts and not event.control:
            self.batcher.heard(event.peer, event.tunnel_message_id, event.first_counter, work.now)

    def _drop_rows(self, work: Work, peer: bytes, slot: int) -> None:
        for key in self._rows.pop((peer, slot), ()):
            work.drop_row(key)

    def _take_message(self, work: Work, event: MessageReassembled) -> None:
        peer, number, key = event.peer, event.tunnel_message_id, event.first_counter
        self._drop_rows(work, peer, number)
        self.batcher.ended(peer, number)
        work.received.append(ReceivedMessage(peer, event.message, number, key, work.route))
        self._owe(work, peer, MessageName.of(number, key), control=False)

    def _take_control(self, work: Work, event: ControlReceived) -> None:
        peer, number = event.peer, event.tunnel_message_id
        self._drop_rows(work, peer, number | CONTROL_SLOT)
        records = event.message.records
        if not all(isinstance(record, EchoRequest | EchoReply) for record in records):
            # An echo is answered, or lost: nobody repeats it.
            self._owe(
                work,
                peer,
                MessageName.of(number, event.first_counter),
                control=True,
                receipts_only=is_receipts_only(records),
            )
        work.records += [(peer, record) for record in records]

    def _take_bad_end(
        self, work: Work, event: MessageRejected | MessageExpired | MessageAborted
    ) -> None:
        peer, number = event.peer, event.tunnel_message_id
        if event.control:
            self._drop_rows(work, peer, number | CONTROL_SLOT)
            return
        self._drop_rows(work, peer, number)
        self.batcher.ended(peer, number)
        name = MessageName.of(number, event.first_counter)
        if isinstance(event, MessageRejected):
            code, detail = abort_of_error(event.error, self.reassembler.limits)
            work.tell(peer, Abort(name, code, detail))
        elif isinstance(event, MessageAborted) and event.reason not in _SILENT:
            work.tell(peer, Abort(name, abort_of_reason(event.reason)))
        # Of one that expired its sender has most likely given up; if not, its next fragment asks.

    def _take_ignored(self, work: Work, event: FragmentIgnored) -> None:
        number, key, peer = event.tunnel_message_id, event.first_counter, event.peer
        if not event.fresh or number is None or key is None:
            return
        if event.reason is IgnoreReason.DELIVERED:
            self._owe(work, peer, MessageName.of(number, key), control=event.control)
        elif event.reason is IgnoreReason.DUPLICATE and not event.control:
            self.batcher.heard(peer, number, key, work.now, again=True)
        elif event.reason is IgnoreReason.ENDED and not event.control:
            work.tell(peer, Abort(MessageName.of(number, key), event.code, event.code_detail))

    def _owe(
        self,
        work: Work,
        peer: bytes,
        name: MessageName,
        *,
        control: bool,
        receipts_only: bool = False,
    ) -> None:
        if work.route is Route.ROUTE_2B:
            self._prompt.owe(peer, name, control=control, receipts_only=receipts_only)
        elif self._gives_receipts and not receipts_only:
            self.batcher.delivered(peer, name, work.now, control=control)
            work.owed.add(peer)

    @property
    def owes_prompt_receipts(self) -> bool:
        """Whether receipts for what came by route 2b are due."""
        return any(True for _ in self._prompt.due())

    def flush(
        self, work: Work, prompt: Callable[[bytes], bool | None], *, prompt_receipts: bool = True
    ) -> None:
        """Let go of the receipts and missing lists whose time has come, or that may go along.

        Args:
            work: gathers it.
            prompt: tells whether receipts may go to a peer over route 2b now: None: there is no
                route 2b to it; False: there are still others on their way.
            prompt_receipts: False to let those for route 2b wait.
        """
        for peer in self._prompt.due() if prompt_receipts else ():
            may_go = prompt(peer)
            if may_go is not False:
                receipts = self._prompt.take(peer)
                if may_go:
                    work.to_tell[peer] = [*receipts, *work.to_tell.get(peer, ())]
        for peer, owed in self.batcher.poll(work.now).items():
            work.to_tell[peer] = [*owed, *work.to_tell.get(peer, ())]
            work.owed.add(peer)
        for peer, records in work.to_tell.items():
            if prompt_receipts and prompt(peer):
                records[:0] = self._prompt.take(peer)
            if receipts := self.batcher.take(peer):
                records[:0] = receipts
                work.owed.add(peer)
        for peer in work.owed:
            work.saves[f"{peer.hex()}/o"] = self.batcher.export(peer) or None

    # Restart

    def restore_window(self, work: Work, peer: bytes, saved: bytes) -> None:
        """Take over the row ``r`` of a peer; before its fragments."""
        self.take(work, self.reassembler.restore_window(peer, saved))

    def restore_fragments(self, work: Work, rows: Iterable[tuple[bytes, int, str, bytes]]) -> None:
        """Take over the rows ``f``: each with its peer, slot, key and octets."""
        arrivals = []
        for peer, slot, key, octets in rows:
            if len(octets) < _ROW.size:
                raise StateError(f"the saved fragment {key} is cut short")
            counter, received_at = _ROW.unpack_from(octets)
            arrivals.append((received_at, counter, peer, slot, key, octets[_ROW.size :]))
        for received_at, counter, peer, slot, key, octets in sorted(arrivals):
            self._rows.setdefault((peer, slot), set()).add(key)
            events = self.reassembler.receive_fragment(
                peer, octets.decode("ascii"), originator_counter=counter, now=received_at
            )
            self.take(work, events)
            if not any(isinstance(event, FragmentAccepted) for event in events):
                # There is no room for its message any more.
                work.drop_row(key)


def _answer(events: Iterable[Event]) -> Answer:
    """Say how to answer the carrier message that brought these events."""
    accepted: FragmentAccepted | None = None
    answer = Answer.OTHER_REASON
    for event in events:
        match event:
            case FragmentIgnored():
                return ANSWERS[event.reason]
            case FragmentAccepted():
                accepted, answer = event, Answer.SUCCESS
            case MessageAborted() if accepted is not None and (event.peer, event.first_counter) == (
                accepted.peer,
                accepted.first_counter,
            ):
                # Accepted, and given up in the same breath: it must not be called a success.
                return Answer.OTHER_REASON
            case _:
                pass
    return answer

"""The tunnel's end for what CEMs send up: verified alerts in, whole messages out.

What an alert changes is stored before its receipt is told to the DCC: the window that keeps
replays out, the fragment, and the message that it completes, all in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dsrsp.core.matching import DeviceAlert
from dsrsp.errors import StorageError
from dsrsp.ports import IncomingMessage, MessageKey, Storage, UplinkFragment, UplinkOutcome
from gbcs.entity_id import EntityId
from smtunnel import (
    ECS200,
    ControlReceived,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    Limits,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    Originator,
    Reassembler,
)

_ENDS = MessageReassembled | ControlReceived | MessageRejected | MessageExpired | MessageAborted


@dataclass(frozen=True, slots=True)
class UplinkNews:
    """What an alert, or the passing of time, brought: all events, and the messages completed."""

    events: Sequence[Event]
    messages: list[IncomingMessage] = field(default_factory=list)


class Uplink:
    """Reassembles what the CEMs send.

    Args:
        storage: keeps windows, fragments and messages.
        limits: bounds on what is held.
    """

    def __init__(self, storage: Storage, *, limits: Limits) -> None:
        self._storage = storage
        self._reassembler = Reassembler(originator=Originator.CEM, carrier=ECS200, limits=limits)
        # Devices of which memory and disk may differ, because a write failed.
        self._doubtful: set[EntityId] = set()
        for device, window in storage.windows().items():
            self._reassembler.restore_window(device.octets, window)
        events = self._replay(storage.uplink_fragments())
        if ended := _ended(events):
            storage.end_uplink(ended)
        self._restored = UplinkNews(events)

    @property
    def restored(self) -> UplinkNews:
        """What became of stored fragments at the start: messages end when limits were lowered."""
        return self._restored

    def get_timer(self) -> float | None:
        """Return when `handle_timer` is due, in seconds since 1970; None: nothing waits."""
        return self._reassembler.get_timer()

    def handle_timer(self, now: float) -> UplinkNews:
        """End messages whose missing fragments did not come in time.

        Raises:
            StorageError: nothing is lost; the fragments go at the next restart.
        """
        events = self._reassembler.handle_timer(now)
        if events:
            self._storage.end_uplink(_ended(events))
        return UplinkNews(events)

    def receive_alert(self, alert: DeviceAlert, *, now: float) -> UplinkNews:
        """Take a verified alert; on return all that it changed is stored.

        Args:
            alert: verified: signature, originator and recipient.
            now: seconds since 1970.

        Raises:
            StorageError: it could not be stored; the alert must come again.
        """
        device = alert.device
        if device in self._doubtful:
            self._restore(device)
        events = self._reassembler.receive_fragment(
            device.octets, alert.text, originator_counter=alert.originator_counter, now=now
        )
        messages = [_incoming(event, now) for event in events if _completes(event)]
        if all(_changes_nothing(event) for event in events):
            return UplinkNews(events)
        ended = _ended(events)
        accepted = [event for event in events if isinstance(event, FragmentAccepted)]
        fragment = None
        if accepted:
            key = _key(accepted[0])
            if key not in ended:
                fragment = UplinkFragment(key, alert.originator_counter, alert.text, now)
        try:
            self._storage.keep_uplink(
                UplinkOutcome(
                    device=device,
                    window=self._reassembler.export_window(device.octets),
                    fragment=fragment,
                    ended=ended,
                    message=messages[0] if messages else None,
                )
            )
        except StorageError:
            self._doubtful.add(device)
            raise
        return UplinkNews(events, messages)

    def _restore(self, device: EntityId) -> None:
        windows = self._storage.windows(device)
        fragments = self._storage.uplink_fragments(device)
        self._reassembler.forget_peer(device.octets)
        for window in windows.values():
            self._reassembler.restore_window(device.octets, window)
        self._replay(fragments)
        self._doubtful.discard(device)

    def _replay(self, fragments: list[UplinkFragment]) -> list[Event]:
        return [
            event
            for fragment in fragments
            for event in self._reassembler.receive_fragment(
                fragment.key.device.octets,
                fragment.payload,
                originator_counter=fragment.originator_counter,
                now=fragment.received_at,
            )
        ]


def _completes(event: Event) -> bool:
    return isinstance(event, MessageReassembled)


def _changes_nothing(event: Event) -> bool:
    return isinstance(event, FragmentIgnored)


def _key(event: FragmentAccepted | _ENDS) -> MessageKey:
    return MessageKey(EntityId(event.peer), event.tunnel_message_id, event.first_counter)


def _ended(events: Sequence[Event]) -> tuple[MessageKey, ...]:
    return tuple(_key(event) for event in events if isinstance(event, _ENDS))


def _incoming(event: Event, now: float) -> IncomingMessage:
    if not isinstance(event, MessageReassembled):
        raise TypeError(f"{event} completes no message")
    key = _key(event)
    return IncomingMessage(
        # Of the same message always the same: the store refuses a second one.
        ref=f"{key.device.hex}-{key.first_counter}-{key.tunnel_message_id}",
        device=key.device,
        message=event.message,
        received_at=now,
    )

"""Takes accepted commands to their devices, and what the devices say to the users."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

from dcc_sim.core.checks import Check
from dcc_sim.core.effects import Deliver, Severity
from dcc_sim.core.keys import Keys
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.outbox import Outbox
from dcc_sim.core.state import CommandKey, State
from dcc_sim.errors import DeviceMessageRefused
from dcc_sim.ports import CommandRow, CommandState
from gbcs.crypto import verify_message
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, FormatError, SignatureInvalid
from gbcs.messages import Alert, PreCommand, Response, parse_untrusted


@dataclass(slots=True)
class _Pending:
    row: CommandRow
    deadline: float
    was_sent: bool = False


class CommandDesk:
    """The way between the access control broker and the devices.

    A command goes out when its device is connected; when the connection breaks before the
    response it goes out again with the next one, until its time is over. Setting labels
    again does no harm, and a device tells a repeated command by its counter.
    """

    def __init__(
        self, state: State, keys: Keys, writer: DuisWriter, outbox: Outbox, now: float
    ) -> None:
        self._state = state
        self._keys = keys
        self._writer = writer
        self._outbox = outbox
        self._connected: set[EntityId] = set()
        self._pending: dict[CommandKey, _Pending] = {}
        self._by_device: dict[EntityId, dict[CommandKey, None]] = {}
        self._deadlines: list[tuple[float, CommandKey]] = []
        for row in state.commands.values():
            # After a restart every device gets its full time to come back.
            if row.state is CommandState.ACCEPTED:
                self._await(row, now)

    def accept(self, row: CommandRow, now: float) -> None:
        """Take over a command in state ACCEPTED."""
        self._state.storage.save_accepted(row)
        self._state.commands[_key(row)] = row
        pending = self._await(row, now)
        if row.device in self._connected:
            self._send(pending, now)

    def handle_connected(self, device: EntityId, now: float) -> None:
        """A device proved its key; it gets all that waits for it, the oldest first."""
        self._connected.add(device)
        for key in tuple(self._by_device.get(device, ())):
            self._send(self._pending[key], now)

    def handle_disconnected(self, device: EntityId) -> None:
        """A device is gone; what it did not answer waits for it."""
        self._connected.discard(device)

    def receive_untrusted_message(self, device: EntityId, octets: bytes, now: float) -> None:
        """Take a GBCS message from a device that proved its key.

        What is not to be believed is dropped with a log line that says why.
        """
        try:
            message = self._verified(device, octets, now)
            if isinstance(message, Response):
                self._receive_response(message, octets, now)
            else:
                self._receive_alert(message, octets, now)
        except DeviceMessageRefused as error:
            self._state.note(Severity.WARNING, f"dropped a message of {device}: {error}")

    def handle_timer(self, now: float) -> None:
        """Give up commands whose time is over, and tell their users."""
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            pending = self._pending.get(key)
            if pending is not None and pending.deadline == deadline:
                self._give_up(pending, now)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, in seconds since 1970."""
        while self._deadlines:
            deadline, key = self._deadlines[0]
            pending = self._pending.get(key)
            if pending is not None and pending.deadline == deadline:
                return deadline
            heapq.heappop(self._deadlines)
        return None

    def _await(self, row: CommandRow, now: float) -> _Pending:
        pending = _Pending(row, now + self._state.config.device_connect_timeout_s)
        self._pending[_key(row)] = pending
        self._by_device.setdefault(row.device, {})[_key(row)] = None
        heapq.heappush(self._deadlines, (pending.deadline, _key(row)))
        return pending

    def _send(self, pending: _Pending, now: float) -> None:
        row = pending.row
        if not pending.was_sent:
            pending.was_sent = True
            pending.deadline = now + self._state.config.device_response_timeout_s
            heapq.heappush(self._deadlines, (pending.deadline, _key(row)))
        self._state.effects.append(Deliver(row.device, row.request_id, row.command))

    def _forget(self, row: CommandRow) -> None:
        if self._pending.pop(_key(row), None) is not None:
            waiting = self._by_device[row.device]
            del waiting[_key(row)]
            if not waiting:
                del self._by_device[row.device]

    def _give_up(self, pending: _Pending, now: float) -> None:
        row = pending.row
        check = Check.DEVICE_RESPONDS if pending.was_sent else Check.DEVICE_REACHABLE
        postings = self._writer.command_failed(row, check, now)
        timed_out = replace(row, state=CommandState.TIMED_OUT)
        if row.originator_counter <= self._state.window(row.user).floor:
            # Nothing would delete it later: its counter has left the window already.
            self._state.storage.save_answered(row, postings)
            del self._state.commands[_key(row)]
        else:
            self._state.storage.save_timed_out(timed_out, postings)
            self._state.commands[_key(row)] = timed_out
        self._forget(row)
        self._outbox.enqueue(postings, now)
        why = "did not respond" if pending.was_sent else "did not connect"
        self._state.note(
            Severity.WARNING,
            f"gave up {row.request_id}: {self._state.config.code_of(check)}: the device {why}",
        )

    def _verified(self, device: EntityId, octets: bytes, now: float) -> Response | Alert:
        try:
            message = parse_untrusted(octets)
        except FormatError as error:
            raise DeviceMessageRefused(f"not a GBCS message: {error}") from None
        if not isinstance(message, Response | Alert):
            raise DeviceMessageRefused(
                f"a {type(message).__name__}; devices send responses and alerts"
            )
        if message.originator_id != device:
            raise DeviceMessageRefused(f"it says that it comes from {message.originator_id}")
        try:
            verify_message(message, self._keys.device_signature_key(device, now))
        except (SignatureInvalid, CertificateError) as error:
            raise DeviceMessageRefused(str(error)) from None
        return message

    def _receive_response(self, response: Response, octets: bytes, now: float) -> None:
        row = self._awaited(response)
        self._journal("response", response, octets)
        postings = self._writer.service_response(row, octets, now)
        self._state.storage.save_answered(row, postings)
        del self._state.commands[_key(row)]
        self._forget(row)
        self._outbox.enqueue(postings, now)
        late = " late" if row.state is CommandState.TIMED_OUT else ""
        outcome = "success" if response.success else f"results {bytes(response.results).hex(' ')}"
        self._state.note(Severity.INFO, f"response to {row.request_id}{late}: {outcome}")

    def _awaited(self, response: Response) -> CommandRow:
        row = self._state.command(response.target_id, response.originator_counter)
        if row is None or row.state is CommandState.TRANSFORMED:
            raise DeviceMessageRefused(
                f"a response to counter {response.originator_counter} of {response.target_id}, "
                "of which no command awaits one: answered before, or never sent"
            )
        if row.device != response.originator_id:
            raise DeviceMessageRefused(f"a response to {row.request_id}, another device's command")
        command = parse_untrusted(row.pre_command)
        labels = len(command.labels) if isinstance(command, PreCommand) else 0
        if len(response.results) != labels:
            raise DeviceMessageRefused(
                f"{len(response.results)} results for the {labels} labels of {row.request_id}"
            )
        return row

    def _receive_alert(self, alert: Alert, octets: bytes, now: float) -> None:
        recipients = [alert.target_id]
        other = alert.supplementary_remote_party_id
        if other is not None and other != alert.target_id:
            recipients.append(other)
        self._journal("alert", alert, octets)
        postings = [
            posting
            for user in recipients
            for posting in self._writer.device_alert(alert, octets, user, now)
        ]
        self._state.storage.save_postings(postings)
        self._outbox.enqueue(postings, now)
        self._state.note(
            Severity.INFO,
            f"alert {alert.alert_code:04X} of {alert.originator_id}, counter "
            f"{alert.originator_counter}, for {', '.join(map(str, recipients))}",
        )

    def _journal(self, hop: str, message: Response | Alert, octets: bytes) -> None:
        self._state.journal.record(
            "gbcs",
            hop=hop,
            originator=str(message.originator_id),
            target=str(message.target_id),
            originator_counter=message.originator_counter,
            octets=octets,
        )


def _key(row: CommandRow) -> CommandKey:
    return (row.user, row.originator_counter)

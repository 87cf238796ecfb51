"""Takes accepted commands to their devices, and what the devices say to the users."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

from dcc_sim.core.checks import Check
from dcc_sim.core.effects import Deliver, Severity
from dcc_sim.core.faults import Hop
from dcc_sim.core.keys import Keys
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.network import (
    AlertStormProtection,
    Arrived,
    Lost,
    Network,
    NetworkProfile,
    Parcel,
)
from dcc_sim.core.outbox import Outbox
from dcc_sim.core.services import LOCAL_DELIVERY_VARIANTS
from dcc_sim.core.state import CommandKey, State
from dcc_sim.errors import DeviceMessageRefused, RequestRefused
from dcc_sim.ports import CommandRow, CommandState, PostingRow
from gbcs.crypto import verify_message
from gbcs.duis import RequestId
from gbcs.duis.codes import DccAlertCode
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, FormatError, SignatureInvalid
from gbcs.messages import Alert, Response, label_count, parse_untrusted


@dataclass(slots=True)
class _Pending:
    row: CommandRow
    deadline: float
    attempts: int = 0
    is_at_device: bool = False
    was_sent: bool = False


class CommandDesk:
    """The way between the access control broker and the devices.

    An accepted command is given to the network, again and again if the profile says so. When it
    has come through and its device is connected, the device gets it; when the connection breaks
    before the response it goes out again with the next one, until its time is over. Setting
    labels again does no harm, and a device tells a repeated command by its counter. A command
    that comes through after it was given up still goes to its device.
    """

    def __init__(
        self,
        state: State,
        keys: Keys,
        writer: DuisWriter,
        outbox: Outbox,
        network: Network,
        profile: NetworkProfile,
        now: float,
    ) -> None:
        self._state = state
        self._keys = keys
        self._writer = writer
        self._outbox = outbox
        self._network = network
        self._retries = profile.retries
        self._storm = AlertStormProtection(profile.alert_storm)
        self._connected: set[EntityId] = set()
        self._pending: dict[CommandKey, _Pending] = {}
        self._by_device: dict[EntityId, dict[CommandKey, None]] = {}
        self._deadlines: list[tuple[float, CommandKey]] = []
        # When to send again, what, after which attempt: an entry of an earlier one is void.
        self._repeats: list[tuple[float, CommandKey, int]] = []
        for row in state.commands.values():
            # After a restart every device gets its full time to come back.
            if row.state is CommandState.ACCEPTED:
                self._dispatch(self._await(row, now), now)

    def check_room(self, user: EntityId, device: EntityId) -> None:
        """COMMAND_ROOM: what waits for one device, and to be posted to one user, is bounded.

        Raises:
            RequestRefused: there is no room for one more.
        """
        config = self._state.config
        if len(self._by_device.get(device, ())) >= config.commands_per_device:
            raise RequestRefused(
                Check.COMMAND_ROOM,
                f"{config.commands_per_device} commands wait for {device} already: wait for the "
                "responses to some",
            )
        if not self._outbox.has_room(user):
            raise RequestRefused(
                Check.COMMAND_ROOM,
                f"{config.postings_per_user} messages wait to be posted to {user} already: its "
                "receive address must take some",
            )

    def accept(self, row: CommandRow, now: float) -> None:
        """Take over a command in state ACCEPTED, or LOCAL: that one goes nowhere."""
        self._state.storage.save_accepted(row)
        self.take_over(row, now)

    def take_over(self, row: CommandRow, now: float) -> None:
        """See accept; the command is already saved."""
        self._state.commands[_key(row)] = row
        if row.state is CommandState.ACCEPTED:
            self._dispatch(self._await(row, now), now)

    def handle_connected(self, device: EntityId, now: float) -> None:
        """A device proved its key; it gets all that came through to it, the oldest first."""
        self._connected.add(device)
        for key in tuple(self._by_device.get(device, ())):
            pending = self._pending[key]
            if pending.is_at_device:
                self._send(pending, pending.row.command, now)

    def handle_command_arrived(self, arrived: Arrived, now: float) -> None:
        """A command came through the network; now or later its device gets it."""
        row = self._row_of(arrived.parcel)
        pending = None if row is None else self._pending.get(_key(row))
        device, reference = arrived.parcel.device, arrived.parcel.reference
        if pending is not None:
            pending.is_at_device = True
            if device in self._connected:
                self._send(pending, arrived.octets, now)
        elif device in self._connected:
            what = "its answer" if row is None else "it was given up"
            self._state.note(Severity.INFO, f"command {reference} comes through after {what}")
            self._state.effects.append(Deliver(device, reference, arrived.octets))
        else:
            self._state.note(
                Severity.WARNING,
                f"command {reference} is lost: nobody waits for it and {device} is not connected",
            )

    def handle_command_lost(self, lost: Lost) -> None:
        """A command did not come through; its time runs on."""
        self._state.note(
            Severity.INFO, f"command {lost.parcel.reference} did not come through: {lost.reason}"
        )

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
        """Send again what waits long; give up what waits too long, and tell its users."""
        while self._repeats and self._repeats[0][0] <= now:
            _, key, attempts = heapq.heappop(self._repeats)
            pending = self._pending.get(key)
            if pending is not None and pending.attempts == attempts:
                self._dispatch(pending, now)
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
                break
            heapq.heappop(self._deadlines)
        timers = [deadline for deadline, _ in self._deadlines[:1]]
        timers += [again for again, _, _ in self._repeats[:1]]
        return min(timers, default=None)

    def _row_of(self, parcel: Parcel) -> CommandRow | None:
        """Return the command that a parcel carries, unless it was answered."""
        if not isinstance(parcel.token, CommandRow):
            return None
        return self._state.commands.get(_key(parcel.token))

    def _await(self, row: CommandRow, now: float) -> _Pending:
        pending = _Pending(row, now + self._contact_timeout_s)
        self._pending[_key(row)] = pending
        self._by_device.setdefault(row.device, {})[_key(row)] = None
        heapq.heappush(self._deadlines, (pending.deadline, _key(row)))
        return pending

    @property
    def _contact_timeout_s(self) -> float:
        own = self._retries.contact_timeout_s
        usual = self._state.config.device_connect_timeout_s
        return self._network.real_s(usual if own is None else own.value)

    @property
    def _response_timeout_s(self) -> float:
        own = self._retries.response_timeout_s
        usual = self._state.config.device_response_timeout_s
        return self._network.real_s(usual if own is None else own.value)

    def _dispatch(self, pending: _Pending, now: float) -> None:
        """Give a command to the network, and see to it that it is sent again in time."""
        row, retries = pending.row, self._retries
        pending.attempts += 1
        if (
            retries.attempts is not None
            and retries.interval_s is not None
            and pending.attempts < retries.attempts.value
        ):
            again = now + self._network.real_s(retries.interval_s.value)
            heapq.heappush(self._repeats, (again, _key(row), pending.attempts))
        if pending.attempts > 1:
            self._state.note(
                Severity.INFO, f"sending {row.request_id} once more, attempt {pending.attempts}"
            )
        parcel = Parcel(Hop.COMMAND, row.device, row.request_id, row.command, token=row)
        self._network.send(parcel, now)

    def _send(self, pending: _Pending, octets: bytes, now: float) -> None:
        row = pending.row
        if not pending.was_sent:
            pending.was_sent = True
            pending.deadline = now + self._response_timeout_s
            heapq.heappush(self._deadlines, (pending.deadline, _key(row)))
        self._state.effects.append(Deliver(row.device, row.request_id, octets))

    def _forget(self, row: CommandRow) -> None:
        if self._pending.pop(_key(row), None) is not None:
            waiting = self._by_device[row.device]
            del waiting[_key(row)]
            if not waiting:
                del self._by_device[row.device]

    def _give_up(self, pending: _Pending, now: float) -> None:
        row = pending.row
        check = Check.DEVICE_RESPONDS if pending.was_sent else Check.DEVICE_REACHABLE
        postings = self._tell_failure(row, check, now)
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

    def _tell_failure(self, row: CommandRow, check: Check, now: float) -> list[PostingRow]:
        retries = self._retries
        tell = "response" if retries.tell is None else retries.tell.value
        postings = []
        if tell in ("response", "both"):
            postings += self._writer.command_failed(row, check, now)
        if tell in ("alert", "both"):
            silent = check is Check.DEVICE_RESPONDS
            own = retries.not_answered_alert if silent else retries.not_delivered_alert
            usual = (
                DccAlertCode.COMMAND_NOT_ANSWERED if silent else DccAlertCode.COMMAND_NOT_DELIVERED
            )
            code = usual if own is None else own.value
            postings += self._writer.command_failure_alert(row, code, now)
        return postings

    def receive_untrusted_local_response(
        self, user: EntityId, octets: bytes, claimed: RequestId | None, now: float
    ) -> str:
        """Take a response that a user collected from the device itself.

        It goes on as if it had come through the network.

        Args:
            user: who returns it.
            octets: the GBCS message.
            claimed: to which request, as the user says; None: not said.
            now: seconds since 1970.

        Returns:
            The RequestID of the command that it answers.

        Raises:
            RequestRefused: it is no response that its device signed, or no command of the user
                for local delivery awaits it.
        """
        try:
            response = self._verified(None, octets, now)
        except DeviceMessageRefused as error:
            raise RequestRefused(Check.LOCAL_RESPONSE, str(error)) from None
        if not isinstance(response, Response):
            raise RequestRefused(Check.LOCAL_RESPONSE, "the payload is an alert, not a response")
        try:
            row = self._awaited(response)
        except DeviceMessageRefused as error:
            raise RequestRefused(Check.LOCAL_COMMAND, str(error)) from None
        if row.user != user or row.command_variant not in LOCAL_DELIVERY_VARIANTS:
            raise RequestRefused(
                Check.LOCAL_COMMAND,
                f"{row.request_id} is no command of {user} for local delivery",
            )
        if claimed is not None and str(claimed) != row.request_id:
            raise RequestRefused(
                Check.LOCAL_COMMAND, f"the response is to {row.request_id}, not to {claimed}"
            )
        self._receive_response(response, octets, now)
        return row.request_id

    def _verified(self, device: EntityId | None, octets: bytes, now: float) -> Response | Alert:
        try:
            message = parse_untrusted(octets)
        except FormatError as error:
            raise DeviceMessageRefused(f"not a GBCS message: {error}") from None
        if not isinstance(message, Response | Alert):
            raise DeviceMessageRefused(
                f"a {type(message).__name__}; devices send responses and alerts"
            )
        if device is None:
            device = message.originator_id
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
        delay_s = self._network.dcc_time_s("response", row.device)
        self._outbox.enqueue(postings, now, delay_s=delay_s)
        late = " late" if row.state is CommandState.TIMED_OUT else ""
        outcome = "success" if response.success else f"results {bytes(response.results).hex(' ')}"
        self._state.note(Severity.INFO, f"response to {row.request_id}{late}: {outcome}")

    def _awaited(self, response: Response) -> CommandRow:
        row = self._state.command(response.target_id, response.originator_counter)
        if row is None or row.state in (CommandState.TRANSFORMED, CommandState.QUARANTINED):
            raise DeviceMessageRefused(
                f"a response to counter {response.originator_counter} of {response.target_id}, "
                "of which no command awaits one: answered before, or never sent"
            )
        if row.device != response.originator_id:
            raise DeviceMessageRefused(f"a response to {row.request_id}, another device's command")
        labels = label_count(row.pre_command)
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
        at = self._network.time(now)
        verdict = self._storm.receive(alert.originator_id, alert.alert_code, at)
        if not verdict.passes:
            self._discard(alert)
            return
        for user in recipients:
            if not self._outbox.has_room(user):
                self._drop(alert, user)
        recipients = [user for user in recipients if self._outbox.has_room(user)]
        postings = [
            posting
            for user in recipients
            for posting in self._writer.device_alert(
                alert, octets, user, now, throttled=verdict.throttled
            )
        ]
        self._state.storage.save_postings(postings)
        delay_s = self._network.dcc_time_s("alert", alert.originator_id)
        self._outbox.enqueue(postings, now, delay_s=delay_s)
        self._state.note(
            Severity.INFO,
            f"alert {alert.alert_code:04X} of {alert.originator_id}, counter "
            f"{alert.originator_counter}, for {', '.join(map(str, recipients))}",
        )

    def _drop(self, alert: Alert, user: EntityId) -> None:
        reference = f"{alert.originator_id}:{user}:{alert.originator_counter}"
        limit = self._state.config.postings_per_user
        reason = f"{limit} messages wait to be posted to {user} already"
        self._state.journal.record(
            "post",
            reference=reference,
            user=str(user),
            kind="DeviceAlertBody",
            outcome="dropped",
            reason=reason,
            octets=0,
        )
        self._state.note(Severity.ERROR, f"dropped alert {reference}: {reason}")

    def _discard(self, alert: Alert) -> None:
        reference = f"{alert.originator_id}:{alert.target_id}:{alert.originator_counter}"
        self._state.journal.record(
            "network",
            hop=Hop.ALERT.value,
            device=str(alert.originator_id),
            reference=reference,
            outcome="discarded",
            reason=f"alert storm of {alert.alert_code:04X}",
        )
        self._state.note(
            Severity.WARNING,
            f"discarded alert {reference}: a storm of {alert.alert_code:04X}",
        )

    def _journal(self, hop: str, message: Response | Alert, octets: bytes) -> None:
        self._state.journal.record(
            "gbcs",
            hop=hop,
            originator=str(message.originator_id),
            target=str(message.target_id),
            originator_counter=message.originator_counter,
            results=bytes(message.results) if isinstance(message, Response) else None,
            alert_code=f"{message.alert_code:04X}" if isinstance(message, Alert) else None,
            octets=octets,
        )


def _key(row: CommandRow) -> CommandKey:
    return (row.user, row.originator_counter)

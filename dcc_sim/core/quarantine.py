"""Holds back commands that break a threshold, until somebody releases or discards them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from dcc_sim.config import ThresholdConfig
from dcc_sim.core.checks import Check
from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Severity
from dcc_sim.core.messages import DuisWriter
from dcc_sim.core.outbox import Outbox
from dcc_sim.core.services import LOCAL_DELIVERY_ALONE, LOCAL_DELIVERY_VARIANTS
from dcc_sim.core.state import State
from dcc_sim.errors import NotInQuarantine, RequestRefused
from dcc_sim.ports import CommandRow, CommandState, QuarantineRow
from gbcs.entity_id import EntityId


@dataclass(frozen=True, slots=True)
class QuarantinedCommand:
    """What is known of a command in quarantine.

    Attributes:
        event_reference: names it, as in the alert that the user got.
        request_id: the RequestID as text.
        user: whose it is.
        device: for which it is.
        since: seconds since 1970.
    """

    event_reference: int
    request_id: str
    user: EntityId
    device: EntityId
    since: float


class Quarantine:
    """Keeps a bounded number of commands of each user.

    Args:
        state: shared with the other parts.
        writer: makes what tells the user.
        outbox: posts it.
        commands: takes what is released.
    """

    def __init__(
        self, state: State, writer: DuisWriter, outbox: Outbox, commands: CommandDesk
    ) -> None:
        self._state = state
        self._writer = writer
        self._outbox = outbox
        self._commands = commands
        self._held = {row.event_reference: row for row in state.stored.quarantine}
        self._by_user = Counter(row.user for row in self._held.values())
        self._last_event_reference = state.stored.last_event_reference

    def held(self) -> list[QuarantinedCommand]:
        """Return what is held back, the oldest first."""
        return [
            QuarantinedCommand(
                event_reference=row.event_reference,
                request_id=command.request_id,
                user=command.user,
                device=command.device,
                since=row.since,
            )
            for row in self._held.values()
            for command in [self._command(row)]
        ]

    def check_room(self, user: EntityId) -> None:
        """QUARANTINE_ROOM: what is held back of one user is bounded.

        Raises:
            RequestRefused: there is no room for one more.
        """
        limit = self._state.config.quarantine_limit
        if self._by_user[user] >= limit:
            raise RequestRefused(
                Check.QUARANTINE_ROOM,
                f"{limit} commands of {user} are in quarantine already: release or discard some",
            )

    def hold(self, row: CommandRow, threshold: ThresholdConfig, now: float) -> None:
        """Hold a command back and tell its user.

        Args:
            row: with the command as it would go to the device.
            threshold: which it breaks.
            now: seconds since 1970.
        """
        reference = self._last_event_reference + 1
        row = replace(row, state=CommandState.QUARANTINED)
        held = QuarantineRow(reference, row.user, row.originator_counter, now)
        postings = self._writer.quarantined(row, reference, now)
        self._state.storage.save_quarantined(row, held, postings)
        self._last_event_reference = reference
        self._state.commands[(row.user, row.originator_counter)] = row
        self._held[reference] = held
        self._by_user[row.user] += 1
        self._outbox.enqueue(postings, now)
        why = (
            f"more than {threshold.limit} of {threshold.service_reference_variant} "
            f"in {threshold.period_s:g} s"
        )
        self._tell("held", row, reference, why)
        self._state.note(
            Severity.WARNING, f"quarantined {row.request_id}, event {reference}: {why}"
        )

    def release(self, event_reference: int, now: float) -> None:
        """Let a command go on its way.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        held = self._find(event_reference)
        row = self._command(held)
        postings = []
        if row.command_variant in LOCAL_DELIVERY_VARIANTS:
            postings = self._writer.local_command(row, now)
        local_alone = row.command_variant == LOCAL_DELIVERY_ALONE
        if local_alone and row.originator_counter <= self._state.window(row.user).floor:
            # Nothing would delete it later: given out, and forgotten.
            self._state.storage.save_discarded(row, event_reference, postings)
            del self._state.commands[(row.user, row.originator_counter)]
        else:
            state = CommandState.LOCAL if local_alone else CommandState.ACCEPTED
            row = replace(row, state=state)
            self._state.storage.save_released(row, event_reference, postings)
            self._commands.take_over(row, now)
        self._tell("released", row, event_reference)
        self._forget(held)
        self._outbox.enqueue(postings, now)
        self._state.note(Severity.INFO, f"released {row.request_id}, event {event_reference}")

    def discard(self, event_reference: int, now: float) -> None:
        """Give a command up and tell its user.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        held = self._find(event_reference)
        row = self._command(held)
        postings = self._writer.command_failed(row, Check.RELEASED, now)
        self._state.storage.save_discarded(row, event_reference, postings)
        del self._state.commands[(row.user, row.originator_counter)]
        self._tell("discarded", row, event_reference)
        self._forget(held)
        self._outbox.enqueue(postings, now)
        self._state.note(Severity.WARNING, f"discarded {row.request_id}, event {event_reference}")

    def _tell(
        self, outcome: str, row: CommandRow, event_reference: int, reason: str | None = None
    ) -> None:
        self._state.journal.record(
            "quarantine",
            reference=row.request_id,
            outcome=outcome,
            event_reference=event_reference,
            reason=reason,
        )

    def _find(self, event_reference: int) -> QuarantineRow:
        held = self._held.get(event_reference)
        if held is None:
            raise NotInQuarantine(
                f"nothing in quarantine has the reference {event_reference}: it was released or "
                "discarded before, or never there"
            )
        return held

    def _forget(self, held: QuarantineRow) -> None:
        del self._held[held.event_reference]
        self._by_user[held.user] -= 1

    def _command(self, held: QuarantineRow) -> CommandRow:
        return self._state.commands[(held.user, held.originator_counter)]

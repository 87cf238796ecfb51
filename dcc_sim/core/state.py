"""What the parts of the logic share: the inventory, the commands on their way, the effects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dcc_sim.config import DccSimConfig, DeviceConfig, UserConfig
from dcc_sim.core.counters import CounterWindow
from dcc_sim.core.effects import Effect, Note, Severity
from dcc_sim.ports import CommandRow, CommandState, PostingRow, Storage
from gbcs.entity_id import EntityId
from gbcs.ports import Journal

CommandKey = tuple[EntityId, int]
"""A user and its originator counter: names one command."""


class State:
    """The mirror of the storage in memory, and the effects that wait to be carried out.

    Storage comes first: memory changes after a save has succeeded. When a commit fails, the
    runner makes a new State from what is durable.
    """

    def __init__(self, config: DccSimConfig, storage: Storage, journal: Journal) -> None:
        self.config = config
        self.storage = storage
        self.journal = journal
        self.users: dict[EntityId, UserConfig] = {u.entity_id: u for u in config.users}
        self.devices: dict[EntityId, DeviceConfig] = {d.entity_id: d for d in config.devices}
        self.effects: list[Effect] = []
        stored = storage.load()
        self.commands: dict[CommandKey, CommandRow] = {
            (row.user, row.originator_counter): row for row in stored.commands
        }
        self.stored_postings: Sequence[PostingRow] = stored.postings
        self.last_posting_id = stored.last_posting_id
        self._windows = {
            user: CounterWindow(
                config.counter_window,
                floor=stored.floors.get(user, -1),
                used=stored.counters.get(user, ()),
            )
            for user in stored.floors.keys() | stored.counters.keys()
        }

    def window(self, user: EntityId) -> CounterWindow:
        """Return the window of a user's counters."""
        return self._windows.setdefault(user, CounterWindow(self.config.counter_window))

    def command(self, user: EntityId, originator_counter: int) -> CommandRow | None:
        """Return the command of a user's counter, unless there is none or it was answered."""
        return self.commands.get((user, originator_counter))

    def add_transformed(self, row: CommandRow) -> None:
        """Remember a new command and its counter."""
        window = self.window(row.user)
        displaced = window.displaced()
        self.storage.save_transformed(row, displaced)
        window.accept(row.originator_counter)
        self.commands[(row.user, row.originator_counter)] = row
        if displaced is not None:
            old = self.commands.get((row.user, displaced))
            if old is not None and old.state is not CommandState.ACCEPTED:
                del self.commands[(row.user, displaced)]

    def next_posting(
        self, user: EntityId, *, reference: str, kind: str, xml: bytes, now: float
    ) -> PostingRow:
        """Make the row of a message that is to be posted; the caller saves it."""
        self.last_posting_id += 1
        return PostingRow(self.last_posting_id, user, reference, kind, xml, now)

    def note(self, severity: Severity, text: str) -> None:
        """Ask for a log line."""
        self.effects.append(Note(severity, text))


def utc(now: float) -> datetime:
    """Turn seconds since 1970 into an aware date and time."""
    return datetime.fromtimestamp(now, UTC)

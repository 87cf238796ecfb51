"""What the parts of the logic share: the inventory, the commands on their way, the effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from dcc_sim.config import DccSimConfig, DeviceConfig, UserConfig
from dcc_sim.core.counters import CounterWindow
from dcc_sim.core.effects import Effect, Note, Severity
from dcc_sim.ports import (
    CertificateName,
    CommandRow,
    CommandState,
    PostingRow,
    Storage,
    StoredState,
)
from gbcs.certificates import Certificate
from gbcs.entity_id import EntityId
from gbcs.ports import Journal

CommandKey = tuple[EntityId, int]
"""A user and its originator counter: names one command."""


@dataclass(frozen=True, slots=True)
class ResponseBehaviour:
    """How the DCC posts responses and alerts; can be changed at run time.

    Attributes:
        copies: how often each is posted, 1 to 10: users may see duplicates.
        delay_s: how long each is held back first, in seconds; not counted again by a restart.
    """

    copies: int = 1
    delay_s: float = 0.0


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
        self.stored = stored
        self.stored_postings: Sequence[PostingRow] = stored.postings
        self.revoked: set[CertificateName] = set(stored.revoked)
        self.behaviour = _behaviour(config, stored)
        for device, status in stored.device_statuses.items():
            if device in self.devices:
                self._set_status(device, status)
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
        self._drop_displaced(row.user, displaced)

    def use_counter(self, user: EntityId, originator_counter: int) -> None:
        """Remember the counter of a request that makes no command."""
        window = self.window(user)
        displaced = window.displaced()
        self.storage.save_counter(user, originator_counter, displaced)
        window.accept(originator_counter)
        self._drop_displaced(user, displaced)

    def _drop_displaced(self, user: EntityId, displaced: int | None) -> None:
        if displaced is not None:
            old = self.commands.get((user, displaced))
            if old is not None and old.state not in _KEPT:
                del self.commands[(user, displaced)]

    def change_device_status(self, device: EntityId, status: str) -> None:
        """Change the status of a device of the inventory."""
        self.storage.save_device_status(device, status)
        self._set_status(device, status)

    def _set_status(self, device: EntityId, status: str) -> None:
        self.devices[device] = msgspec.structs.replace(self.devices[device], status=status)

    def revoke(self, name: CertificateName) -> None:
        """Trust a certificate no more."""
        self.storage.save_revoked(name)
        self.revoked.add(name)

    def change_behaviour(self, behaviour: ResponseBehaviour) -> None:
        """Post responses and alerts in another way from now on."""
        self.storage.save_setting(_COPIES, behaviour.copies)
        self.storage.save_setting(_DELAY, behaviour.delay_s)
        self.behaviour = behaviour

    def next_posting(
        self, user: EntityId, *, reference: str, kind: str, xml: bytes, now: float
    ) -> PostingRow:
        """Make the row of a message that is to be posted; the caller saves it."""
        self.last_posting_id += 1
        return PostingRow(self.last_posting_id, user, reference, kind, xml, now)

    def note(self, severity: Severity, text: str) -> None:
        """Ask for a log line."""
        self.effects.append(Note(severity, text))


_KEPT = (CommandState.ACCEPTED, CommandState.QUARANTINED)
_COPIES = "response_copies"
_DELAY = "response_delay_s"


def _behaviour(config: DccSimConfig, stored: StoredState) -> ResponseBehaviour:
    return ResponseBehaviour(
        copies=int(stored.settings.get(_COPIES, config.response_copies)),
        delay_s=stored.settings.get(_DELAY, config.response_delay_s),
    )


def certificate_name(certificate: Certificate) -> CertificateName:
    """Return issuer and serial number of a certificate; blanks in the issuer do not matter."""
    return (normal_issuer(certificate.issuer_name), certificate.serial)


def normal_issuer(issuer_name: str) -> str:
    """Return an issuer's name as it stands in a CertificateName."""
    return ",".join(part.strip() for part in issuer_name.split(","))


def utc(now: float) -> datetime:
    """Turn seconds since 1970 into an aware date and time."""
    return datetime.fromtimestamp(now, UTC)

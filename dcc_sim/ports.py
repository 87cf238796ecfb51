"""What the logic needs from outside: durable storage. Its rows are plain values."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gbcs.entity_id import EntityId


class CommandState(enum.IntEnum):
    """Where a command is; once answered its row is deleted."""

    TRANSFORMED = 1  # a pre-command was given out
    ACCEPTED = 2  # the signed pre-command was accepted (I99); waits for the device
    TIMED_OUT = 3  # the user was told E20 or E21; a late response is still passed on
    LOCAL = 4  # given out for local delivery alone (6); waits for the response to be returned
    QUARANTINED = 5  # accepted (I99), held back by anomaly detection


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command on its way, by the user's counter.

    Attributes:
        user: originator of the RequestID.
        device: target of the RequestID.
        originator_counter: third part of the RequestID.
        state: see CommandState.
        pre_command: the unsigned GBCS message that was given out, as octets.
        command: the GBCS message for the device, with signature and MAC; empty until accepted.
        schema_version: of the request; its responses have the same.
        command_variant: of the signed pre-command, 5 to 7; says nothing before it came.
    """

    user: EntityId
    device: EntityId
    originator_counter: int
    state: CommandState
    pre_command: bytes
    command: bytes
    schema_version: str
    command_variant: int = 5

    @property
    def request_id(self) -> str:
        """The RequestID as text."""
        return f"{self.user}:{self.device}:{self.originator_counter}"


@dataclass(frozen=True, slots=True)
class PostingRow:
    """One DUIS message that waits to be posted to a user.

    Attributes:
        posting_id: rises with each one.
        user: whose receive address it goes to.
        reference: RequestID or ResponseID, for logs.
        kind: class name of the DUIS body.
        xml: the DUIS message.
        created: seconds since 1970.
    """

    posting_id: int
    user: EntityId
    reference: str
    kind: str
    xml: bytes
    created: float


@dataclass(frozen=True, slots=True)
class UplinkRow:
    """One message of a device that is under way in the network.

    Attributes:
        uplink_id: rises with each one.
        device: who sent it.
        octets: as the device sent it; nothing is checked yet.
    """

    uplink_id: int
    device: EntityId
    octets: bytes


@dataclass(frozen=True, slots=True)
class NetworkRun:
    """What the network model needs to know of the times before a restart.

    Attributes:
        epoch: when the network's time began, in seconds since 1970.
        run: how often the simulator was started, from 1.
    """

    epoch: float
    run: int


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One command that anomaly detection holds back.

    Attributes:
        event_reference: QuarantineEventRef, rises with each one.
        user: whose command.
        originator_counter: which.
        since: seconds since 1970.
    """

    event_reference: int
    user: EntityId
    originator_counter: int
    since: float


@dataclass(frozen=True, slots=True)
class AnomalyRow:
    """How many requests a user sent in a period.

    Attributes:
        user: who.
        service_reference_variant: of which kind.
        period_start: seconds since 1970.
        count: in the period so far.
    """

    user: EntityId
    service_reference_variant: str
    period_start: float
    count: int


CertificateName = tuple[str, int]
"""Issuer, as in "CN=Z1,OU=07", and serial number: names one certificate."""


@dataclass(frozen=True, slots=True)
class StoredState:
    """All that was durable when the simulator last ran.

    Attributes:
        floors: by user, the floor of its counter window.
        counters: by user, the counters above the floor.
        commands: in order of acceptance.
        postings: in order of creation.
        last_posting_id: the highest ever used, 0 at the beginning.
        quarantine: in order of time.
        last_event_reference: the highest QuarantineEventRef ever used, 0 at the beginning.
        anomaly_counts: at most one for each user and kind of request.
        device_statuses: what users changed in the inventory.
        revoked: certificates.
        settings: by name, what was changed at run time.
        uplinks: in order of sending.
        network_run: of the last run; None at the beginning.
    """

    floors: dict[EntityId, int]
    counters: dict[EntityId, list[int]]
    commands: list[CommandRow]
    postings: list[PostingRow]
    last_posting_id: int
    quarantine: list[QuarantineRow]
    last_event_reference: int
    anomaly_counts: list[AnomalyRow]
    device_statuses: dict[EntityId, str]
    revoked: list[CertificateName]
    settings: dict[str, float]
    uplinks: list[UplinkRow]
    network_run: NetworkRun | None


class Storage(Protocol):
    """Keeps the state. Each save is done wholly or not at all; commit makes all of them durable.

    Every method raises dcc_sim.errors.StoreError when it cannot do its work.
    """

    def load(self) -> StoredState:
        """Return what was committed; drops what was saved since."""
        ...

    def save_transformed(self, row: CommandRow, displaced: int | None) -> None:
        """Keep a new command and its counter.

        Args:
            row: in state TRANSFORMED.
            displaced: the user's counter that becomes the floor of its window, if any; a
                command of that counter is deleted, unless it is accepted or in quarantine.
        """
        ...

    def save_counter(self, user: EntityId, counter: int, displaced: int | None) -> None:
        """Keep a counter that makes no command.

        Args:
            user: whose.
            counter: used up by a request for no device.
            displaced: see save_transformed.
        """
        ...

    def save_accepted(self, row: CommandRow) -> None:
        """Keep a command in state ACCEPTED or LOCAL."""
        ...

    def save_quarantined(
        self, row: CommandRow, held: QuarantineRow, postings: Sequence[PostingRow]
    ) -> None:
        """Keep a command in state QUARANTINED, that it is held, and what tells the user."""
        ...

    def save_released(
        self, row: CommandRow, event_reference: int, postings: Sequence[PostingRow]
    ) -> None:
        """Keep a command that left quarantine, and what tells the user."""
        ...

    def save_discarded(
        self, row: CommandRow, event_reference: int, postings: Sequence[PostingRow]
    ) -> None:
        """Delete a command out of quarantine and keep what tells the user."""
        ...

    def save_anomaly_count(self, row: AnomalyRow) -> None:
        """Keep a count; it replaces the one of the same user and kind of request."""
        ...

    def save_device_status(self, device: EntityId, status: str) -> None:
        """Keep a changed status of a device."""
        ...

    def save_revoked(self, name: CertificateName) -> None:
        """Keep that a certificate is revoked."""
        ...

    def save_setting(self, name: str, value: float) -> None:
        """Keep a setting that was changed at run time."""
        ...

    def save_timed_out(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """Keep a command in state TIMED_OUT, and what tells the user."""
        ...

    def save_answered(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """Delete a command and keep the device's answer to it."""
        ...

    def save_postings(self, postings: Sequence[PostingRow]) -> None:
        """Keep what is to be posted."""
        ...

    def delete_posting(self, posting_id: int) -> None:
        """Forget what was posted, or given up."""
        ...

    def save_uplink(self, row: UplinkRow) -> None:
        """Keep a device's message that is under way."""
        ...

    def delete_uplink(self, uplink_id: int) -> None:
        """Forget a device's message that arrived or was lost."""
        ...

    def save_network_run(self, run: NetworkRun) -> None:
        """Keep when the network's time began, and how often it was started."""
        ...

    def commit(self) -> None:
        """Make all that was saved durable."""
        ...

    def close(self) -> None:
        """Close; what was not committed is lost."""
        ...

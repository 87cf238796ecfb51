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
    """

    user: EntityId
    device: EntityId
    originator_counter: int
    state: CommandState
    pre_command: bytes
    command: bytes
    schema_version: str

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
class StoredState:
    """All that was durable when the simulator last ran.

    Attributes:
        floors: by user, the floor of its counter window.
        counters: by user, the counters above the floor.
        commands: in order of acceptance.
        postings: in order of creation.
        last_posting_id: the highest ever used, 0 at the beginning.
    """

    floors: dict[EntityId, int]
    counters: dict[EntityId, list[int]]
    commands: list[CommandRow]
    postings: list[PostingRow]
    last_posting_id: int


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
                command of that counter that was never accepted, or timed out, is deleted.
        """
        ...

    def save_accepted(self, row: CommandRow) -> None:
        """Keep a command in state ACCEPTED."""
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

    def commit(self) -> None:
        """Make all that was saved durable."""
        ...

    def close(self) -> None:
        """Close; what was not committed is lost."""
        ...

"""The CEM's durable state in one SQLite file.

Each public method is one transaction, on disk when it returns (WAL, synchronous=FULL).
The file is locked for as long as it is open: two processes with one state would give
the same Originator Counters out. 64-bit counters are stored as eight octets, because
SQLite's integers are signed; octets sort as the numbers do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cem.errors import StoreError, StoreInUse
from cem.ports import (
    Answer,
    BuiltAlert,
    CommandOutcome,
    MessageKey,
    OutgoingMessage,
    StoredFragment,
    StoredMessage,
)
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from smtunnel import DeliveryState, MessageStatus

_FORMAT: Final = "1"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS originator_counter (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    peer BLOB NOT NULL, originator_counter BLOB NOT NULL, content_digest BLOB NOT NULL,
    response BLOB NOT NULL, PRIMARY KEY (peer, originator_counter)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS windows (peer BLOB PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fragments (
    number INTEGER PRIMARY KEY AUTOINCREMENT, peer BLOB NOT NULL,
    tunnel_message_id INTEGER NOT NULL, first_counter BLOB NOT NULL,
    originator_counter BLOB NOT NULL, payload TEXT NOT NULL, received_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS fragments_by_message
    ON fragments (peer, tunnel_message_id, first_counter);
CREATE TABLE IF NOT EXISTS labels (label_index INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, peer BLOB NOT NULL,
    message BLOB NOT NULL, received_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, pending INTEGER NOT NULL,
    message BLOB, compression TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    fragments_total INTEGER NOT NULL, fragments_accepted INTEGER NOT NULL,
    fragments_delivered INTEGER NOT NULL, message_octets INTEGER NOT NULL,
    tunnel_message_id INTEGER, first_counter BLOB);
CREATE INDEX IF NOT EXISTS outgoing_pending ON outgoing (number) WHERE pending;
CREATE TABLE IF NOT EXISTS alerts (
    ref TEXT NOT NULL, fragment_index INTEGER NOT NULL, originator_counter BLOB NOT NULL,
    payload TEXT NOT NULL, octets BLOB NOT NULL, sent INTEGER NOT NULL,
    PRIMARY KEY (ref, fragment_index)) WITHOUT ROWID;
"""

_STATUS: Final = (
    "ref, state, reason, fragments_total, fragments_accepted, fragments_delivered, "
    "message_octets, tunnel_message_id, first_counter"
)
_SELECT_STATUS: Final = f"SELECT {_STATUS} FROM outgoing WHERE ref = ?"  # noqa: S608
_SELECT_NEXT_OUTGOING: Final = (
    f"SELECT message, compression, {_STATUS} FROM outgoing "  # noqa: S608
    "WHERE pending ORDER BY number LIMIT 1"
)


def _octets(counter: int) -> bytes:
    return counter.to_bytes(8, "big")


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


class SqliteStore:
    """The store of one device; implements `cem.ports.Store` and `gbcs.counters.CounterStore`.

    Args:
        path: the file, made readable by its owner alone where it does not exist; ":memory:"
            for a store that lives as long as the object.
        device_id: whose state this is; a file of another device is refused.
        replay_window: how many answered commands are remembered for each peer.
        finished_messages: of how many finished outgoing messages the status is kept.

    Raises:
        StoreInUse: another process has the file open.
        StoreError: it cannot be opened, is damaged, or belongs to another device.
    """

    def __init__(
        self,
        path: str,
        device_id: EntityId,
        *,
        replay_window: int,
        finished_messages: int = 1000,
    ) -> None:
        self._path = path
        self._replay_window = replay_window
        self._finished_messages = finished_messages
        if path != ":memory:":
            _make_private_file(path)
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: cannot open the state file: {error}") from None
        try:
            self._prepare(device_id)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, device_id: EntityId) -> None:
        try:
            # Exclusive before WAL: the lock is held from the first write to close().
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreInUse(
                    f"{self._path}: another process works with this state file; "
                    "stop it first: one device must not run twice"
                ) from None
            raise StoreError(f"{self._path}: cannot open the state file: {error}") from None
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: not a usable state file: {error}; restore it from a copy, or move "
                "it away and set counter_floor above every Originator Counter used so far"
            ) from None
        with self._transaction():
            self._claim("format", _FORMAT, "state file of another version of this program")
            self._claim("device", str(device_id), "state of another device")

    def _claim(self, name: str, value: str, otherwise: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, value))
        (found,) = self._one("SELECT value FROM facts WHERE name = ?", name)
        if found != value:
            raise StoreError(
                f"{self._path}: {otherwise}: its {name} is {found}, expected {value}; "
                "give each device a state file of its own"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._mapped_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have rolled back on its own.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeError) as error:
            raise StoreError(
                f"{self._path}: the state file fails: {error}; check the disk's space and health"
            ) from error

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()

    def _read_one(self, query: str, *values: Any) -> Any:
        with self._mapped_errors():
            return self._one(query, *values)

    def _read_all(self, query: str, *values: Any) -> list[Any]:
        with self._mapped_errors():
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file and give its lock up."""
        with self._mapped_errors():
            self._db.close()

    # The device's own Originator Counter

    @property
    def counters(self) -> CounterStore:
        """The high-water mark of this device's Originator Counter."""
        return self

    def load(self) -> int:
        """Return the highest number ever reserved; 0 where none was."""
        row = self._read_one("SELECT reserved FROM originator_counter")
        return 0 if row is None else _number(row[0])

    def reserve(self, up_to: int) -> None:
        """Commit a new high-water mark; a lower one than before is refused."""
        with self._transaction():
            mark = self._one("SELECT reserved FROM originator_counter")
            if mark is not None and _number(mark[0]) >= up_to:
                raise StoreError(
                    f"{self._path}: counters up to {_number(mark[0])} are reserved already, "
                    f"{up_to} would give numbers out twice"
                )
            self._db.execute(
                "INSERT INTO originator_counter VALUES (1, ?) "
                "ON CONFLICT (id) DO UPDATE SET reserved = excluded.reserved",
                (_octets(up_to),),
            )

    # Commands and what they bring

    def answer(self, peer: bytes, originator_counter: int) -> Answer | None:
        """Return what a peer's command with this counter was answered; None where not known."""
        row = self._read_one(
            "SELECT content_digest, response FROM answers "
            "WHERE peer = ? AND originator_counter = ?",
            peer,
            _octets(originator_counter),
        )
        return None if row is None else Answer(*row)

    def commit_command(self, outcome: CommandOutcome) -> None:
        """Store all that a command changes, as one."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?)",
                (
                    outcome.peer,
                    _octets(outcome.originator_counter),
                    outcome.answer.content_digest,
                    outcome.answer.response,
                ),
            )
            self._prune_answers(outcome.peer)
            if outcome.window is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO windows VALUES (?, ?)", (outcome.peer, outcome.window)
                )
            if outcome.fragment is not None:
                self._insert_fragment(outcome.fragment)
            self._delete_fragments(outcome.ended)
            if outcome.message is not None:
                new = outcome.message
                self._db.execute(
                    "INSERT INTO received (ref, peer, message, received_at) VALUES (?, ?, ?, ?)",
                    (new.ref, new.peer.octets, new.message, new.received_at),
                )
            self._db.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?)", outcome.labels)

    def _prune_answers(self, peer: bytes) -> None:
        self._db.execute(
            "DELETE FROM answers WHERE peer = ?1 AND originator_counter <= ("
            "SELECT originator_counter FROM answers WHERE peer = ?1 "
            "ORDER BY originator_counter DESC LIMIT 1 OFFSET ?2)",
            (peer, self._replay_window),
        )

    def _insert_fragment(self, fragment: StoredFragment) -> None:
        key = fragment.key
        self._db.execute(
            "INSERT INTO fragments (peer, tunnel_message_id, first_counter, originator_counter, "
            "payload, received_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                key.peer,
                key.tunnel_message_id,
                _octets(key.first_counter),
                _octets(fragment.originator_counter),
                fragment.payload,
                fragment.received_at,
            ),
        )

    def _delete_fragments(self, keys: Sequence[MessageKey]) -> None:
        self._db.executemany(
            "DELETE FROM fragments WHERE peer = ? AND tunnel_message_id = ? AND first_counter = ?",
            [(key.peer, key.tunnel_message_id, _octets(key.first_counter)) for key in keys],
        )

    def end_messages(self, keys: Sequence[MessageKey]) -> None:
        """Drop the fragments of messages that will never be complete."""
        with self._transaction():
            self._delete_fragments(keys)

    def fragments(self) -> list[StoredFragment]:
        """Return the fragments of incomplete messages in the order of arrival."""
        rows = self._read_all(
            "SELECT peer, tunnel_message_id, first_counter, originator_counter, payload, "
            "received_at FROM fragments ORDER BY number"
        )
        return [
            StoredFragment(
                MessageKey(peer, message_id, _number(first)), _number(counter), payload, at
            )
            for peer, message_id, first, counter, payload, at in rows
        ]

    def replay_windows(self) -> dict[bytes, bytes]:
        """Return each peer's replay window as it was stored last."""
        return dict(self._read_all("SELECT peer, state FROM windows"))

    def labels(self) -> dict[int, str]:
        """Return the labels that were no fragments, by index."""
        return dict(self._read_all("SELECT label_index, text FROM labels ORDER BY label_index"))

    # Received messages

    def count_received(self) -> int:
        """Return how many messages wait for the application."""
        return int(self._read_one("SELECT count(*) FROM received")[0])

    def next_received(self, after: int) -> StoredMessage | None:
        """Return the message after the one with this number; None where there is none yet."""
        row = self._read_one(
            "SELECT number, ref, peer, message, received_at FROM received "
            "WHERE number > ? ORDER BY number LIMIT 1",
            after,
        )
        if row is None:
            return None
        number, ref, peer, message, received_at = row
        return StoredMessage(number, ref, EntityId(peer), message, received_at)

    def acknowledge(self, ref: str, answered: MessageStatus | None) -> None:
        """Forget a received message; with ``answered``, end a sent one with that status as well."""
        with self._transaction():
            self._db.execute("DELETE FROM received WHERE ref = ?", (ref,))
            if answered is not None:
                self._end_outgoing(answered)

    # Messages on their way up

    def add_outgoing(self, outgoing: OutgoingMessage) -> None:
        """Take a message for sending."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO outgoing (ref, pending, message, compression, state, "
                "fragments_total, fragments_accepted, fragments_delivered, message_octets) "
                "VALUES (?, 1, ?, ?, '', 0, 0, 0, 0)",
                (outgoing.ref, outgoing.message, outgoing.compression),
            )
            self._update_status(outgoing.status)

    def _update_status(self, status: MessageStatus) -> None:
        first = status.first_counter
        self._db.execute(
            "UPDATE outgoing SET state = ?, reason = ?, fragments_total = ?, "
            "fragments_accepted = ?, fragments_delivered = ?, message_octets = ?, "
            "tunnel_message_id = ?, first_counter = ? WHERE ref = ?",
            (
                status.state.name,
                status.reason,
                status.fragments_total,
                status.fragments_accepted,
                status.fragments_delivered,
                status.message_octets,
                status.tunnel_message_id,
                None if first is None else _octets(first),
                status.ref,
            ),
        )

    def next_outgoing(self) -> OutgoingMessage | None:
        """Return the oldest message that is not handed over and not failed."""
        row = self._read_one(_SELECT_NEXT_OUTGOING)
        if row is None:
            return None
        message, compression, *values = row
        status = _status_of(values)
        return OutgoingMessage(status.ref, message, compression, status)

    def count_outgoing(self) -> int:
        """Return how many messages are not handed over and not failed."""
        return int(self._read_one("SELECT count(*) FROM outgoing WHERE pending")[0])

    def save_alerts(self, status: MessageStatus, alerts: Sequence[BuiltAlert]) -> None:
        """Keep a message's alerts before the first of them is sent."""
        with self._transaction():
            self._update_status(status)
            self._db.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, 0)",
                [
                    (
                        status.ref,
                        alert.index,
                        _octets(alert.originator_counter),
                        alert.payload,
                        alert.octets,
                    )
                    for alert in alerts
                ],
            )

    def unsent_alerts(self, ref: str) -> list[BuiltAlert]:
        """Return those of a message's alerts that are not handed over, by index."""
        rows = self._read_all(
            "SELECT fragment_index, originator_counter, payload, octets FROM alerts "
            "WHERE ref = ? AND NOT sent ORDER BY fragment_index",
            ref,
        )
        return [
            BuiltAlert(index, _number(counter), payload, octets)
            for index, counter, payload, octets in rows
        ]

    def alert_sent(self, status: MessageStatus, index: int) -> None:
        """Note that the hub has an alert; it is not sent again."""
        with self._transaction():
            self._update_status(status)
            self._db.execute(
                "UPDATE alerts SET sent = 1 WHERE ref = ? AND fragment_index = ?",
                (status.ref, index),
            )

    def last_tunnel_message_id(self) -> int | None:
        """Return the id of the message built last; None where none was."""
        row = self._read_one(
            "SELECT tunnel_message_id FROM outgoing WHERE tunnel_message_id IS NOT NULL "
            "ORDER BY number DESC LIMIT 1"
        )
        return None if row is None else row[0]

    def finish_outgoing(self, status: MessageStatus) -> None:
        """Store a final status; message and alerts are needed no more."""
        with self._transaction():
            self._end_outgoing(status)

    def _end_outgoing(self, status: MessageStatus) -> None:
        self._update_status(status)
        self._db.execute(
            "UPDATE outgoing SET pending = 0, message = NULL WHERE ref = ?", (status.ref,)
        )
        self._db.execute("DELETE FROM alerts WHERE ref = ?", (status.ref,))
        self._db.execute(
            "DELETE FROM outgoing WHERE NOT pending AND number <= (SELECT number FROM outgoing "
            "WHERE NOT pending ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (self._finished_messages,),
        )

    def status(self, ref: str) -> MessageStatus | None:
        """Return where a sent message is; None where the reference is not known."""
        row = self._read_one(_SELECT_STATUS, ref)
        return None if row is None else _status_of(row)


def _status_of(row: Sequence[Any]) -> MessageStatus:
    ref, state, reason, total, accepted, delivered, message_octets, message_id, first = row
    return MessageStatus(
        ref=ref,
        state=DeliveryState[state],
        reason=reason,
        fragments_total=total,
        fragments_accepted=accepted,
        fragments_delivered=delivered,
        message_octets=message_octets,
        tunnel_message_id=message_id,
        first_counter=None if first is None else _number(first),
    )


def _make_private_file(path: str) -> None:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"{path}: cannot open or make the state file: {error}") from None

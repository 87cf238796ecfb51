"""The DSRSP's durable state in one SQLite file.

Each public method is one transaction, on disk when it returns (WAL, synchronous=FULL).
The file is locked for as long as it is open: two processes with one state would give
the same Originator Counters out. Counters have 64 bits and SQLite's integers a sign, so
they are kept as eight octets, which sort as the numbers do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dsrsp.core.request import Request, State
from dsrsp.errors import StorageError
from dsrsp.ports import (
    IncomingMessage,
    MessageKey,
    OutgoingMessage,
    UplinkFragment,
    UplinkOutcome,
)
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError
from gbcs.messages import PreCommand, parse_untrusted
from smtunnel import DeliveryState, MessageStatus

_FORMAT: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY CHECK (id = 1), supplier BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS originator_counter (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, device BLOB NOT NULL,
    message BLOB, compression TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    fragments_total INTEGER NOT NULL, fragments_accepted INTEGER NOT NULL,
    fragments_delivered INTEGER NOT NULL, message_octets INTEGER NOT NULL,
    tunnel_message_id INTEGER, first_counter BLOB, taken_at REAL NOT NULL, finished_at REAL);
CREATE INDEX IF NOT EXISTS message_unfinished ON message (number) WHERE finished_at IS NULL;
CREATE INDEX IF NOT EXISTS message_started
    ON message (device, first_counter) WHERE first_counter IS NOT NULL;
CREATE TABLE IF NOT EXISTS request (
    originator_counter BLOB PRIMARY KEY, ref TEXT NOT NULL, fragment_index INTEGER NOT NULL,
    pre_command BLOB NOT NULL, state TEXT NOT NULL, deadline REAL, signed_request BLOB,
    posts INTEGER NOT NULL, results BLOB, reason TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS request_of_message ON request (ref, fragment_index);
CREATE TABLE IF NOT EXISTS uplink_window (device BLOB PRIMARY KEY, window BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS uplink_fragment (
    number INTEGER PRIMARY KEY AUTOINCREMENT, device BLOB NOT NULL,
    tunnel_message_id INTEGER NOT NULL, first_counter BLOB NOT NULL,
    originator_counter BLOB NOT NULL, payload TEXT NOT NULL, received_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS uplink_fragment_of_message
    ON uplink_fragment (device, tunnel_message_id, first_counter);
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, device BLOB NOT NULL,
    message BLOB NOT NULL, received_at REAL NOT NULL);
"""

_STATUS_COLUMNS: Final = (
    "state, reason, fragments_total, fragments_accepted, fragments_delivered, message_octets, "
    "tunnel_message_id, first_counter"
)
_MESSAGE_COLUMNS: Final = f"ref, device, message, compression, {_STATUS_COLUMNS}"
_REQUEST_COLUMNS: Final = (
    "ref, fragment_index, pre_command, state, deadline, signed_request, posts, results, reason"
)
_COUNTER_OCTETS: Final = 8

# Interim states hold nothing that is worth a write: after a restart they begin again.
_KEPT_AS: Final = {State.TRANSFORMING: State.RESERVED, State.CORRELATING: State.RESERVED}


def _octets(counter: int) -> bytes:
    return counter.to_bytes(_COUNTER_OCTETS, "big")


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


class SqliteStore:
    """Durable state in a SQLite file; implements `dsrsp.ports.Storage`.

    Args:
        path: the file, made readable by its owner alone if it does not exist, or ":memory:".
        supplier_id: whose counters these are; a file of another supplier is refused.

    Raises:
        StorageError: the file cannot be used, or another process uses it.
    """

    def __init__(self, path: str, *, supplier_id: EntityId) -> None:
        self._path = path
        try:
            if path != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open the state: {error}") from None
        try:
            self._set_up(supplier_id)
        except BaseException:
            self._db.close()
            raise

    def _set_up(self, supplier_id: EntityId) -> None:
        with self._errors():
            # Exclusive before WAL: the lock is held from the first access to the end.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._db.execute(f"PRAGMA {pragma}")
        with self._transaction():
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise StorageError(
                    f"{self._path}: state of format {found}, this program knows {_FORMAT} only"
                )
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={_FORMAT}")
            self._db.execute("INSERT OR IGNORE INTO owner VALUES (1, ?)", (supplier_id.octets,))
            (owner,) = self._db.execute("SELECT supplier FROM owner").fetchone()
        if owner != supplier_id.octets:
            raise StorageError(
                f"{self._path} holds the counters of {EntityId(owner)}, not of {supplier_id}: "
                "each supplier needs a state of its own"
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = ""
            if "locked" in str(error):
                hint = " (another process uses it: one gateway at a time)"
            raise StorageError(f"{self._path}: {error}{hint}") from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._errors():
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file and give up the lock."""
        with self._errors():
            self._db.close()

    def counter_store(self) -> CounterStore:
        """Return the high-water mark of the organisation's one Originator Counter."""
        return _CounterStore(self)

    def load_counter(self) -> int:
        """Return the highest Originator Counter ever reserved; 0 where none was."""
        rows = self._all("SELECT reserved FROM originator_counter")
        return _number(rows[0][0]) if rows else 0

    def reserve_counter(self, up_to: int) -> None:
        """Commit a new high-water mark."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO originator_counter VALUES (1, ?1) "
                "ON CONFLICT (id) DO UPDATE SET reserved = max(reserved, ?1)",
                (_octets(up_to),),
            )

    # Downlink

    def add_message(self, message: OutgoingMessage, *, now: float) -> None:
        """Take a new message."""
        with self._transaction():
            self._db.execute(
                f"INSERT INTO message ({_MESSAGE_COLUMNS}, taken_at) "  # noqa: S608 (constants)
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    message.ref,
                    message.device.octets,
                    message.message,
                    message.compression,
                    *_status_row(message.status),
                    now,
                ),
            )

    def start_message(self, ref: str, status: MessageStatus, requests: Iterable[Request]) -> None:
        """Keep the requests that a message was cut into, and its status with them."""
        with self._transaction():
            self._put_status(ref, status)
            for request in requests:
                self._put_request(request)

    def save_request(self, request: Request, status: MessageStatus | None, *, now: float) -> None:
        """Keep a request's state and, in the same transaction, its message's status."""
        with self._transaction():
            self._put_request(request)
            if status is not None:
                self._put_status(request.message_ref, status)
                if status.final:
                    self._finish(request.message_ref, now)

    def save_status(self, ref: str, status: MessageStatus, *, now: float) -> None:
        """Keep a message's status; at its end its octets and signed requests are dropped."""
        with self._transaction():
            self._put_status(ref, status)
            if status.final:
                self._finish(ref, now)

    def _finish(self, ref: str, now: float) -> None:
        self._db.execute(
            "UPDATE message SET message = NULL, finished_at = ? WHERE ref = ?", (now, ref)
        )
        self._db.execute("UPDATE request SET signed_request = NULL WHERE ref = ?", (ref,))

    def _put_status(self, ref: str, status: MessageStatus) -> None:
        marks = ", ".join("?" * 8)
        self._db.execute(
            f"UPDATE message SET ({_STATUS_COLUMNS}) = ({marks}) WHERE ref = ?",  # noqa: S608
            (*_status_row(status), ref),
        )

    def _put_request(self, request: Request) -> None:
        marks = ", ".join("?" * 10)
        self._db.execute(
            f"INSERT OR REPLACE INTO request (originator_counter, {_REQUEST_COLUMNS}) "  # noqa: S608
            f"VALUES ({marks})",
            (
                _octets(request.originator_counter),
                request.message_ref,
                request.index,
                request.pre_command.to_bytes(),
                _KEPT_AS.get(request.state, request.state).value,
                request.deadline,
                None if request.final else request.signed_request,
                request.posts,
                None if request.results is None else bytes(request.results),
                request.reason,
            ),
        )

    def message(self, ref: str) -> OutgoingMessage | None:
        """Find a message."""
        rows = self._all(f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE ref = ?", ref)  # noqa: S608
        return _message(rows[0]) if rows else None

    def unfinished_messages(self) -> list[OutgoingMessage]:
        """Return messages without a final status, in the order in which they were taken."""
        rows = self._all(
            f"SELECT {_MESSAGE_COLUMNS} FROM message "  # noqa: S608 (constants)
            "WHERE finished_at IS NULL ORDER BY number"
        )
        return [_message(row) for row in rows]

    def requests(self, ref: str) -> list[Request]:
        """Return a message's requests in the order of their fragments; none before its start."""
        rows = self._all(
            f"SELECT {_REQUEST_COLUMNS} FROM request "  # noqa: S608 (constants)
            "WHERE ref = ? ORDER BY fragment_index",
            ref,
        )
        return [self._request(row) for row in rows]

    def request(self, originator_counter: int) -> Request | None:
        """Find a request."""
        rows = self._all(
            f"SELECT {_REQUEST_COLUMNS} FROM request WHERE originator_counter = ?",  # noqa: S608
            _octets(originator_counter),
        )
        return self._request(rows[0]) if rows else None

    def _request(self, row: tuple[Any, ...]) -> Request:
        ref, index, octets, state, deadline, signed_request, posts, results, reason = row
        try:
            pre_command = parse_untrusted(octets)
        except FormatError as error:
            raise StorageError(f"{self._path}: a stored pre-command is damaged: {error}") from None
        if not isinstance(pre_command, PreCommand):
            raise StorageError(f"{self._path}: a stored pre-command is something else")
        return Request(
            message_ref=ref,
            index=index,
            pre_command=pre_command,
            state=State(state),
            deadline=deadline,
            signed_request=signed_request,
            posts=posts,
            results=None if results is None else tuple(results),
            reason=reason,
        )

    def last_tunnel_message_id(self, device: EntityId) -> int | None:
        """Return the tunnel message id last used towards a device."""
        rows = self._all(
            "SELECT tunnel_message_id FROM message WHERE device = ? AND first_counter IS NOT NULL "
            "ORDER BY first_counter DESC LIMIT 1",
            device.octets,
        )
        return int(rows[0][0]) if rows else None

    def forget_finished(self, *, before: float) -> int:
        """Drop messages that ended before a time, and their requests; return how many."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM request WHERE ref IN (SELECT ref FROM message WHERE finished_at < ?)",
                (before,),
            )
            # The latest message of each device stays: the next tunnel message id follows its own.
            return self._db.execute(
                "DELETE FROM message WHERE finished_at < ? AND (first_counter IS NULL OR "
                "first_counter NOT IN (SELECT max(first_counter) FROM message "
                "WHERE first_counter IS NOT NULL GROUP BY device))",
                (before,),
            ).rowcount

    # Uplink

    def keep_uplink(self, outcome: UplinkOutcome) -> None:
        """Keep what one alert changed, all of it or nothing."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO uplink_window VALUES (?, ?)",
                (outcome.device.octets, outcome.window),
            )
            if outcome.fragment is not None:
                self._put_fragment(outcome.fragment)
            self._drop_fragments(outcome.ended)
            if outcome.message is not None:
                new = outcome.message
                self._db.execute(
                    "INSERT INTO received (ref, device, message, received_at) VALUES (?, ?, ?, ?)",
                    (new.ref, new.device.octets, new.message, new.received_at),
                )

    def _put_fragment(self, fragment: UplinkFragment) -> None:
        self._db.execute(
            "INSERT INTO uplink_fragment (device, tunnel_message_id, first_counter, "
            "originator_counter, payload, received_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                *_key_row(fragment.key),
                _octets(fragment.originator_counter),
                fragment.payload,
                fragment.received_at,
            ),
        )

    def _drop_fragments(self, ended: Iterable[MessageKey]) -> None:
        self._db.executemany(
            "DELETE FROM uplink_fragment "
            "WHERE device = ? AND tunnel_message_id = ? AND first_counter = ?",
            [_key_row(key) for key in ended],
        )

    def end_uplink(self, ended: Iterable[MessageKey]) -> None:
        """Drop the fragments of messages that will never be complete."""
        with self._transaction():
            self._drop_fragments(ended)

    def windows(self, device: EntityId | None = None) -> Mapping[EntityId, bytes]:
        """Return the saved window of one device, or of all."""
        rows = self._all(
            "SELECT device, window FROM uplink_window WHERE ?1 IS NULL OR device = ?1",
            None if device is None else device.octets,
        )
        return {EntityId(octets): window for octets, window in rows}

    def uplink_fragments(self, device: EntityId | None = None) -> list[UplinkFragment]:
        """Return the fragments of partial messages, of one device or of all, as they came."""
        rows = self._all(
            "SELECT device, tunnel_message_id, first_counter, originator_counter, payload, "
            "received_at FROM uplink_fragment WHERE ?1 IS NULL OR device = ?1 ORDER BY number",
            None if device is None else device.octets,
        )
        return [
            UplinkFragment(
                MessageKey(EntityId(owner), message_id, _number(first)),
                _number(counter),
                payload,
                received_at,
            )
            for owner, message_id, first, counter, payload, received_at in rows
        ]

    def unacknowledged(self) -> list[IncomingMessage]:
        """Return received messages without an ack, oldest first."""
        rows = self._all("SELECT ref, device, message, received_at FROM received ORDER BY number")
        return [IncomingMessage(ref, EntityId(dev), message, at) for ref, dev, message, at in rows]

    def acknowledge(
        self, ref: str, *, answered: tuple[str, MessageStatus] | None, now: float
    ) -> None:
        """Drop a received message; keep the new status of the message that it answers."""
        with self._transaction():
            self._db.execute("DELETE FROM received WHERE ref = ?", (ref,))
            if answered is not None:
                answered_ref, status = answered
                self._put_status(answered_ref, status)
                if status.final:
                    self._finish(answered_ref, now)


class _CounterStore:
    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def load(self) -> int:
        return self._store.load_counter()

    def reserve(self, up_to: int) -> None:
        self._store.reserve_counter(up_to)


def _key_row(key: MessageKey) -> tuple[bytes, int, bytes]:
    return key.device.octets, key.tunnel_message_id, _octets(key.first_counter)


def _status_row(status: MessageStatus) -> tuple[Any, ...]:
    return (
        status.state.name,
        status.reason,
        status.fragments_total,
        status.fragments_accepted,
        status.fragments_delivered,
        status.message_octets,
        status.tunnel_message_id,
        None if status.first_counter is None else _octets(status.first_counter),
    )


def _message(row: tuple[Any, ...]) -> OutgoingMessage:
    ref, device, message, compression, state, reason = row[:6]
    total, accepted, delivered, octets, tunnel_message_id, first = row[6:]
    status = MessageStatus(
        ref=ref,
        state=DeliveryState[state],
        reason=reason,
        fragments_total=total,
        fragments_accepted=accepted,
        fragments_delivered=delivered,
        message_octets=octets,
        tunnel_message_id=tunnel_message_id,
        first_counter=None if first is None else _number(first),
    )
    return OutgoingMessage(ref, EntityId(device), message, compression, status)

"""The DSRSP's durable state in one SQLite file.

Each public method is one transaction, on disk when it returns (WAL, synchronous=FULL).
The file is locked for as long as it is open: two processes with one state would give
the same Originator Counters out. Counters have 64 bits and SQLite's integers a sign, so
they are kept as eight octets, which sort as the numbers do.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Final

from dsrsp.core.offers import RouteRecord
from dsrsp.core.request import Request
from dsrsp.errors import StorageError
from dsrsp.ports import Changes, IncomingMessage, SentMessage
from dsrsp.store_rows import (
    MESSAGE_COLUMNS,
    OFFER_COLUMNS,
    REQUEST_COLUMNS,
    counter_to_octets,
    message_of,
    octets_to_counter,
    offer_of,
    put_message,
    put_offer,
    put_request,
    request_of,
)
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from runner_io.state_file import StateErrors, StateFile
from smtunnel import Route

_FORMAT: Final = 6

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS originator_counter (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 1), wall_ahead_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS tunnel (key TEXT PRIMARY KEY, octets BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, device BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT, fragments_total INTEGER NOT NULL,
    fragments_accepted INTEGER NOT NULL, fragments_delivered INTEGER NOT NULL,
    message_octets INTEGER NOT NULL, tunnel_message_id INTEGER, first_counter BLOB,
    routes INTEGER NOT NULL,
    deadline REAL, topic TEXT, ended_at REAL);
CREATE INDEX IF NOT EXISTS message_ended ON message (ended_at);
CREATE TABLE IF NOT EXISTS request (
    originator_counter BLOB PRIMARY KEY, ref TEXT NOT NULL, fragment_index INTEGER NOT NULL,
    attempt INTEGER NOT NULL, pre_command BLOB NOT NULL, state TEXT NOT NULL, deadline REAL,
    signed_request BLOB, posts INTEGER NOT NULL, results BLOB, reason TEXT,
    signed_at REAL, held INTEGER NOT NULL, ended_at REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS request_ended ON request (ended_at);
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, device BLOB NOT NULL,
    message BLOB NOT NULL, received_at REAL NOT NULL, route INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS route_offer (
    device BLOB NOT NULL, number INTEGER NOT NULL, terms BLOB NOT NULL, offered_at REAL NOT NULL,
    not_after REAL NOT NULL, state TEXT NOT NULL, status INTEGER, answered_at REAL,
    by_hand INTEGER NOT NULL, PRIMARY KEY (device, number)) WITHOUT ROWID;
"""

_ERRORS: Final = StateErrors(
    failed=StorageError,
    in_use=StorageError,
    one_at_a_time="one gateway at a time",
    other_owner="give each supplier a state file of its own",
    other_format=(
        "let the version that wrote it end what is under way, then begin with a new state file and "
        "a counter_floor above every Originator Counter used so far"
    ),
    not_usable=(
        "restore it from a copy, or move it away and set counter_floor above every Originator "
        "Counter used so far"
    ),
)


class SqliteStore:
    """Durable state in a SQLite file; implements `dsrsp.ports.Storage`.

    Args:
        path: the file, made readable by its owner alone if it does not exist, or ":memory:".
        supplier_id: whose counters these are; a file of another supplier is refused.

    Raises:
        StorageError: the file cannot be used, or another process uses it.
    """

    def __init__(self, path: str, *, supplier_id: EntityId) -> None:
        self._file: StateFile[tuple[Changes, float]] = StateFile(
            path,
            schema=_SCHEMA,
            version=_FORMAT,
            owner=str(supplier_id),
            errors=_ERRORS,
            apply=self._apply_held,
        )

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._file.close()

    def counter_store(self) -> CounterStore:
        """Return the high-water mark of the organisation's one Originator Counter."""
        return _CounterStore(self)

    def load_counter(self) -> int:
        """Return the highest Originator Counter ever reserved; 0 where none was."""
        rows = self._file.rows("SELECT reserved FROM originator_counter")
        return octets_to_counter(rows[0][0]) if rows else 0

    def reserve_counter(self, up_to: int) -> None:
        """Commit a new high-water mark."""
        with self._file.transaction() as db:
            db.execute(
                "INSERT INTO originator_counter VALUES (1, ?1) "
                "ON CONFLICT (id) DO UPDATE SET reserved = max(reserved, ?1)",
                (counter_to_octets(up_to),),
            )

    def load_wall_ahead(self) -> float:
        """Return how far the wall clock was ahead of the times in here, in seconds."""
        rows = self._file.rows("SELECT wall_ahead_s FROM clock")
        return float(rows[0][0]) if rows else 0.0

    def latest_time(self) -> float:
        """Return the latest time at which something is known to have ended; -inf: nothing has."""
        rows = self._file.rows(
            "SELECT max(ended_at) FROM message UNION ALL SELECT max(ended_at) FROM request"
        )
        return max((float(at) for (at,) in rows if at is not None), default=-math.inf)

    def keep_wall_ahead(self, wall_ahead_s: float) -> None:
        """Keep how far the wall clock is ahead."""
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (wall_ahead_s,))

    def check_writable(self) -> None:
        """Prove that something can be written."""
        self._file.check_writable()

    def keep(self, changes: Changes, *, now: float) -> None:
        """Keep what one input changed, all of it or nothing."""
        with self._file.transaction() as db:
            self._apply(db, changes, now)

    def hold(self, changes: Changes, *, now: float) -> None:
        """Take what an input changed; it is durable when the next `keep` or `flush` is."""
        self._file.hold((changes, now))

    @property
    def holds(self) -> bool:
        """Whether something is held."""
        return self._file.holds

    def flush(self) -> None:
        """Make durable what is held."""
        self._file.flush()

    def abandon(self) -> None:
        """Forget what is held, as a process that is killed does."""
        self._file.abandon()

    def _apply_held(self, held: tuple[Changes, float]) -> None:
        changes, now = held
        self._apply(self._file.db, changes, now)

    def _apply(self, db: sqlite3.Connection, changes: Changes, now: float) -> None:
        for key, octets in changes.tunnel.items():
            if octets is None:
                db.execute("DELETE FROM tunnel WHERE key = ?", (key,))
            else:
                db.execute("INSERT OR REPLACE INTO tunnel VALUES (?, ?)", (key, octets))
        # Of several states that one input brings only the last is of interest later.
        for sent in {sent.status.ref: sent for sent in changes.sent}.values():
            put_message(db, sent, now)
        for request in changes.requests:
            put_request(db, request, now)
        if changes.received:
            db.executemany(
                "INSERT INTO received (ref, device, message, received_at, route) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (m.ref, m.device.octets, m.message, m.received_at, int(m.route))
                    for m in changes.received
                ],
            )
        for record in changes.offers:
            put_offer(db, record)
        if changes.acknowledged is not None:
            db.execute("DELETE FROM received WHERE ref = ?", (changes.acknowledged,))

    def forget_finished(self, *, before: float, requests_before: float) -> int:
        """Drop messages, and requests, that ended before a time; return how many messages."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM request WHERE ended_at < ?", (requests_before,))
            return db.execute("DELETE FROM message WHERE ended_at < ?", (before,)).rowcount

    def tunnel_rows(self) -> list[tuple[str, bytes]]:
        """Return all rows of the tunnel's end."""
        return self._file.rows("SELECT key, octets FROM tunnel")

    def message(self, ref: str) -> SentMessage | None:
        """Find a message that was sent."""
        rows = self._file.rows(f"SELECT {MESSAGE_COLUMNS} FROM message WHERE ref = ?", ref)  # noqa: S608
        return message_of(rows[0]) if rows else None

    def unfinished_messages(self) -> list[SentMessage]:
        """Return messages without a final status, in the order in which they were taken."""
        rows = self._file.rows(
            f"SELECT {MESSAGE_COLUMNS} FROM message "  # noqa: S608 (constants)
            "WHERE ended_at IS NULL ORDER BY number"
        )
        return [message_of(row) for row in rows]

    def request(self, originator_counter: int) -> Request | None:
        """Find a request."""
        rows = self._file.rows(
            f"SELECT {REQUEST_COLUMNS} FROM request WHERE originator_counter = ?",  # noqa: S608
            counter_to_octets(originator_counter),
        )
        return request_of(rows[0], self._file.path) if rows else None

    def may_have_gone(self, ref: str, *, first_counter: int) -> bool:
        """Whether any fragment of a message was signed, and so perhaps posted."""
        # From its first counter on: that is how the rows lie, and needs no index of its own.
        rows = self._file.rows(
            "SELECT 1 FROM request WHERE originator_counter >= ? AND ref = ? "
            "AND (posts > 0 OR signed_request IS NOT NULL) LIMIT 1",
            counter_to_octets(first_counter),
            ref,
        )
        return bool(rows)

    def unfinished_requests(self) -> list[Request]:
        """Return requests that have not ended, in the order of their counters."""
        rows = self._file.rows(
            f"SELECT {REQUEST_COLUMNS} FROM request "  # noqa: S608 (constants)
            "WHERE ended_at IS NULL ORDER BY originator_counter"
        )
        return [request_of(row, self._file.path) for row in rows]

    def signed_since(self, since: float) -> list[float]:
        """Return when commands were signed, from a time on, in order."""
        query = "SELECT signed_at FROM request WHERE signed_at >= ? ORDER BY signed_at"
        return [at for (at,) in self._file.rows(query, since)]

    def unacknowledged(self) -> list[IncomingMessage]:
        """Return received messages without an ack, oldest first."""
        rows = self._file.rows(
            "SELECT ref, device, message, received_at, route FROM received ORDER BY number"
        )
        return [
            IncomingMessage(ref, EntityId(device), message, at, Route(route))
            for ref, device, message, at, route in rows
        ]

    def route_offers(self) -> list[RouteRecord]:
        """Return the route offers to all devices: of each its newest, and older that still hold."""
        rows = self._file.rows(
            f"SELECT {OFFER_COLUMNS} FROM route_offer ORDER BY device, number"  # noqa: S608 (constants)
        )
        return [offer_of(row) for row in rows]


class _CounterStore:
    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def load(self) -> int:
        return self._store.load_counter()

    def reserve(self, up_to: int) -> None:
        self._store.reserve_counter(up_to)

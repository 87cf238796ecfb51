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
from collections.abc import Iterator
from typing import Any, Final

from dsrsp.core.offers import OfferState, RouteRecord
from dsrsp.core.request import Request, State
from dsrsp.errors import StorageError
from dsrsp.ports import Changes, IncomingMessage, SentMessage
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError
from gbcs.messages import PreCommand, parse_untrusted
from smtunnel import DeliveryState, MessageStatus, Route
from smtunnel.route_choice import number_to_routes, routes_to_number
from smtunnel.routes import RouteStatus

_FORMAT: Final = 5

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY CHECK (id = 1), supplier BLOB NOT NULL);
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

_STATUS_COLUMNS: Final = (
    "state, reason, fragments_total, fragments_accepted, fragments_delivered, message_octets, "
    "tunnel_message_id, first_counter, routes"
)
_MESSAGE_COLUMNS: Final = f"ref, device, deadline, topic, {_STATUS_COLUMNS}"
_REQUEST_COLUMNS: Final = (
    "ref, fragment_index, attempt, pre_command, state, deadline, signed_request, posts, results, "
    "reason, signed_at, held"
)
_COUNTER_OCTETS: Final = 8

# Interim states hold nothing that is worth a write: after a restart they begin again.
_KEPT_AS: Final = {
    State.TRANSFORMING: State.RESERVED,
    State.CORRELATING: State.RESERVED,
    State.SENDING: State.SIGNED,
}


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
        self._held: list[tuple[Changes, float]] = []
        self._lost_held = False
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
                    f"{self._path}: state of format {found}, this program knows {_FORMAT} only: "
                    "let the version that wrote it end what is under way, then begin with a new "
                    "state file and a counter_floor above every counter that was used"
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
    def _transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Do something whole or not at all; what is held becomes durable with it."""
        with self._errors():
            self._hold_again()
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            beside = bool(self._held)
            try:
                if beside:
                    self._db.execute("SAVEPOINT input")
                yield
                if beside:
                    self._db.execute("RELEASE input")
                if durable:
                    self._db.execute("COMMIT")
                    self._held.clear()
            except BaseException:
                self._take_back()
                raise

    def _take_back(self) -> None:
        """Undo what was begun, but not what was held before."""
        with contextlib.suppress(sqlite3.Error):
            if self._held and self._db.in_transaction:
                self._db.execute("ROLLBACK TO input")
                self._db.execute("RELEASE input")
                return
        # A failed COMMIT may have rolled back on its own.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._lost_held = bool(self._held)

    def _hold_again(self) -> None:
        """Take up what is held and was rolled back with a commit that failed."""
        if not self._lost_held:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for changes, now in self._held:
                self._apply(changes, now)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._lost_held = False

    def _all(self, query: str, *values: object) -> list[Any]:
        with self._errors():
            self._hold_again()
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

    def load_wall_ahead(self) -> float:
        """Return how far the wall clock was ahead of the times in here, in seconds."""
        rows = self._all("SELECT wall_ahead_s FROM clock")
        return float(rows[0][0]) if rows else 0.0

    def keep_wall_ahead(self, wall_ahead_s: float) -> None:
        """Keep how far the wall clock is ahead."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (wall_ahead_s,))

    def check_writable(self) -> None:
        """Prove that something can be written."""
        with self._transaction():
            self._db.execute("UPDATE owner SET supplier = supplier")

    def keep(self, changes: Changes, *, now: float) -> None:
        """Keep what one input changed, all of it or nothing."""
        with self._transaction():
            self._apply(changes, now)

    def hold(self, changes: Changes, *, now: float) -> None:
        """Take what an input changed; it is durable when the next `keep` or `flush` is."""
        with self._transaction(durable=False):
            self._apply(changes, now)
        self._held.append((changes, now))

    @property
    def holds(self) -> bool:
        """Whether something is held."""
        return bool(self._held)

    def flush(self) -> None:
        """Make durable what is held."""
        if self._held:
            with self._transaction():
                pass

    def abandon(self) -> None:
        """Forget what is held, as a process that is killed does."""
        self._held.clear()
        self._lost_held = False
        with self._errors():
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _apply(self, changes: Changes, now: float) -> None:
        for key, octets in changes.tunnel.items():
            if octets is None:
                self._db.execute("DELETE FROM tunnel WHERE key = ?", (key,))
            else:
                self._db.execute("INSERT OR REPLACE INTO tunnel VALUES (?, ?)", (key, octets))
        # Of several states that one input brings only the last is of interest later.
        for sent in {sent.status.ref: sent for sent in changes.sent}.values():
            self._put_message(sent, now)
        for request in changes.requests:
            self._put_request(request, now)
        if changes.received:
            self._db.executemany(
                "INSERT INTO received (ref, device, message, received_at, route) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (m.ref, m.device.octets, m.message, m.received_at, int(m.route))
                    for m in changes.received
                ],
            )
        for record in changes.offers:
            self._put_offer(record)
        if changes.acknowledged is not None:
            self._db.execute("DELETE FROM received WHERE ref = ?", (changes.acknowledged,))

    def _put_offer(self, record: RouteRecord) -> None:
        device = record.device.octets
        self._db.execute(
            "DELETE FROM route_offer WHERE device = ? AND number < ? AND not_after <= ?",
            (device, record.number, record.offered_at),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO route_offer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                device,
                record.number,
                record.terms,
                record.offered_at,
                record.not_after,
                record.state.name,
                None if record.status is None else int(record.status),
                record.answered_at,
                record.by_hand,
            ),
        )

    def _put_message(self, sent: SentMessage, now: float) -> None:
        ended_at = now if sent.status.final else None
        marks = ", ".join("?" * 14)
        self._db.execute(
            f"INSERT INTO message ({_MESSAGE_COLUMNS}, ended_at) VALUES ({marks}) "  # noqa: S608
            f"ON CONFLICT (ref) DO UPDATE SET ({_STATUS_COLUMNS}) = "
            "(excluded.state, excluded.reason, excluded.fragments_total, "
            "excluded.fragments_accepted, excluded.fragments_delivered, excluded.message_octets, "
            "excluded.tunnel_message_id, excluded.first_counter, excluded.routes), "
            "ended_at = coalesce(ended_at, excluded.ended_at)",
            (
                sent.status.ref,
                sent.device.octets,
                sent.deadline,
                sent.topic,
                *_status_row(sent.status),
                ended_at,
            ),
        )

    def _put_request(self, request: Request, now: float) -> None:
        marks = ", ".join("?" * 14)
        self._db.execute(
            f"INSERT OR REPLACE INTO request (originator_counter, {_REQUEST_COLUMNS}, "  # noqa: S608
            f"ended_at) VALUES ({marks})",
            (
                _octets(request.originator_counter),
                request.message_ref,
                request.index,
                request.attempt,
                request.pre_command.to_bytes(),
                _KEPT_AS.get(request.state, request.state).value,
                request.deadline,
                None if request.final else request.signed_request,
                request.posts,
                None if request.results is None else bytes(request.results),
                request.reason,
                request.signed_at,
                request.held,
                now if request.final else None,
            ),
        )

    def forget_finished(self, *, before: float, requests_before: float) -> int:
        """Drop messages, and requests, that ended before a time; return how many messages."""
        with self._transaction():
            self._db.execute("DELETE FROM request WHERE ended_at < ?", (requests_before,))
            return self._db.execute("DELETE FROM message WHERE ended_at < ?", (before,)).rowcount

    def tunnel_rows(self) -> list[tuple[str, bytes]]:
        """Return all rows of the tunnel's end."""
        return self._all("SELECT key, octets FROM tunnel")

    def message(self, ref: str) -> SentMessage | None:
        """Find a message that was sent."""
        rows = self._all(f"SELECT {_MESSAGE_COLUMNS} FROM message WHERE ref = ?", ref)  # noqa: S608
        return _message(rows[0]) if rows else None

    def unfinished_messages(self) -> list[SentMessage]:
        """Return messages without a final status, in the order in which they were taken."""
        rows = self._all(
            f"SELECT {_MESSAGE_COLUMNS} FROM message "  # noqa: S608 (constants)
            "WHERE ended_at IS NULL ORDER BY number"
        )
        return [_message(row) for row in rows]

    def request(self, originator_counter: int) -> Request | None:
        """Find a request."""
        rows = self._all(
            f"SELECT {_REQUEST_COLUMNS} FROM request WHERE originator_counter = ?",  # noqa: S608
            _octets(originator_counter),
        )
        return self._request(rows[0]) if rows else None

    def may_have_gone(self, ref: str, *, first_counter: int) -> bool:
        """Whether any fragment of a message was signed, and so perhaps posted."""
        # From its first counter on: that is how the rows lie, and needs no index of its own.
        rows = self._all(
            "SELECT 1 FROM request WHERE originator_counter >= ? AND ref = ? "
            "AND (posts > 0 OR signed_request IS NOT NULL) LIMIT 1",
            _octets(first_counter),
            ref,
        )
        return bool(rows)

    def unfinished_requests(self) -> list[Request]:
        """Return requests that have not ended, in the order of their counters."""
        rows = self._all(
            f"SELECT {_REQUEST_COLUMNS} FROM request "  # noqa: S608 (constants)
            "WHERE ended_at IS NULL ORDER BY originator_counter"
        )
        return [self._request(row) for row in rows]

    def _request(self, row: tuple[Any, ...]) -> Request:
        ref, index, attempt, octets, state, deadline, signed_request, *rest = row
        posts, results, reason, signed_at, held = rest
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
            attempt=attempt,
            state=State(state),
            deadline=deadline,
            signed_request=signed_request,
            posts=posts,
            results=None if results is None else tuple(results),
            reason=reason,
            signed_at=signed_at,
            held=bool(held),
        )

    def signed_since(self, since: float) -> list[float]:
        """Return when commands were signed, from a time on, in order."""
        query = "SELECT signed_at FROM request WHERE signed_at >= ? ORDER BY signed_at"
        return [at for (at,) in self._all(query, since)]

    def unacknowledged(self) -> list[IncomingMessage]:
        """Return received messages without an ack, oldest first."""
        rows = self._all(
            "SELECT ref, device, message, received_at, route FROM received ORDER BY number"
        )
        return [
            IncomingMessage(ref, EntityId(device), message, at, Route(route))
            for ref, device, message, at, route in rows
        ]

    def route_offers(self) -> list[RouteRecord]:
        """Return the route offers to all devices: of each its newest, and older that still hold."""
        rows = self._all(
            "SELECT device, number, terms, offered_at, not_after, state, status, answered_at, "
            "by_hand FROM route_offer ORDER BY device, number"
        )
        return [
            RouteRecord(
                device=EntityId(device),
                number=number,
                terms=terms,
                offered_at=offered_at,
                not_after=not_after,
                state=OfferState[state],
                status=None if status is None else RouteStatus(status),
                answered_at=answered_at,
                by_hand=bool(by_hand),
            )
            for (
                device,
                number,
                terms,
                offered_at,
                not_after,
                state,
                status,
                answered_at,
                by_hand,
            ) in rows
        ]


class _CounterStore:
    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def load(self) -> int:
        return self._store.load_counter()

    def reserve(self, up_to: int) -> None:
        self._store.reserve_counter(up_to)


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
        routes_to_number(status.routes),
    )


def _message(row: tuple[Any, ...]) -> SentMessage:
    (
        ref,
        device,
        deadline,
        topic,
        state,
        reason,
        total,
        accepted,
        delivered,
        octets,
        message_id,
        first,
        routes,
    ) = row
    status = MessageStatus(
        ref=ref,
        state=DeliveryState[state],
        reason=reason,
        fragments_total=total,
        fragments_accepted=accepted,
        fragments_delivered=delivered,
        message_octets=octets,
        tunnel_message_id=message_id,
        first_counter=None if first is None else _number(first),
        routes=number_to_routes(routes),
    )
    return SentMessage(EntityId(device), status, deadline, topic)

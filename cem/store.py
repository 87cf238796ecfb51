"""The CEM's durable state in one SQLite file.

Each public method is one transaction, on disk when it returns (WAL, synchronous=FULL).
The file is locked for as long as it is open: two processes with one state would give
the same Originator Counters out. 64-bit counters are stored as eight octets, because
SQLite's integers are signed; octets sort as the numbers do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cem.core.routes import KnownOffer
from cem.errors import StoreError, StoreInUse
from cem.ports import BuiltAlert, Changes, CommandAnswer, NewMessage, StoredMessage
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from runner_io.state_file import StateErrors, StateFile
from smtunnel import DeliveryState, MessageStatus, Route
from smtunnel.errors import TunnelError
from smtunnel.octets import Reader
from smtunnel.route_choice import number_to_routes, routes_to_number
from smtunnel.routes import RouteOffer, RouteStatus

_FORMAT: Final = 4

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS originator_counter (
    id INTEGER PRIMARY KEY CHECK (id = 1), reserved BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tunnel (key TEXT PRIMARY KEY, octets BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    peer BLOB NOT NULL, originator_counter BLOB NOT NULL, content_digest BLOB NOT NULL,
    response BLOB NOT NULL, PRIMARY KEY (peer, originator_counter)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (label_index INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS received (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, peer BLOB NOT NULL,
    message BLOB NOT NULL, received_at REAL NOT NULL, route INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL UNIQUE, pending INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, fragments_total INTEGER NOT NULL,
    fragments_accepted INTEGER NOT NULL, fragments_delivered INTEGER NOT NULL,
    message_octets INTEGER NOT NULL, tunnel_message_id INTEGER, first_counter BLOB,
    receipt_expected INTEGER NOT NULL, routes INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS outgoing_pending ON outgoing (number) WHERE pending;
CREATE TABLE IF NOT EXISTS alerts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, originator_counter BLOB NOT NULL UNIQUE,
    ref TEXT NOT NULL, fragment_index INTEGER NOT NULL, attempt INTEGER NOT NULL,
    peer BLOB NOT NULL, payload TEXT NOT NULL, octets BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS alerts_by_message ON alerts (ref);
CREATE TABLE IF NOT EXISTS route_offer (
    id INTEGER PRIMARY KEY CHECK (id = 1), octets BLOB NOT NULL, status INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL);
"""

_COUNTER_FLOOR: Final = "set counter_floor above every Originator Counter used so far"
_ERRORS: Final = StateErrors(
    failed=StoreError,
    in_use=StoreInUse,
    one_at_a_time="stop it first: one device must not run twice",
    other_owner="give each device a state file of its own",
    other_format=(
        "go on with the version that wrote it; or, when no message in it matters any more, move it "
        f"away and {_COUNTER_FLOOR}"
    ),
    not_usable=f"restore it from a copy, or move it away and {_COUNTER_FLOOR}",
)

_SELECT_STATUS: Final = (
    "SELECT ref, state, reason, fragments_total, fragments_accepted, fragments_delivered, "
    "message_octets, tunnel_message_id, first_counter, receipt_expected, routes "
    "FROM outgoing WHERE ref = ?"
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
        self._replay_window = replay_window
        self._finished_messages = finished_messages
        self._file: StateFile[Changes] = StateFile(
            path,
            schema=_SCHEMA,
            version=_FORMAT,
            owner=str(device_id),
            errors=_ERRORS,
            apply=self._apply,
        )

    def close(self) -> None:
        """Close the file and give its lock up."""
        self._file.close()

    # The device's own Originator Counter

    @property
    def counters(self) -> CounterStore:
        """The high-water mark of this device's Originator Counter."""
        return self

    def load(self) -> int:
        """Return the highest number ever reserved; 0 where none was."""
        row = self._file.row("SELECT reserved FROM originator_counter")
        return 0 if row is None else _number(row[0])

    def reserve(self, up_to: int) -> None:
        """Commit a new high-water mark; a lower one than before is refused."""
        with self._file.transaction() as db:
            mark = db.execute("SELECT reserved FROM originator_counter").fetchone()
            if mark is not None and _number(mark[0]) >= up_to:
                raise StoreError(
                    f"{self._file.path}: counters up to {_number(mark[0])} are reserved already, "
                    f"{up_to} would give numbers out twice"
                )
            db.execute(
                "INSERT INTO originator_counter VALUES (1, ?) "
                "ON CONFLICT (id) DO UPDATE SET reserved = excluded.reserved",
                (_octets(up_to),),
            )

    # All that one input changes

    def commit(self, changes: Changes) -> None:
        """Store all that an input changes, as one."""
        with self._file.transaction():
            self._apply(changes)

    def hold(self, changes: Changes) -> None:
        """Take what an input changes; it is durable when the next ``commit`` or ``flush`` is."""
        self._file.hold(changes)

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

    @property
    def _db(self) -> sqlite3.Connection:
        return self._file.db

    def _apply(self, changes: Changes) -> None:
        self._change_rows(changes.rows.items())
        if changes.acknowledged is not None:
            self._db.execute("DELETE FROM received WHERE ref = ?", (changes.acknowledged,))
        if changes.received:
            self._add_received(changes.received)
        for status in {status.ref: status for status in changes.statuses}.values():
            self._save_status(status)
        # A message that begins anew has its old alerts dropped before the new ones are added.
        for status in changes.statuses:
            if status.final or status.tunnel_message_id is None:
                self._db.execute("DELETE FROM alerts WHERE ref = ?", (status.ref,))
        if changes.done_alerts:
            self._db.executemany(
                "DELETE FROM alerts WHERE originator_counter = ?",
                [(_octets(counter),) for counter in changes.done_alerts],
            )
        if changes.alerts:
            self._add_alerts(changes.alerts)
        if changes.answer is not None:
            self._add_answer(changes.answer)
        if changes.labels:
            self._db.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?)", changes.labels)
        if changes.offer is not None:
            self._save_offer(changes.offer)
        if any(status.final for status in changes.statuses):
            self._prune_outgoing()

    def _change_rows(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        for key, octets in rows:
            if octets is None:
                self._db.execute("DELETE FROM tunnel WHERE key = ?", (key,))
            else:
                self._db.execute("INSERT OR REPLACE INTO tunnel VALUES (?, ?)", (key, octets))

    def _add_received(self, messages: Iterable[NewMessage]) -> None:
        self._db.executemany(
            "INSERT INTO received (ref, peer, message, received_at, route) VALUES (?, ?, ?, ?, ?)",
            [
                (new.ref, new.peer.octets, new.message, new.received_at, int(new.route))
                for new in messages
            ],
        )

    def _save_status(self, status: MessageStatus) -> None:
        first = status.first_counter
        self._db.execute(
            "INSERT INTO outgoing (ref, pending, state, reason, fragments_total, "
            "fragments_accepted, fragments_delivered, message_octets, tunnel_message_id, "
            "first_counter, receipt_expected, routes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (ref) DO UPDATE SET pending = excluded.pending, state = excluded.state, "
            "reason = excluded.reason, fragments_total = excluded.fragments_total, "
            "fragments_accepted = excluded.fragments_accepted, "
            "fragments_delivered = excluded.fragments_delivered, "
            "message_octets = excluded.message_octets, "
            "tunnel_message_id = excluded.tunnel_message_id, "
            "first_counter = excluded.first_counter, receipt_expected = excluded.receipt_expected, "
            "routes = excluded.routes",
            (
                status.ref,
                not status.final,
                status.state.name,
                status.reason,
                status.fragments_total,
                status.fragments_accepted,
                status.fragments_delivered,
                status.message_octets,
                status.tunnel_message_id,
                None if first is None else _octets(first),
                status.receipt_expected,
                routes_to_number(status.routes),
            ),
        )

    def _prune_outgoing(self) -> None:
        self._db.execute(
            "DELETE FROM outgoing WHERE NOT pending AND number <= (SELECT number FROM outgoing "
            "WHERE NOT pending ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (self._finished_messages,),
        )

    def _add_alerts(self, alerts: Iterable[BuiltAlert]) -> None:
        self._db.executemany(
            "INSERT INTO alerts (originator_counter, ref, fragment_index, attempt, peer, payload, "
            "octets) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    _octets(alert.originator_counter),
                    alert.ref,
                    alert.index,
                    alert.attempt,
                    alert.peer,
                    alert.payload,
                    alert.octets,
                )
                for alert in alerts
            ],
        )

    def _add_answer(self, answer: CommandAnswer) -> None:
        peer = answer.peer
        self._db.execute(
            "INSERT INTO answers VALUES (?, ?, ?, ?)",
            (peer, _octets(answer.originator_counter), answer.content_digest, answer.response),
        )
        self._db.execute(
            "DELETE FROM answers WHERE peer = ?1 AND originator_counter <= ("
            "SELECT originator_counter FROM answers WHERE peer = ?1 "
            "ORDER BY originator_counter DESC LIMIT 1 OFFSET ?2)",
            (peer, self._replay_window),
        )

    def _save_offer(self, known: KnownOffer) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO route_offer VALUES (1, ?, ?, ?)",
            (known.offer.build_body(), int(known.status), known.withdrawn),
        )

    # What is there

    def offer(self) -> KnownOffer | None:
        """Return the newest route offer; None where none has come."""
        row = self._file.row("SELECT octets, status, withdrawn FROM route_offer")
        if row is None:
            return None
        octets, status, withdrawn = row
        try:
            offer = RouteOffer.parse_untrusted(Reader(octets, "the stored route offer"))
            return KnownOffer(offer, RouteStatus(status), withdrawn=bool(withdrawn))
        except (TunnelError, ValueError) as error:
            raise StoreError(
                f"{self._file.path}: the stored route offer is damaged: {error}"
            ) from None

    def tunnel_rows(self) -> dict[str, bytes]:
        """Return the tunnel's own state."""
        return dict(self._file.rows("SELECT key, octets FROM tunnel"))

    def answer(self, peer: bytes, originator_counter: int) -> CommandAnswer | None:
        """Return what a peer's command with this counter was answered; None where not known."""
        row = self._file.row(
            "SELECT content_digest, response FROM answers "
            "WHERE peer = ? AND originator_counter = ?",
            peer,
            _octets(originator_counter),
        )
        return None if row is None else CommandAnswer(peer, originator_counter, *row)

    def labels(self) -> dict[int, str]:
        """Return the labels that were no fragments, by index."""
        return dict(self._file.rows("SELECT label_index, text FROM labels ORDER BY label_index"))

    def count_received(self) -> int:
        """Return how many messages wait for the application."""
        return int(self._file.row("SELECT count(*) FROM received")[0])

    def next_received(self, after: int) -> StoredMessage | None:
        """Return the message after the one with this number; None where there is none yet."""
        row = self._file.row(
            "SELECT number, ref, peer, message, received_at, route FROM received "
            "WHERE number > ? ORDER BY number LIMIT 1",
            after,
        )
        if row is None:
            return None
        number, ref, peer, message, received_at, route = row
        return StoredMessage(number, ref, EntityId(peer), message, received_at, Route(route))

    def next_alert(self) -> BuiltAlert | None:
        """Return the oldest alert that is to be sent; None where there is none."""
        row = self._file.row(
            "SELECT originator_counter, ref, fragment_index, attempt, peer, payload, octets "
            "FROM alerts ORDER BY number LIMIT 1"
        )
        return None if row is None else BuiltAlert(_number(row[0]), *row[1:])

    def alert_counters(self) -> set[int]:
        """Return the Originator Counters of all alerts that are to be sent."""
        return {_number(row[0]) for row in self._file.rows("SELECT originator_counter FROM alerts")}

    def count_outgoing(self) -> int:
        """Return how many sent messages have not ended."""
        return int(self._file.row("SELECT count(*) FROM outgoing WHERE pending")[0])

    def status(self, ref: str) -> MessageStatus | None:
        """Return where a sent message is; None where the reference is not known."""
        row = self._file.row(_SELECT_STATUS, ref)
        return None if row is None else _status_of(row)


def _status_of(row: Sequence[Any]) -> MessageStatus:
    ref, state, reason, total, accepted, delivered, message_octets, message_id, *more = row
    first, expected, routes = more
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
        receipt_expected=bool(expected),
        routes=number_to_routes(routes),
    )

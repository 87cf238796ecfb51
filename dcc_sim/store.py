"""The state in SQLite: one connection, write-ahead log, every commit flushed to the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dcc_sim.errors import StoreError
from dcc_sim.ports import (
    AnomalyRow,
    CertificateName,
    CommandRow,
    CommandState,
    NetworkRun,
    PostingRow,
    QuarantineRow,
    StoredState,
    UplinkRow,
)
from gbcs.entity_id import EntityId

_SCHEMA_VERSION = 2

# Counters are 64-bit unsigned, SQLite's integers signed: kept as eight octets, which sort alike.
_SCHEMA = """
CREATE TABLE floor (user BLOB PRIMARY KEY, originator_counter BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE counter (
    user BLOB, originator_counter BLOB, PRIMARY KEY (user, originator_counter)
) WITHOUT ROWID;
CREATE TABLE command (
    sequence INTEGER PRIMARY KEY,
    user BLOB NOT NULL,
    originator_counter BLOB NOT NULL,
    device BLOB NOT NULL,
    state INTEGER NOT NULL,
    pre_command BLOB NOT NULL,
    command BLOB NOT NULL,
    schema_version TEXT NOT NULL,
    command_variant INTEGER NOT NULL,
    UNIQUE (user, originator_counter)
);
CREATE TABLE posting (
    posting_id INTEGER PRIMARY KEY AUTOINCREMENT,
    user BLOB NOT NULL,
    reference TEXT NOT NULL,
    kind TEXT NOT NULL,
    xml BLOB NOT NULL,
    created REAL NOT NULL
);
CREATE TABLE quarantine (
    event_reference INTEGER PRIMARY KEY AUTOINCREMENT,
    user BLOB NOT NULL,
    originator_counter BLOB NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE anomaly (
    user BLOB, service_reference_variant TEXT, period_start REAL NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (user, service_reference_variant)
) WITHOUT ROWID;
CREATE TABLE device_status (device BLOB PRIMARY KEY, status TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked (issuer TEXT, serial BLOB, PRIMARY KEY (issuer, serial)) WITHOUT ROWID;
CREATE TABLE setting (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE uplink (
    uplink_id INTEGER PRIMARY KEY,
    device BLOB NOT NULL,
    octets BLOB NOT NULL
);
CREATE TABLE network_run (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch REAL NOT NULL,
    run INTEGER NOT NULL
);
"""

# What a rising floor does not delete: the user was told that it is on its way.
_KEPT = (CommandState.ACCEPTED, CommandState.QUARANTINED)


class SqliteStore:
    """Implements dcc_sim.ports.Storage.

    Args:
        path: of the database file, made readable by its owner alone when it is missing;
            ":memory:" keeps nothing.

    Raises:
        StoreError: the file cannot be opened or is no store of this version.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            if path != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: cannot open the state: {error}") from None
        try:
            with self._errors("open"):
                self._prepare()
        except StoreError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # One process owns the file: a second one would post everything twice.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_SCHEMA_VERSION};COMMIT")
        elif version != _SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: a state of version {version}, this program reads version "
                f"{_SCHEMA_VERSION}: use another file"
            )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "; another process uses it: stop that one" if "locked" in str(error) else ""
            raise StoreError(f"{self._path}: cannot {doing} the state: {error}{hint}") from None

    @contextmanager
    def _save(self) -> Iterator[None]:
        """Write with one statement, which SQLite does wholly or not at all."""
        with self._errors("write"):
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _save_together(self) -> Iterator[None]:
        """Write with several statements, wholly or not at all."""
        with self._save():
            self._db.execute("SAVEPOINT save")
            try:
                yield
            except sqlite3.Error:
                # A full disk may already have ended the transaction, savepoint and all.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK TO save")
                    self._db.execute("RELEASE save")
                raise
            self._db.execute("RELEASE save")

    def load(self) -> StoredState:
        """See Storage."""
        with self._errors("read"):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            floors = {
                EntityId(user): _counter(counter)
                for user, counter in self._db.execute("SELECT user, originator_counter FROM floor")
            }
            counters: dict[EntityId, list[int]] = {}
            for user, counter in self._db.execute("SELECT user, originator_counter FROM counter"):
                counters.setdefault(EntityId(user), []).append(_counter(counter))
            return StoredState(
                floors=floors,
                counters=counters,
                commands=self._load_commands(),
                postings=self._load_postings(),
                last_posting_id=self._last_used("posting"),
                quarantine=self._load_quarantine(),
                last_event_reference=self._last_used("quarantine"),
                anomaly_counts=self._load_anomaly_counts(),
                device_statuses={
                    EntityId(device): status
                    for device, status in self._db.execute(
                        "SELECT device, status FROM device_status"
                    )
                },
                revoked=[
                    (issuer, int.from_bytes(serial, "big"))
                    for issuer, serial in self._db.execute("SELECT issuer, serial FROM revoked")
                ],
                settings=dict(self._db.execute("SELECT name, value FROM setting")),
                uplinks=self._load_uplinks(),
                network_run=self._load_network_run(),
            )

    def _load_commands(self) -> list[CommandRow]:
        rows = self._db.execute(
            "SELECT user, device, originator_counter, state, pre_command, command,"
            " schema_version, command_variant FROM command ORDER BY sequence"
        )
        return [
            CommandRow(
                EntityId(user),
                EntityId(device),
                _counter(counter),
                CommandState(state),
                pre_command,
                command,
                schema_version,
                command_variant,
            )
            for (
                user,
                device,
                counter,
                state,
                pre_command,
                command,
                schema_version,
                command_variant,
            ) in rows
        ]

    def _load_postings(self) -> list[PostingRow]:
        rows = self._db.execute(
            "SELECT posting_id, user, reference, kind, xml, created FROM posting"
            " ORDER BY posting_id"
        )
        return [
            PostingRow(posting_id, EntityId(user), reference, kind, xml, created)
            for posting_id, user, reference, kind, xml, created in rows
        ]

    def _load_uplinks(self) -> list[UplinkRow]:
        rows = self._db.execute("SELECT uplink_id, device, octets FROM uplink ORDER BY uplink_id")
        return [UplinkRow(number, EntityId(device), octets) for number, device, octets in rows]

    def _load_network_run(self) -> NetworkRun | None:
        row = self._db.execute("SELECT epoch, run FROM network_run").fetchone()
        return None if row is None else NetworkRun(*row)

    def _load_quarantine(self) -> list[QuarantineRow]:
        rows = self._db.execute(
            "SELECT event_reference, user, originator_counter, since FROM quarantine"
            " ORDER BY event_reference"
        )
        return [
            QuarantineRow(reference, EntityId(user), _counter(counter), since)
            for reference, user, counter, since in rows
        ]

    def _load_anomaly_counts(self) -> list[AnomalyRow]:
        rows = self._db.execute(
            "SELECT user, service_reference_variant, period_start, count FROM anomaly"
        )
        return [
            AnomalyRow(EntityId(user), variant, period_start, count)
            for user, variant, period_start, count in rows
        ]

    def _last_used(self, table: str) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name=?", (table,)).fetchone()
        return 0 if row is None else int(row[0])

    def save_transformed(self, row: CommandRow, displaced: int | None) -> None:
        """See Storage."""
        with self._save_together():
            self._use_counter(row.user, row.originator_counter, displaced)
            self._db.execute(
                "INSERT INTO command (user, originator_counter, device, state, pre_command,"
                " command, schema_version, command_variant) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.user.octets,
                    _octets(row.originator_counter),
                    row.device.octets,
                    row.state,
                    row.pre_command,
                    row.command,
                    row.schema_version,
                    row.command_variant,
                ),
            )

    def save_counter(self, user: EntityId, counter: int, displaced: int | None) -> None:
        """See Storage."""
        with self._save_together():
            self._use_counter(user, counter, displaced)

    def _use_counter(self, user: EntityId, counter: int, displaced: int | None) -> None:
        if displaced is not None:
            floor = (user.octets, _octets(displaced))
            self._db.execute("REPLACE INTO floor VALUES (?, ?)", floor)
            self._db.execute("DELETE FROM counter WHERE user=? AND originator_counter<=?", floor)
            self._db.execute(
                "DELETE FROM command WHERE user=? AND originator_counter<=?"
                " AND state NOT IN (?, ?)",
                (*floor, *_KEPT),
            )
        self._db.execute("INSERT INTO counter VALUES (?, ?)", (user.octets, _octets(counter)))

    def save_accepted(self, row: CommandRow) -> None:
        """See Storage."""
        with self._save():
            self._update(row)

    def save_timed_out(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save_together():
            self._update(row)
            self._insert(postings)

    def save_answered(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save_together():
            self._delete(row)
            self._insert(postings)

    def save_quarantined(
        self, row: CommandRow, held: QuarantineRow, postings: Sequence[PostingRow]
    ) -> None:
        """See Storage."""
        with self._save_together():
            self._update(row)
            self._db.execute(
                "INSERT INTO quarantine VALUES (?, ?, ?, ?)",
                (
                    held.event_reference,
                    held.user.octets,
                    _octets(held.originator_counter),
                    held.since,
                ),
            )
            self._insert(postings)

    def save_released(
        self, row: CommandRow, event_reference: int, postings: Sequence[PostingRow]
    ) -> None:
        """See Storage."""
        with self._save_together():
            self._update(row)
            self._leave_quarantine(event_reference)
            self._insert(postings)

    def save_discarded(
        self, row: CommandRow, event_reference: int, postings: Sequence[PostingRow]
    ) -> None:
        """See Storage."""
        with self._save_together():
            self._delete(row)
            self._leave_quarantine(event_reference)
            self._insert(postings)

    def _leave_quarantine(self, event_reference: int) -> None:
        self._db.execute("DELETE FROM quarantine WHERE event_reference=?", (event_reference,))

    def save_anomaly_count(self, row: AnomalyRow) -> None:
        """See Storage."""
        with self._save():
            self._db.execute(
                "REPLACE INTO anomaly VALUES (?, ?, ?, ?)",
                (row.user.octets, row.service_reference_variant, row.period_start, row.count),
            )

    def save_device_status(self, device: EntityId, status: str) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("REPLACE INTO device_status VALUES (?, ?)", (device.octets, status))

    def save_revoked(self, name: CertificateName) -> None:
        """See Storage."""
        issuer, serial = name
        with self._save():
            self._db.execute(
                "REPLACE INTO revoked VALUES (?, ?)",
                (issuer, serial.to_bytes((serial.bit_length() + 7) // 8, "big")),
            )

    def save_setting(self, name: str, value: float) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("REPLACE INTO setting VALUES (?, ?)", (name, value))

    def save_postings(self, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save_together():
            self._insert(postings)

    def delete_posting(self, posting_id: int) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("DELETE FROM posting WHERE posting_id=?", (posting_id,))

    def save_uplink(self, row: UplinkRow) -> None:
        """See Storage."""
        with self._save():
            self._db.execute(
                "INSERT INTO uplink VALUES (?, ?, ?)",
                (row.uplink_id, row.device.octets, row.octets),
            )

    def delete_uplink(self, uplink_id: int) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("DELETE FROM uplink WHERE uplink_id=?", (uplink_id,))

    def save_network_run(self, run: NetworkRun) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("REPLACE INTO network_run VALUES (1, ?, ?)", (run.epoch, run.run))

    def commit(self) -> None:
        """See Storage."""
        if not self._db.in_transaction:
            return
        with self._errors("write"):
            self._db.execute("COMMIT")

    def close(self) -> None:
        """See Storage."""
        self._db.close()

    def _update(self, row: CommandRow) -> None:
        self._db.execute(
            "UPDATE command SET state=?, command=?, command_variant=?"
            " WHERE user=? AND originator_counter=?",
            (
                row.state,
                row.command,
                row.command_variant,
                row.user.octets,
                _octets(row.originator_counter),
            ),
        )

    def _delete(self, row: CommandRow) -> None:
        self._db.execute(
            "DELETE FROM command WHERE user=? AND originator_counter=?",
            (row.user.octets, _octets(row.originator_counter)),
        )

    def _insert(self, postings: Sequence[PostingRow]) -> None:
        self._db.executemany(
            "INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?)",
            [
                (p.posting_id, p.user.octets, p.reference, p.kind, p.xml, p.created)
                for p in postings
            ],
        )


def _octets(counter: int) -> bytes:
    return counter.to_bytes(8, "big")


def _counter(octets: bytes) -> int:
    return int.from_bytes(octets, "big")

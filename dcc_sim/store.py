"""The state in SQLite: one connection, write-ahead log, every commit flushed to the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dcc_sim.errors import StoreError
from dcc_sim.ports import CommandRow, CommandState, PostingRow, StoredState
from gbcs.entity_id import EntityId

_SCHEMA_VERSION = 1

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
"""


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
        with self._errors("write"):
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
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
                last_posting_id=self._last_posting_id(),
            )

    def _load_commands(self) -> list[CommandRow]:
        rows = self._db.execute(
            "SELECT user, device, originator_counter, state, pre_command, command,"
            " schema_version FROM command ORDER BY sequence"
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
            )
            for (
                user,
                device,
                counter,
                state,
                pre_command,
                command,
                schema_version,
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

    def _last_posting_id(self) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name='posting'").fetchone()
        return 0 if row is None else int(row[0])

    def save_transformed(self, row: CommandRow, displaced: int | None) -> None:
        """See Storage."""
        user = row.user.octets
        with self._save():
            if displaced is not None:
                floor = (user, _octets(displaced))
                self._db.execute("REPLACE INTO floor VALUES (?, ?)", floor)
                self._db.execute(
                    "DELETE FROM counter WHERE user=? AND originator_counter<=?", floor
                )
                self._db.execute(
                    "DELETE FROM command WHERE user=? AND originator_counter<=? AND state<>?",
                    (*floor, CommandState.ACCEPTED),
                )
            counter = _octets(row.originator_counter)
            self._db.execute("INSERT INTO counter VALUES (?, ?)", (user, counter))
            self._db.execute(
                "INSERT INTO command (user, originator_counter, device, state, pre_command,"
                " command, schema_version) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    user,
                    counter,
                    row.device.octets,
                    row.state,
                    row.pre_command,
                    row.command,
                    row.schema_version,
                ),
            )

    def save_accepted(self, row: CommandRow) -> None:
        """See Storage."""
        with self._save():
            self._update(row)

    def save_timed_out(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save():
            self._update(row)
            self._insert(postings)

    def save_answered(self, row: CommandRow, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save():
            self._db.execute(
                "DELETE FROM command WHERE user=? AND originator_counter=?",
                (row.user.octets, _octets(row.originator_counter)),
            )
            self._insert(postings)

    def save_postings(self, postings: Sequence[PostingRow]) -> None:
        """See Storage."""
        with self._save():
            self._insert(postings)

    def delete_posting(self, posting_id: int) -> None:
        """See Storage."""
        with self._save():
            self._db.execute("DELETE FROM posting WHERE posting_id=?", (posting_id,))

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
            "UPDATE command SET state=?, command=? WHERE user=? AND originator_counter=?",
            (
                row.state,
                row.command,
                row.user.octets,
                _octets(row.originator_counter),
            ),
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

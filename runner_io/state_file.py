"""A SQLite file that holds the state of one process.

Exclusive: the file is locked for as long as it is open. Durable: what is committed is on the disk
(WAL, synchronous=FULL). What need not be durable at once is held: it is visible, and becomes
durable with the next commit; when anything fails that takes it back, it is done again before
anything else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

Held = TypeVar("Held")

IN_MEMORY = ":memory:"
"""The path of a state that lives as long as its object."""

_OWNER = "CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT);"


@dataclass(frozen=True, slots=True)
class StateErrors:
    """What is raised, and what it advises.

    Attributes:
        failed: raised when the file cannot be opened, read or written, or is not usable.
        in_use: raised when another process has it open.
        one_at_a_time: said then: why there may be one only.
        other_owner: said of a file with somebody else's state.
        other_format: said of a file that another version of the program wrote.
        not_usable: said of a file that is no state file, or damaged.
    """

    failed: type[Exception]
    in_use: type[Exception]
    one_at_a_time: str
    other_owner: str
    other_format: str
    not_usable: str


class StateFile(Generic[Held]):
    """An open file; at the start all tables are there.

    Args:
        path: the file, made readable by its owner alone where it does not exist, with the folders
            above it; or IN_MEMORY.
        schema: statements that make the tables.
        version: of the schema, from 1; a file of another is refused and not changed.
        owner: whose state it is; a file of somebody else is refused and not changed.
        errors: what is raised.
        apply: does again what is held.

    Raises:
        Exception: ``errors.in_use`` and ``errors.failed``, here and in every method.
    """

    def __init__(
        self,
        path: str,
        *,
        schema: str,
        version: int,
        owner: str,
        errors: StateErrors,
        apply: Callable[[Held], None] = lambda held: None,
    ) -> None:
        self.path = path
        self._errors = errors
        self._apply = apply
        self._held: list[Held] = []
        try:
            if path != IN_MEMORY:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise errors.failed(f"{path}: cannot open the state file: {error}") from None
        try:
            self._prepare(schema, version, owner)
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, schema: str, version: int, owner: str) -> None:
        try:
            # Exclusive before WAL: the lock is held from the first access to the end.
            self.db.execute("PRAGMA locking_mode=EXCLUSIVE")
            if self.path != IN_MEMORY and Path(self.path).stat().st_size:
                # Before WAL: that is written into the file.
                self._is_ours(version, owner)
            for pragma in ("journal_mode=WAL", "synchronous=FULL"):
                self.db.execute(f"PRAGMA {pragma}")
            self.db.execute("BEGIN IMMEDIATE")
            if not self._is_ours(version, owner):
                for statement in filter(str.strip, f"{_OWNER}{schema}".split(";")):
                    self.db.execute(statement)
                self.db.execute("INSERT INTO owner VALUES (1, ?)", (owner,))
                self.db.execute(f"PRAGMA user_version={version}")
            self.db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            foreign = type(error) is sqlite3.DatabaseError or "no such table" in str(error)
            if not foreign:
                self._fail(error)
            raise self._errors.failed(
                f"{self.path}: not a usable state file: {error}; {self._errors.not_usable}"
            ) from None

    def _is_ours(self, version: int, owner: str) -> bool:
        """Tell whether there is a state yet; refuse what is none of ours."""
        (found,) = self.db.execute("PRAGMA user_version").fetchone()
        (tables,) = self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found != version and (found or tables):
            raise self._errors.failed(
                f"{self.path}: a state file of format {found}, this program knows {version} "
                f"only: {self._errors.other_format}"
            )
        if not found:
            return False
        (name,) = self.db.execute("SELECT name FROM owner").fetchone()
        if name != owner:
            raise self._errors.failed(
                f"{self.path}: the state of {name}, not of {owner}: {self._errors.other_owner}"
            )
        return True

    def check_writable(self) -> None:
        """Prove that something can be written."""
        with self.transaction() as db:
            db.execute("UPDATE owner SET name = name")

    def _fail(self, error: Exception) -> NoReturn:
        if "locked" in str(error):
            raise self._errors.in_use(
                f"{self.path}: another process works with this state file: "
                f"{self._errors.one_at_a_time}"
            ) from None
        raise self._errors.failed(
            f"{self.path}: the state file fails: {error}; check the disk's space and health"
        ) from error

    @contextlib.contextmanager
    def mapped_errors(self) -> Iterator[None]:
        """Raise for what SQLite says inside."""
        try:
            yield
        except (sqlite3.Error, UnicodeError) as error:
            self._fail(error)

    def close(self) -> None:
        """Close the file and give its lock up."""
        with self.mapped_errors():
            self.db.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return all rows that a query finds, with what is held."""
        with self.mapped_errors():
            self._hold_again()
            return self.db.execute(query, values).fetchall()

    def row(self, query: str, *values: object) -> Any:
        """Return the first row that a query finds, with what is held; None: there is none."""
        with self.mapped_errors():
            self._hold_again()
            return self.db.execute(query, values).fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do something whole and durably or not at all; what is held becomes durable with it."""
        with self._input() as db:
            yield db
            if self._held:
                db.execute("RELEASE input")
            db.execute("COMMIT")
            self._held.clear()

    def hold(self, what: Held) -> None:
        """Apply something whole or not at all; it is durable when the next transaction is."""
        with self._input() as db:
            self._apply(what)
            if self._held:
                db.execute("RELEASE input")
        self._held.append(what)

    @contextlib.contextmanager
    def _input(self) -> Iterator[sqlite3.Connection]:
        """Begin beside what is held; take back only what was begun here if it fails."""
        with self.mapped_errors():
            self._hold_again()
            if not self.db.in_transaction:
                self.db.execute("BEGIN IMMEDIATE")
            try:
                if self._held:
                    self.db.execute("SAVEPOINT input")
                yield self.db
            except BaseException:
                self._take_back()
                raise

    def _take_back(self) -> None:
        # A failed COMMIT may have rolled back on its own.
        with contextlib.suppress(sqlite3.Error):
            if self._held and self.db.in_transaction:
                self.db.execute("ROLLBACK TO input")
                self.db.execute("RELEASE input")
                return
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def _hold_again(self) -> None:
        """Take up what is held and was rolled back with something that failed.

        That may have been a query: after an error of the disk SQLite rolls back on its own.
        """
        if not self._held or self.db.in_transaction:
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            for what in self._held:
                self._apply(what)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.db.execute("ROLLBACK")
            raise

    @property
    def holds(self) -> bool:
        """Whether something is held."""
        return bool(self._held)

    def flush(self) -> None:
        """Make durable what is held."""
        if self._held:
            with self.transaction():
                pass

    def abandon(self) -> None:
        """Forget what is held, as a process that is killed does."""
        self._held.clear()
        with self.mapped_errors():
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

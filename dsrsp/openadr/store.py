"""The DSRSP's OpenADR state: a document for each CEM in one SQLite file.

Each write is one transaction, on disk when it returns (WAL, synchronous=FULL). The file is locked
for as long as it is open.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from dsrsp.errors import StorageError
from dsrsp.openadr.core.state import VenState
from gbcs.entity_id import EntityId

_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ven (device BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
"""


class VenStore:
    """Keeps a `VenState` for each CEM.

    Args:
        path: the file, made readable by its owner alone where it does not exist, or ":memory:".

    Raises:
        StorageError: it cannot be opened, is damaged or of another version, or in use.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            if path != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path}: cannot open the OpenADR state file: {error}") from None
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _FORMAT):
                raise StorageError(
                    f"{self._path}: of another version of this program: go on with that, or move "
                    "the file away, and the VENs will register again"
                )
            self._db.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={_FORMAT};COMMIT;"
            )
        except sqlite3.Error as error:
            held = "another process works with it" if "locked" in str(error) else str(error)
            raise StorageError(f"{self._path}: no usable OpenADR state: {held}") from None

    def load(self) -> Iterator[tuple[EntityId, VenState]]:
        """Yield the state of each CEM.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            for device, state in self._db.execute("SELECT device, state FROM ven"):
                yield EntityId(bytes(device)), msgspec.msgpack.decode(state, type=VenState)
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise StorageError(
                f"{self._path}: the OpenADR state is damaged: {error}; move the file away, and the "
                "VENs will register again"
            ) from None

    def save(self, device: EntityId, state: VenState) -> None:
        """Save the state of one CEM.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO ven (device, state) VALUES (?, ?)",
                (device.octets, msgspec.msgpack.encode(state)),
            )
        except sqlite3.Error as error:
            raise StorageError(f"{self._path}: cannot write the OpenADR state: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

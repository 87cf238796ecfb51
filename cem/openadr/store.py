"""The OpenADR face's durable state: one document in one SQLite file.

Each write is one transaction, on disk when it returns (WAL, synchronous=FULL). The file is locked
for as long as it is open.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

import msgspec

from cem.errors import StoreError, StoreInUse
from cem.openadr.core.state import FaceState

_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS face (id INTEGER PRIMARY KEY CHECK (id = 1), device TEXT NOT NULL,
    state BLOB NOT NULL);
"""


class FaceStore:
    """Keeps a `FaceState`.

    Args:
        path: the file, made readable by its owner alone where it does not exist, or ":memory:".
        device: whose state this is; a file of another is refused.

    Raises:
        StoreInUse: another process has the file open.
        StoreError: it cannot be opened, is damaged, or is of another device or version.
    """

    def __init__(self, path: str, device: str) -> None:
        self._path = path
        self._device = device
        try:
            if path != ":memory:":
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: cannot open the OpenADR state file: {error}") from None
        try:
            self._saved = self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> bytes:
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _FORMAT):
                raise StoreError(
                    f"{self._path}: of another version of this program: go on with that, or move "
                    "the file away, and the VEN will register again"
                )
            self._db.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={_FORMAT};COMMIT;"
            )
            row = self._db.execute("SELECT device, state FROM face").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StoreInUse(f"{self._path}: another process works with this file") from None
            raise StoreError(f"{self._path}: cannot be used: {error}") from None
        except sqlite3.Error as error:
            raise StoreError(
                f"{self._path}: no usable OpenADR state: {error}; restore it from a copy, or move "
                "it away, and the VEN will register again"
            ) from None
        if row is None:
            return b""
        if row[0] != self._device:
            raise StoreError(
                f"{self._path}: the OpenADR state of {row[0]}, not of {self._device}: "
                "give each device a file of its own"
            )
        return bytes(row[1])

    def load(self) -> FaceState:
        """Return what was saved last; a new state if nothing was.

        Raises:
            StoreError: it is damaged.
        """
        if not self._saved:
            return FaceState()
        try:
            return msgspec.msgpack.decode(self._saved, type=FaceState)
        except msgspec.MsgspecError as error:
            raise StoreError(
                f"{self._path}: the OpenADR state is damaged: {error}; move the file away, and the "
                "VEN will register again"
            ) from None

    def save(self, state: FaceState) -> None:
        """Save the state, if it is another than the last one.

        Raises:
            StoreError: it cannot be written.
        """
        octets = msgspec.msgpack.encode(state)
        if octets == self._saved:
            return
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO face (id, device, state) VALUES (1, ?, ?)",
                (self._device, octets),
            )
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: cannot write the OpenADR state: {error}") from None
        self._saved = octets

    def close(self) -> None:
        """Close the file."""
        self._db.close()

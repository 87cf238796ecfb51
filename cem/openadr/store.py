"""The OpenADR face's durable state: one document in one SQLite file.

Each write is one transaction, on disk when it returns (WAL, synchronous=FULL). The file is locked
for as long as it is open.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cem.errors import StoreError, StoreInUse
from cem.openadr.core.state import FaceState
from runner_io.state_file import StateErrors, StateFile

_FORMAT: Final = 2
_SCHEMA: Final = """
CREATE TABLE face (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
"""
_ERRORS: Final = StateErrors(
    failed=StoreError,
    in_use=StoreInUse,
    one_at_a_time="stop it first",
    other_owner="give each device a file of its own",
    other_format=(
        "go on with the version that wrote it, or move the file away, and the VEN will register "
        "again"
    ),
    not_usable="restore it from a copy, or move it away, and the VEN will register again",
)


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
        self._file: StateFile[None] = StateFile(
            path, schema=_SCHEMA, version=_FORMAT, owner=device, errors=_ERRORS
        )
        row = self._file.row("SELECT state FROM face")
        self._saved = b"" if row is None else bytes(row[0])

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
                f"{self._file.path}: the OpenADR state is damaged: {error}; move the file away, "
                "and the VEN will register again"
            ) from None

    def save(self, state: FaceState) -> None:
        """Save the state, if it is another than the last one.

        Raises:
            StoreError: it cannot be written.
        """
        octets = msgspec.msgpack.encode(state)
        if octets == self._saved:
            return
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO face (id, state) VALUES (1, ?)", (octets,))
        self._saved = octets

    def close(self) -> None:
        """Close the file."""
        self._file.close()

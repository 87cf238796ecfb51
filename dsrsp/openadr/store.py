"""The DSRSP's OpenADR state: a document for each CEM in one SQLite file.

Each write is one transaction, on disk when it returns (WAL, synchronous=FULL). The file is locked
for as long as it is open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from dsrsp.errors import StorageError
from dsrsp.openadr.core.state import VenState
from gbcs.entity_id import EntityId
from runner_io.state_file import StateErrors, StateFile

_FORMAT: Final = 2
_SCHEMA: Final = """
CREATE TABLE ven (device BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
"""
_OWNER: Final = "DSRSP"
_AGAIN: Final = "and the VENs will register again"
_ERRORS: Final = StateErrors(
    failed=StorageError,
    in_use=StorageError,
    one_at_a_time="stop it first",
    other_owner="give the DSRSP's OpenADR face a file of its own",
    other_format=f"go on with the version that wrote it, or move the file away, {_AGAIN}",
    not_usable=f"restore it from a copy, or move it away, {_AGAIN}",
)


class VenStore:
    """Keeps a `VenState` for each CEM.

    Args:
        path: the file, made readable by its owner alone where it does not exist, or ":memory:".

    Raises:
        StorageError: it cannot be opened, is damaged or of another version, or in use.
    """

    def __init__(self, path: str) -> None:
        self._file: StateFile[None] = StateFile(
            path, schema=_SCHEMA, version=_FORMAT, owner=_OWNER, errors=_ERRORS
        )

    def load(self) -> Iterator[tuple[EntityId, VenState]]:
        """Yield the state of each CEM.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            for device, state in self._file.rows("SELECT device, state FROM ven"):
                yield EntityId(bytes(device)), msgspec.msgpack.decode(state, type=VenState)
        except msgspec.MsgspecError as error:
            raise StorageError(
                f"{self._file.path}: the OpenADR state is damaged: {error}; move the file away, "
                f"{_AGAIN}"
            ) from None

    def save(self, device: EntityId, state: VenState) -> None:
        """Save the state of one CEM.

        Raises:
            StorageError: it cannot be written.
        """
        with self._file.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO ven (device, state) VALUES (?, ?)",
                (device.octets, msgspec.msgpack.encode(state)),
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

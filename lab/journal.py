"""The journal: one JSON line for each thing that happens, for traces and studies.

Every line has ``t`` (seconds since 1970, UTC), ``component`` and ``event``; octets are hex.
The events and their fields are listed in specs/journal.md.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from gbcs.ports import Clock, JournalValue
from lab.errors import LabError

logger = logging.getLogger("journal")

_BLOCK_OCTETS = 65536


class JsonLinesJournal:
    """Appends each event to a file at once: a killed process leaves all but its last line.

    The file is made readable by its owner alone, for it holds what was said. A disk that is full
    costs lines of the journal, told in the log, but never the work that they tell of.

    Args:
        path: of the file; appended to.
        component: which writes.
        clock: seconds since 1970.
        device: EUI of the CEM that writes; whoever joins the journals of several needs it.

    Raises:
        LabError: the file cannot be opened.
    """

    def __init__(
        self, path: Path, component: str, clock: Clock, *, device: str | None = None
    ) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            _drop_cut_line(self._file)
        except OSError as error:
            raise LabError(f"{path}: cannot write the journal: {error}") from None
        self._path = path
        self._writer = {"component": component} | ({} if device is None else {"device": device})
        self._clock = clock
        self._lost_lines = 0

    def __enter__(self) -> JsonLinesJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)
        self._file = -1  # the number will soon be another file's

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Write one event."""
        line: dict[str, Any] = {
            "t": self._clock(),
            **self._writer,
            "event": event,
        }
        for name, value in fields.items():
            line[name] = value.hex() if isinstance(value, bytes) else value
        self._append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            end = os.lseek(self._file, 0, os.SEEK_END)
            if os.write(self._file, line) < len(line):
                # Half a line would spoil the next one.
                os.ftruncate(self._file, end)
                raise OSError("no space for the whole line")
        except OSError as error:
            if not self._lost_lines:
                logger.error("%s: events are not written down: %s", self._path, error)
            self._lost_lines += 1
            return
        if self._lost_lines:
            logger.error("%s: %d events are missing", self._path, self._lost_lines)
            self._lost_lines = 0


def _drop_cut_line(file: int) -> None:
    """Take a line away that a kill cut, so that the next one stands on a line of its own."""
    end = os.lseek(file, 0, os.SEEK_END)
    while end:
        start = max(0, end - _BLOCK_OCTETS)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    os.ftruncate(file, end)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal; a last line that was cut by a kill is left out.

    Raises:
        LabError: a line is not an event; says which.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError):
                event = None
            if not _is_event(event):
                raise LabError(
                    f"{path}, line {number}: not an event of a journal: expected a JSON object "
                    "with t, component and event"
                )
            yield event


def _is_event(event: object) -> bool:
    """Tell whether a line says when, where and what, as every one does."""
    if not isinstance(event, dict):
        return False
    t, names = event.get("t"), (event.get("component"), event.get("event"))
    # A bool is an int; what has more digits than a float can hold is no time.
    timed = isinstance(t, float) or (type(t) is int and 0 <= t < 1 << 63)
    return timed and all(isinstance(name, str) for name in names)

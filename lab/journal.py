"""The journal: one JSON line for each thing that happens, for traces and studies.

Every line has ``t`` (seconds since 1970, UTC), ``component`` and ``event``; octets are hex.
The events and their fields are listed in specs/journal.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from gbcs.ports import Clock, JournalValue
from lab.errors import LabError


class JsonLinesJournal:
    """Appends each event to a file at once: a killed process leaves all but its last line."""

    def __init__(self, path: Path, component: str, clock: Clock) -> None:
        try:
            self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise LabError(f"{path}: cannot write the journal: {error}") from None
        self._component = component
        self._clock = clock

    def __enter__(self) -> JsonLinesJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Write one event."""
        line: dict[str, Any] = {
            "t": self._clock(),
            "component": self._component,
            "event": event,
        }
        for name, value in fields.items():
            line[name] = value.hex() if isinstance(value, bytes) else value
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal; a last line that was cut by a kill is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            yield json.loads(line)

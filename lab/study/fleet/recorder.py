"""Writes down what happens to the fragments of some CEMs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.study.fleet.draws import Floats, Ints

_FIELDS = [
    ("slot", "i8"),
    ("message", "i4"),
    ("index", "i4"),
    ("attempt", "i4"),
    ("started_s", "f8"),
    ("arrived_s", "f8"),
    ("answered_s", "f8"),
    ("wait_s", "f8"),
    ("request_s", "f8"),
    ("dcc_s", "f8"),
    ("wan_s", "f8"),
    ("queue_s", "f8"),
    ("transfer_s", "f8"),
    ("han_s", "f8"),
    ("octets", "i4"),
]


class Recorder:
    """Keeps one row for each transmission of the CEMs that are written down.

    Args:
        slots: for each CEM its number among those written down, or -1.
    """

    def __init__(self, slots: Ints) -> None:
        self._slots = slots
        self._rows = np.zeros(1024, dtype=_FIELDS)
        self._used = 0
        self._message = 0
        self._row_of: dict[tuple[int, int], int] = {}

    def message(self, number: int) -> None:
        """Say which message of the turn comes now."""
        self._message = number
        self._row_of = {}

    def began(
        self,
        cems: Ints,
        columns: Ints,
        attempts: Ints,
        *,
        started: Floats,
        wait: Floats,
        request: Floats,
        dcc: Floats,
        wan: Floats,
        queue: Floats,
        octets: Ints,
    ) -> None:
        """Write down that fragments have begun; what is not known yet is NaN."""
        slots = self._slots[cems]
        chosen = np.flatnonzero(slots >= 0)
        if not len(chosen):
            return
        rows = self._more(len(chosen))
        rows["slot"], rows["message"] = slots[chosen], self._message
        rows["index"], rows["attempt"] = columns[chosen], attempts[chosen]
        rows["started_s"], rows["wait_s"] = started[chosen], wait[chosen]
        rows["arrived_s"] = rows["answered_s"] = np.nan
        rows["request_s"], rows["dcc_s"], rows["wan_s"] = request[chosen], dcc[chosen], wan[chosen]
        rows["queue_s"], rows["transfer_s"], rows["han_s"] = queue[chosen], 0.0, 0.0
        rows["octets"] = octets[chosen]
        first = self._used - len(chosen)
        keys = zip(slots[chosen].tolist(), columns[chosen].tolist(), strict=True)
        for number, key in enumerate(keys, start=first):
            self._row_of[key] = number

    def arrived(
        self, cems: Ints, columns: Ints, at: Floats, queue: Floats, transfer: Floats, han: Floats
    ) -> None:
        """Write down that the transmissions under way have arrived."""
        chosen, rows = self._known(cems, columns)
        if len(chosen):
            self._rows["arrived_s"][rows] = at[chosen] - self._rows["started_s"][rows]
            self._rows["queue_s"][rows] += queue[chosen]
            self._rows["transfer_s"][rows] = transfer[chosen]
            self._rows["han_s"][rows] = han[chosen]

    def passed_hub(
        self, cems: Ints, columns: Ints, queue: Floats, transfer: Floats, han: Floats
    ) -> None:
        """Write down what the hub took of transmissions on their way up."""
        chosen, rows = self._known(cems, columns)
        if len(chosen):
            self._rows["queue_s"][rows] += queue[chosen]
            self._rows["transfer_s"][rows] = transfer[chosen]
            self._rows["han_s"][rows] = han[chosen]

    def came(self, cems: Ints, columns: Ints, at: Floats) -> None:
        """Write down that transmissions on their way up have arrived; the rest was the DCC's."""
        chosen, rows = self._known(cems, columns)
        if len(chosen):
            total = at[chosen] - self._rows["started_s"][rows]
            self._rows["arrived_s"][rows] = total
            known = sum(
                self._rows[name][rows] for name in ("wan_s", "queue_s", "transfer_s", "han_s")
            )
            self._rows["dcc_s"][rows] = total - known

    def answered(self, cems: Ints, columns: Ints, at: Floats) -> None:
        """Write down that their answers have come."""
        chosen, rows = self._known(cems, columns)
        if len(chosen):
            self._rows["answered_s"][rows] = at[chosen] - self._rows["started_s"][rows]

    def rows(self) -> Any:
        """Return what was written down, by CEM, message, start."""
        rows = self._rows[: self._used]
        return rows[np.lexsort((rows["started_s"], rows["message"], rows["slot"]))]

    def _known(self, cems: Ints, columns: Ints) -> tuple[Ints, Ints]:
        slots = self._slots[cems]
        chosen = np.flatnonzero(slots >= 0)
        keys = zip(slots[chosen].tolist(), columns[chosen].tolist(), strict=True)
        rows: Ints = np.asarray([self._row_of[key] for key in keys], dtype=np.int64)
        return chosen, rows

    def _more(self, count: int) -> Any:
        while self._used + count > len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._used += count
        return self._rows[self._used - count : self._used]

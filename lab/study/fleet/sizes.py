"""How long the carrier messages of many messages are."""

from __future__ import annotations

import numpy as np

from lab.study.fleet.draws import Ints
from lab.study.payloads import Cost


class Sizes:
    """Sizes of many messages, each one of a few examples.

    Args:
        costs: of the examples.
        chosen: which example each message is.
    """

    def __init__(self, costs: tuple[Cost, ...], chosen: Ints) -> None:
        def of_each(name: str) -> Ints:
            values: Ints = np.asarray([getattr(cost, name) for cost in costs], dtype=np.int64)
            return values[chosen]

        self.message_octets = of_each("message_octets")
        self.fragments = of_each("fragments")
        self.last_octets = of_each("last_octets")
        self._full = of_each("full_octets")
        self._answer = of_each("answer_octets")
        self._last_answer = of_each("last_answer_octets")

    def octets(self, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """Return the octets of fragments' carrier messages, and of the answers to them."""
        last = columns == self.fragments[rows] - 1
        octets = np.where(last, self.last_octets[rows], self._full[rows])
        answers = np.where(last, self._last_answer[rows], self._answer[rows])
        return octets, answers

    def only(self, rows: Ints) -> Sizes:
        """Return the sizes of some of the messages."""
        part = Sizes.__new__(Sizes)
        for name, values in vars(self).items():
            setattr(part, name, values[rows])
        return part

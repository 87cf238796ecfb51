"""Receipts for what came by route 2b: told at once, over route 2b, several in one message.

Nothing of them is saved. One that is lost, with the connection or in a restart, is asked for by who
waits for it: the message comes again.

Source: specs/tunnel-protocol.md, receipts and missing lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from smtunnel.control import Record
from smtunnel.receipts import ReceiptRecord
from smtunnel.records import ControlReceipt, MessageName, Receipt

ENOUGH: Final = 14
"""So many receipts for control messages that are only receipts go without anything else to say."""


def is_receipts_only(records: Iterable[Record]) -> bool:
    """Tell whether a control message has nothing but receipts."""
    return all(isinstance(record, Receipt | ControlReceipt) for record in records)


MOST_OWED: Final = 1024
"""So many of a kind are owed to one peer: of one who sends on and reads nothing the oldest are
forgotten, and asked for again should it care."""


@dataclass(slots=True)
class _Owed:
    """What is owed to one peer, in the order of becoming due."""

    data: dict[MessageName, None] = field(default_factory=dict)
    controls: dict[MessageName, None] = field(default_factory=dict)
    waits: bool = True
    """True while none of it needs a message of its own."""


class PromptReceipts:
    """Gathers the receipts of one input, or of several while the connection does not keep up."""

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed: dict[bytes, _Owed] = {}

    def owe(self, peer: bytes, name: MessageName, *, control: bool, receipts_only: bool) -> None:
        """Note that a message is delivered and stored, or that its sender asks for its receipt.

        Args:
            peer: whose.
            name: of the message.
            control: True for a control message.
            receipts_only: True where it only had receipts: its own may wait for company, or two
                ends would thank each other for ever.
        """
        owed = self._owed.setdefault(peer, _Owed())
        names = owed.controls if control else owed.data
        names[name] = None
        if len(names) > MOST_OWED:
            del names[next(iter(names))]
        if not receipts_only or len(owed.controls) >= ENOUGH:
            owed.waits = False

    def due(self) -> Iterator[bytes]:
        """Name the peers that are to be told something."""
        return iter([peer for peer, owed in self._owed.items() if not owed.waits])

    def take(self, peer: bytes) -> list[ReceiptRecord]:
        """Take all that is owed to a peer."""
        owed = self._owed.pop(peer, None)
        records: list[ReceiptRecord] = []
        if owed is not None and owed.controls:
            records.append(ControlReceipt(tuple(owed.controls)))
        if owed is not None and owed.data:
            records.append(Receipt(tuple(owed.data)))
        return records

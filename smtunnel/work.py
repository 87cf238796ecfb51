"""What one input to an Endpoint has brought so far, while its parts work on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from smtunnel.control import Record
from smtunnel.effects import Answer, ControlNews, Effects, ReceivedMessage
from smtunnel.events import Event
from smtunnel.route_choice import Route
from smtunnel.send_events import StatusChanged, Transmit


@dataclass(slots=True)
class Work:
    """Gathers Effects.

    Attributes:
        now: the time, in seconds.
        route: what brought the input, where a peer has sent it.
        records: control records that have come and are to be acted on, with who sent them.
        to_tell: control records to be sent, by peer.
        owed: peers to which other receipts are owed than are saved.
        new_rows: keys in saves that were not saved before.
    """

    now: float
    route: Route = Route.ROUTE_2A
    saves: dict[str, bytes | None] = field(default_factory=dict)
    received: list[ReceivedMessage] = field(default_factory=list)
    statuses: list[StatusChanged] = field(default_factory=list)
    transmits: list[Transmit] = field(default_factory=list)
    news: list[ControlNews] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    answer: Answer | None = None
    records: list[tuple[bytes, Record]] = field(default_factory=list)
    to_tell: dict[bytes, list[Record]] = field(default_factory=dict)
    owed: set[bytes] = field(default_factory=set)
    new_rows: set[str] = field(default_factory=set)

    def tell(self, peer: bytes, record: Record) -> None:
        """Note a record to be sent to a peer, once."""
        records = self.to_tell.setdefault(peer, [])
        if record not in records:
            records.append(record)

    def save_row(self, key: str, octets: bytes) -> None:
        """Note a row that was not saved before."""
        if key not in self.saves:
            self.new_rows.add(key)
        self.saves[key] = octets

    def drop_row(self, key: str) -> None:
        """Note that a row is needed no more; one that is new is never saved."""
        if key in self.new_rows:
            self.new_rows.discard(key)
            del self.saves[key]
        else:
            self.saves[key] = None

    def effects(self) -> Effects:
        """Return what it came to."""
        return Effects(
            saves=self.saves,
            received=tuple(self.received),
            statuses=tuple(self.statuses),
            answer=self.answer,
            transmits=tuple(self.transmits),
            news=tuple(self.news),
            events=tuple(self.events),
        )

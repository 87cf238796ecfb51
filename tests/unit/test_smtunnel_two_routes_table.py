"""Every place that a message on route 2b can have, against everything that can happen to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pytest

from smtunnel import (
    ECS46A,
    Confirmation,
    MessageStatus,
    Originator,
    Result,
    Route,
    RouteChoice,
    SendPolicy,
    Transmit,
    encode_message,
)
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.send_events import SenderEvent, StatusChanged
from smtunnel.send_states import SendState
from smtunnel.sending import MessageSender

PEER = b"\x00\xdb\x124Vx\x90\xa0"
POLICY = SendPolicy(confirmation=Confirmation.RESULTS, retry_jitter=0.0, message_lifetime_s=5000)


class Counters:
    def __init__(self) -> None:
        self.next = 1000

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        while self.next % 65_536 in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % 65_536 + 1
        return self.next - 1


class Bench:
    """One sender with one message of two fragments, and what was saved of it."""

    def __init__(self, choice: RouteChoice) -> None:
        self.counters = Counters()
        self.rows: dict[str, bytes] = {}
        self.sent: list[Transmit] = []
        self.statuses: list[MessageStatus] = []
        self.now = 0.0
        self.sender = self.new()
        encoded = encode_message(
            bytes(range(120)), carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=0
        )
        self.up()
        if choice is RouteChoice.AUTO:
            self.down()
        self.keep(self.sender.enqueue("m", PEER, encoded, now=0.0, choice=choice))

    def new(self) -> MessageSender:
        return MessageSender(
            originator=Originator.DSRSP,
            carrier=ECS46A,
            policy=POLICY,
            counters=self.counters,
            random_fraction=lambda: 0.5,
        )

    def keep(self, events: Iterable[SenderEvent]) -> None:
        events = [*events, *self.sender.poll(self.now)]
        for key, octets in self.sender.take_saves().items():
            if octets is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = octets
        self.sent += [event for event in events if isinstance(event, Transmit)]
        self.statuses += [event.status for event in events if isinstance(event, StatusChanged)]

    def up(self) -> None:
        self.keep(self.sender.route_up(PEER, self.now, message_octets=1000))

    def down(self) -> None:
        self.keep(self.sender.route_down(PEER, self.now))

    def wait(self, until: float) -> None:
        while (timer := self.sender.get_timer()) is not None and timer <= until:
            self.now = max(self.now, timer)
            self.keep(self.sender.handle_timer(self.now))
        self.now = until

    def transmitted(self, route: Route) -> None:
        for sent in [t for t in self.sent if t.route is route]:
            self.keep(self.sender.transmitted(sent.originator_counter, self.now))

    @property
    def place(self) -> str:
        """Where the message is, in words."""
        message = self.sender._outbox.messages.get("m")
        if message is None:
            return self.statuses[-1].state.value
        if message.state not in (SendState.SENDING, SendState.WAITING):
            return message.state.name.lower()
        whole = message.whole
        on_2b = ""
        if whole.engaged:
            on_2b = "cut off" if whole.due is not None else "awaits"
            on_2b = on_2b if whole.counter is None else "given out"
        return " and ".join(filter(None, [on_2b, "on 2a" if message.on_2a else ""]))


def at(place: str) -> Bench:
    """Bring a message to a place."""
    both = place.endswith("and on 2a")
    bench = Bench(RouteChoice.BOTH if both else RouteChoice.AUTO)
    if both:
        if place.startswith("awaits"):
            bench.transmitted(Route.ROUTE_2B)
    elif place == "on 2a":
        bench.wait(300.0)
    elif place != "queued":
        bench.up()
        if place == "awaits":
            bench.transmitted(Route.ROUTE_2B)
        elif place == "cut off":
            bench.down()
    assert bench.place == place
    return bench


def do(bench: Bench, what: str) -> None:
    sender, now = bench.sender, bench.now
    counter = bench.sent[-1].originator_counter if bench.sent else 7
    name = MessageName.of(0, (bench.sent[0].originator_counter - bench.sent[0].index))
    match what:
        case "handed over":
            bench.transmitted(Route.ROUTE_2B)
        case "up":
            bench.up()
        case "down":
            bench.down()
        case "receipt":
            bench.keep(sender.receipt(PEER, name, now))
        case "missing":
            bench.keep(sender.missing(PEER, name, (IndexRange(0, 0),), now))
        case "abort":
            bench.keep(sender.aborted(PEER, name, AbortCode.ZLIB, 0, now))
        case "abort for now":
            bench.keep(sender.aborted(PEER, name, AbortCode.MEMORY, 0, now))
        case "abort encoding":
            bench.keep(sender.aborted(PEER, name, AbortCode.UNKNOWN_DICTIONARY, 1, now))
        case "answered":
            bench.keep(sender.answered("m", now))
        case "cancel":
            bench.keep(sender.cancel("m", "why", now))
        case "lifetime":
            bench.wait(now + 5000.0)
        case "10 s":
            bench.wait(now + 10.0)
        case "300 s":
            bench.wait(now + 300.0)
        case "restart":
            bench.sender = bench.new()
            bench.keep(bench.sender.restore(bench.rows.items(), now))
        case _:
            bench.keep(sender.result(counter, Result[what], now))


QUEUED, OUT, AWAITS, CUT, ON_2A = "queued", "given out", "awaits", "cut off", "on 2a"
OUT_BOTH, AWAITS_BOTH = "given out and on 2a", "awaits and on 2a"
PLACES = (OUT, AWAITS, CUT, ON_2A, OUT_BOTH, AWAITS_BOTH)
ALL = dict.fromkeys
EXPECTED: dict[str, dict[str, str]] = {
    "handed over": {OUT: AWAITS, OUT_BOTH: AWAITS_BOTH},
    # A new connection: what was on the one before goes again.
    "up": {AWAITS: OUT, CUT: OUT, AWAITS_BOTH: OUT_BOTH},
    "down": {OUT: CUT, AWAITS: CUT, OUT_BOTH: ON_2A, AWAITS_BOTH: ON_2A},
    "receipt": ALL(PLACES, "reassembled"),
    "missing": {},
    "abort": ALL(PLACES, "failed"),
    "abort for now": ALL(PLACES, "queued"),
    "abort encoding": ALL(PLACES, "reencoding"),
    "answered": ALL(PLACES, "reassembled"),
    "cancel": ALL(PLACES, "failed"),
    "lifetime": ALL(PLACES, "failed"),
    "10 s": {AWAITS: OUT, AWAITS_BOTH: OUT_BOTH},
    "300 s": {AWAITS: OUT, AWAITS_BOTH: OUT_BOTH, CUT: ON_2A},
    "restart": {OUT: CUT, AWAITS: CUT, OUT_BOTH: ON_2A, AWAITS_BOTH: ON_2A},
    # There are no results on 2b; the last counter is of a fragment where it goes by 2a.
    "SUCCESS": {},
    "FAILED": {},
    "REJECTED": {ON_2A: "disputed", OUT_BOTH: "disputed", AWAITS_BOTH: "disputed"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", list(EXPECTED))
def test_every_place_against_everything_that_can_happen(place: str, what: str) -> None:
    bench = at(place)
    do(bench, what)
    assert bench.place == EXPECTED[what].get(place, place)
    if what == "restart" or bench.place in ("reassembled", "failed"):
        return
    # Whatever happened: after a restart a connection brings it to its end.
    do(bench, "restart")
    assert "s/m" in "".join(bench.rows)
    bench.up()
    if bench.place in ("queued", "disputed", "reencoding"):
        return
    do(bench, "receipt")
    assert bench.place == "reassembled"


@pytest.mark.parametrize("what", ["up", "down", "300 s", "cancel", "lifetime"])
def test_one_that_waits_for_its_turn(what: str) -> None:
    bench = at(QUEUED)
    assert bench.sent == []
    bench.sent = [Transmit("-", PEER, 0, "", 1000, 1)]
    do(bench, what)
    found = {"up": OUT, "300 s": ON_2A, "cancel": "failed", "lifetime": "failed"}
    assert bench.place == found.get(what, QUEUED)

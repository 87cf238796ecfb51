"""Both ends of the tunnel over a link that does its worst, in virtual time.

Whatever is lost, repeated, reordered, delayed by hours, replayed by an eavesdropper, also on the
other route, forgotten in a crash or lost with a connection: each message is delivered exactly once
and whole, or ends at its sender with a reason; and the sender never says that a message has arrived
when it has not.

SMTUNNEL_SCHEDULES says how many schedules are run; a schedule that fails is named by its seed.
"""

from __future__ import annotations

import base64
import heapq
import os
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import pytest

from smtunnel import (
    DeliveryState,
    MessageRejected,
    MessageStatus,
    Originator,
    Route,
    RouteChoice,
)
from smtunnel.effects import Answer, Effects
from smtunnel.endpoint import Endpoint, carrier_of
from smtunnel.header import BASE64_FLAG
from smtunnel.limits import Limits
from smtunnel.policy import Confirmation, Result, SendPolicy
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import ReceiptPolicy
from smtunnel.send_events import Transmit

IN_CI = os.environ.get("CI") == "true"
SCHEDULES = int(os.environ.get("SMTUNNEL_SCHEDULES", "1600" if IN_CI else "200"))
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
DSRSP = b"dsrsp---"

DOWN = SendPolicy(confirmation=Confirmation.RESULTS)
UP = SendPolicy(confirmation=Confirmation.RECEIPTS)
LIMITS = Limits()
RESULTS = {
    Answer.SUCCESS: Result.SUCCESS,
    Answer.TEMPORARY_FAILURE: Result.BUSY,
    Answer.OTHER_REASON: Result.REJECTED,
}


@dataclass
class World:
    """How bad it is."""

    seed: int
    tags: int = 65_536
    cems: int = 1
    messages: int = 8
    loss: float = 0.1
    duplication: float = 0.1
    late: float = 0.1
    replays: float = 0.1
    crash: float = 0.02
    down_s: float = 0.0
    busy: float = 0.0
    cancelled: float = 0.0
    answered: float = 0.0
    other_traffic: int = 100_000
    receipts: ReceiptPolicy = ReceiptPolicy.BATCHED
    spread_s: float = 6 * HOUR_S
    connections: int = 0
    """How often each CEM connects, at most; the last connection stands for ever or never does."""
    up_s: float = HOUR_S
    away_s: float = 600.0
    notice_s: float = 0.0
    choices: tuple[RouteChoice, ...] = (RouteChoice.AUTO,)
    urgent: float = 0.0
    down: SendPolicy = DOWN
    up: SendPolicy = UP
    limits: Limits = LIMITS


class Counters:
    """An originator's counters, on whose disk the mark is; others draw on them in between."""

    def __init__(self, world: World, chance: random.Random, others: int) -> None:
        self.tags = world.tags
        self.chance = chance
        self.others = others
        self.next = chance.randrange(2**40)

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        if self.others and self.chance.random() < 0.7:
            self.next += self.chance.randrange(self.others)
        while self.next % self.tags in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        if self.others and self.chance.random() < 0.5:
            self.next += self.chance.randrange(self.others)
        self.next += (tag + index - self.next) % self.tags + 1
        return self.next - 1


class End:
    """One end with its disk; a crash loses all that is not on it."""

    def __init__(self, simulation: Simulation, side: Originator, name: bytes) -> None:
        self.simulation = simulation
        self.side = side
        self.name = name
        world = simulation.world
        others = world.other_traffic if side is Originator.DSRSP else 3
        self.counters = Counters(world, simulation.chance, others)
        self.rows: dict[str, bytes] = {}
        self.received: list[tuple[bytes, bytes]] = []
        self.statuses: dict[str, MessageStatus] = {}
        self.down_until = -1.0
        self.busy_until = -1.0
        self.timer: float | None = None
        # The connection on which this end believes to be, by peer.
        self.connections: dict[bytes, int] = {}
        self.endpoint = self.new_endpoint()

    def new_endpoint(self) -> Endpoint:
        world = self.simulation.world
        down = self.side is Originator.DSRSP
        return Endpoint(
            side=self.side,
            counters=self.counters,
            policy=world.down if down else world.up,
            random_fraction=self.simulation.chance.random,
            limits=world.limits,
            receipts=ReceiptSettings(policy=world.receipts) if down else None,
        )

    def do(self, call: Callable[[Endpoint, float], Effects]) -> Effects | None:
        """Do something, keep what it brings and act on it; None where a crash came between."""
        simulation = self.simulation
        if simulation.now < self.down_until:
            return None
        effects = call(self.endpoint, simulation.now)
        if simulation.crashes():
            self.restart()
            return None
        self.keep(effects)
        if simulation.crashes():
            self.restart()
            return None
        self.act(effects)
        return effects

    def keep(self, effects: Effects) -> None:
        for key, octets in effects.saves.items():
            if octets is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = octets
        for got in effects.received:
            self.simulation.note_received(self, got.peer, got.message, got.route)
        for event in effects.events:
            assert not isinstance(event, MessageRejected), "an honest message was spoilt"
        for news in effects.statuses:
            self.simulation.note_status(self, news.status)

    def act(self, effects: Effects) -> None:
        for transmit in effects.transmits:
            if transmit.route is Route.ROUTE_2B:
                self.simulation.carry_2b(self, transmit)
            else:
                self.simulation.carry(self, transmit)
        self.set_timer()

    def restart(self) -> None:
        simulation = self.simulation
        simulation.faults["restart"] += 1
        self.endpoint = self.new_endpoint()
        self.timer = None
        simulation.close_all(self)
        if simulation.world.down_s and simulation.chance.random() < 0.3:
            self.down_until = simulation.now + simulation.chance.uniform(0, simulation.world.down_s)
            simulation.at(self.down_until, self.rise)
        else:
            self.rise()

    def rise(self) -> None:
        effects = self.endpoint.restore(self.rows.items(), self.simulation.now)
        self.keep(effects)
        self.act(effects)

    def set_timer(self) -> None:
        timer = self.endpoint.get_timer()
        if timer is None or timer == self.timer:
            return
        self.timer = timer

        def ring() -> None:
            if self.timer == timer:
                self.timer = None
                if self.do(lambda endpoint, now: endpoint.on_timer(now)) is None:
                    self.set_timer()

        self.simulation.at(timer, ring)


class Simulation:
    """The DSRSP, its CEMs, the network between, and an eavesdropper."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = random.Random(world.seed)
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self.quiet_from = 4 * DAY_S
        self.sent: dict[bytes, tuple[End, str, bytes]] = {}
        self.messages: dict[str, bytes] = {}
        self.delivered: dict[bytes, float] = {}
        self.overheard: list[tuple[End, End, Transmit]] = []
        self.answers: list[tuple[int, Result]] = []
        # Of each CEM the number of its newest connection, odd while it stands; and when the last
        # message that was given to it comes out, by who sent it.
        self.sockets: dict[bytes, int] = {}
        self.comes_out: dict[tuple[bytes, int], float] = {}
        self.dsrsp = End(self, Originator.DSRSP, DSRSP)
        self.cems = {
            name: End(self, Originator.CEM, name)
            for name in (b"cem%05d" % number for number in range(world.cems))
        }

    # Time

    def at(self, when: float, what: Callable[[], object]) -> None:
        self.steps += 1
        heapq.heappush(self.queue, (max(when, self.now), self.steps, what))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        self.at(self.now + seconds, what)

    def chances(self, probability: float) -> bool:
        return self.chance.random() < probability

    def crashes(self) -> bool:
        return self.chances(self.world.crash)

    def delay_s(self) -> float:
        if self.chances(self.world.late):
            self.faults["late"] += 1
            return self.chance.uniform(0, 22 * HOUR_S)
        return self.chance.uniform(1, 60)

    # The network

    def carry(self, sender: End, transmit: Transmit) -> None:
        """Take a fragment over for transport, or not, and tell."""
        counter = transmit.originator_counter
        to = self.dsrsp if sender is not self.dsrsp else self.cems[transmit.peer]
        if self.chances(self.world.loss / 2):
            self.faults["not taken"] += 1
            result = self.chance.choice((Result.FAILED, Result.NOT_HANDED_OVER))
            self.after(1.0, partial(self.tell_result, sender, counter, result))
            return
        self.after(
            self.chance.uniform(0, 5),
            partial(sender.do, lambda e, now: e.on_transmitted(counter, now)),
        )
        self.overheard.append((sender, to, transmit))
        if self.chances(self.world.loss):
            self.faults["lost"] += 1
            if to is not self.dsrsp and self.chances(0.3):
                # The DCC says so.
                self.after(60.0, partial(self.tell_result, sender, counter, Result.FAILED))
            return
        copies = 1
        while self.chances(self.world.duplication):
            self.faults["repeated"] += 1
            copies += 1
        for _ in range(copies):
            self.after(self.delay_s(), partial(self.arrive, sender, to, transmit))

    def arrive(self, sender: End, to: End, transmit: Transmit) -> None:
        busy = self.now < to.busy_until
        if not busy and self.chances(self.world.busy):
            to.busy_until = self.now + self.chance.uniform(0, 2 * HOUR_S)
        effects = to.do(
            lambda endpoint, now: endpoint.on_fragment(
                sender.name,
                transmit.payload,
                originator_counter=transmit.originator_counter,
                now=now,
                busy=busy,
            )
        )
        if effects is None or effects.answer is None:
            return
        if to is not self.dsrsp:
            answer = (transmit.originator_counter, RESULTS[effects.answer])
            self.answers.append(answer)
            if self.chances(self.world.loss):
                self.faults["answer lost"] += 1
                return
            self.after(self.delay_s(), partial(self.tell_result, self.dsrsp, *answer))

    def tell_result(self, sender: End, counter: int, result: Result) -> None:
        sender.do(lambda endpoint, now: endpoint.on_result(counter, result, now))

    # Route 2b

    def connect(self, cem: End, left: int) -> None:
        """Let a CEM connect, be cut off some time later, and come again."""
        if min(cem.down_until, self.dsrsp.down_until) < self.now:
            self.close(cem)
            self.sockets[cem.name] += 1
            number = self.sockets[cem.name]
            for end, peer in self.chance.sample(((self.dsrsp, cem.name), (cem, DSRSP)), 2):
                # The greater the delay between the two, the more is said to who is not ready.
                self.after(self.chance.uniform(0, 0.5), partial(self.rise, end, peer, number))
        if left > 0:
            up_s = self.chance.expovariate(1 / self.world.up_s)
            away_s = self.chance.expovariate(1 / self.world.away_s)
            self.after(up_s, partial(self.close, cem))
            self.after(up_s + away_s, partial(self.connect, cem, left - 1))
        elif self.chances(0.5):
            self.after(self.world.up_s, partial(self.close, cem))

    def rise(self, end: End, peer: bytes, number: int) -> None:
        cem = peer if end is self.dsrsp else end.name
        if self.sockets[cem] == number and self.now >= end.down_until:
            end.connections[peer] = number
            end.do(lambda e, now: e.route_up(peer, now, message_octets=65_536))

    def close(self, cem: End) -> None:
        """Cut a connection; each end notices when it does."""
        if self.sockets.setdefault(cem.name, 0) % 2 == 0:
            return
        self.sockets[cem.name] += 1
        self.faults["disconnected"] += 1
        for end, peer in ((self.dsrsp, cem.name), (cem, DSRSP)):
            if peer in end.connections:
                number = end.connections[peer]
                late_s = self.chance.uniform(0, self.world.notice_s)
                self.after(late_s, partial(self.notice, end, peer, number))

    def notice(self, end: End, peer: bytes, number: int) -> None:
        if end.connections.get(peer) == number:
            del end.connections[peer]
            end.do(lambda e, now: e.route_down(peer, now))

    def close_all(self, end: End) -> None:
        """An end has crashed: its connections are gone, and it knows."""
        end.connections.clear()
        for cem in self.cems.values() if end is self.dsrsp else (end,):
            self.close(cem)

    def carry_2b(self, sender: End, transmit: Transmit) -> None:
        number = sender.connections.get(transmit.peer)
        assert number is not None, "given out on a route that its end knows to be down"
        cem = self.cems[transmit.peer] if sender is self.dsrsp else sender
        to = cem if sender is self.dsrsp else self.dsrsp
        self.faults["by 2b"] += 1
        self.overheard.append((sender, to, transmit))
        way = (cem.name, sender.side)
        out = max(self.comes_out.get(way, 0.0), self.now) + self.chance.uniform(0.01, 1.0)
        self.comes_out[way] = out
        self.at(out, partial(self.come_out, sender, to, cem, transmit, number))
        self.after(self.chance.uniform(0, 2.0), partial(self.taken, sender, transmit, number))

    def taken(self, sender: End, transmit: Transmit, number: int) -> None:
        if sender.connections.get(transmit.peer) == number:
            counter = transmit.originator_counter
            sender.do(lambda e, now: e.on_transmitted(counter, now))

    def come_out(self, sender: End, to: End, cem: End, transmit: Transmit, number: int) -> None:
        if self.sockets[cem.name] != number or to.connections.get(sender.name) != number:
            self.faults["lost in the socket"] += 1
            return
        self.arrive_2b(sender, to, transmit)

    def arrive_2b(self, sender: End, to: End, transmit: Transmit) -> None:
        busy = self.now < to.busy_until
        assert isinstance(transmit.payload, bytes)
        payload, counter = transmit.payload, transmit.originator_counter
        to.do(
            lambda endpoint, now: endpoint.on_message(
                sender.name, payload, originator_counter=counter, now=now, busy=busy
            )
        )

    def replay_across(self, sender: End, to: End, transmit: Transmit) -> None:
        """Put what one route has carried on the other, as if no signature told them apart."""
        payload = transmit.payload
        if isinstance(payload, bytes):
            header = int.from_bytes(payload[:3], "big") | BASE64_FLAG
            text = base64.b64encode(header.to_bytes(3, "big") + payload[3:]).decode("ascii")
            if len(text) <= carrier_of(sender.side).capacity:
                self.faults["replayed on 2a"] += 1
                self.arrive(sender, to, replace(transmit, payload=text))
            return
        header = int.from_bytes(base64.b64decode(payload[:4]), "big") & ~BASE64_FLAG
        body = payload[4:]
        if len(body) % 4 or "=" in body[:-2]:
            # A piece of several.
            body = body.rstrip("=")[: len(body.rstrip("=")) // 4 * 4]
        octets = base64.b64decode(body)
        self.faults["replayed on 2b"] += 1
        self.arrive_2b(sender, to, replace(transmit, payload=header.to_bytes(3, "big") + octets))

    def eavesdrop(self) -> None:
        """Send something again that was authentic once."""
        if self.now > 10 * DAY_S:
            return
        if self.overheard and self.chances(0.7):
            sender, to, transmit = self.chance.choice(self.overheard)
            whole = self.messages.get(transmit.ref) in self.delivered
            if self.world.connections and whole and self.chances(0.4):
                self.replay_across(sender, to, transmit)
            elif transmit.route is Route.ROUTE_2B:
                self.faults["replayed"] += 1
                self.arrive_2b(sender, to, transmit)
            else:
                self.faults["replayed"] += 1
                self.arrive(sender, to, transmit)
        elif self.answers:
            self.faults["answer replayed"] += 1
            self.tell_result(self.dsrsp, *self.chance.choice(self.answers))
        self.after(self.chance.expovariate(self.world.replays) * 600, self.eavesdrop)

    # What must hold

    def note_received(self, end: End, peer: bytes, message: bytes, route: Route) -> None:
        assert message in self.sent, "what was never sent was delivered: cut or mixed"
        sender, _, _ = self.sent[message]
        assert sender.name == peer
        assert (end is self.dsrsp) != (sender is self.dsrsp)
        assert message not in self.delivered, "delivered twice"
        self.delivered[message] = self.now
        self.faults[f"delivered by {route.name}"] += 1
        end.received.append((peer, message))
        if self.chances(self.world.answered):
            ref = self.sent[message][1]
            self.after(
                self.chance.uniform(1, HOUR_S),
                partial(sender.do, lambda e, now: e.answered(ref, now)),
            )

    def note_status(self, end: End, status: MessageStatus) -> None:
        known = end.statuses.get(status.ref)
        assert known is None or not known.final, "a final state is final"
        end.statuses[status.ref] = status
        if status.state in (DeliveryState.DELIVERED, DeliveryState.REASSEMBLED):
            assert self.messages[status.ref] in self.delivered, "said to have arrived, but has not"

    # The run

    def send(self, end: End, peer: bytes, number: int) -> None:
        sizes = (0, 60, 150, 400, 1500) if end is self.dsrsp else (0, 700, 1500, 3000)
        size = self.chance.choice(sizes)
        message = b"%s>%s#%d:" % (end.name, peer, number) + self.chance.randbytes(size)
        ref = f"{end.name.decode()}>{peer.decode()}#{number}"
        self.sent[message] = (end, ref, peer)
        self.messages[ref] = message
        priority = self.chance.choice((0, 0, 0, 1))
        route = self.chance.choice(self.world.choices)
        urgent = self.chances(self.world.urgent)

        def attempt() -> None:
            # An application whose send() did not return does it again.
            if ref in end.statuses:
                return
            done = end.do(
                lambda e, now: e.send(
                    ref, peer, message, now, priority=priority, route=route, urgent=urgent
                )
            )
            if done is None and ref not in end.statuses:
                self.after(60.0, attempt)

        attempt()
        if self.chances(self.world.cancelled):
            self.after(
                self.chance.uniform(0, 2 * HOUR_S),
                partial(end.do, lambda e, now: e.cancel(ref, "no longer wanted", now)),
            )

    def run(self) -> None:
        world = self.world
        for name, cem in self.cems.items():
            self.at(0.0, partial(cem.do, lambda e, now: e.announce(DSRSP, now)))
            if world.connections:
                self.sockets[name] = 0
                first_s = self.chance.expovariate(1 / world.away_s)
                self.at(first_s, partial(self.connect, cem, world.connections))
            for number in range(world.messages):
                for end, peer in ((self.dsrsp, name), (cem, DSRSP)):
                    when = self.chance.uniform(0, world.spread_s)
                    self.at(when, partial(self.send, end, peer, number))
        if world.replays:
            self.after(60.0, self.eavesdrop)
        while self.queue:
            self.now, _, what = heapq.heappop(self.queue)
            what()
            assert self.steps < 200_000, "it never comes to rest"
        self.check()

    def check(self) -> None:
        for message, (end, ref, _) in self.sent.items():
            status = end.statuses[ref]
            assert status.final, f"{ref} never ended: {status}"
            if status.state is DeliveryState.FAILED:
                assert status.reason
            elif status.state is DeliveryState.SENT:
                assert self.world.receipts is ReceiptPolicy.OFF
            else:
                assert message in self.delivered
        for end in (self.dsrsp, *self.cems.values()):
            assert end.endpoint.reassembler.partial_messages == 0
            assert end.endpoint.reassembler.held_octets == 0
            kinds = {key.split("/")[1] for key in end.rows}
            # No message is left behind, only what is remembered of peers and ids.
            assert kinds <= {"r", "i", "c", "a", "b", "pace"}, kinds


def pace_of(chance: random.Random, policy: SendPolicy) -> SendPolicy:
    return replace(
        policy,
        fragments_in_flight=chance.choice((1, 2, 8)),
        messages_in_flight=chance.choice((1, 2, 4)),
        fragments_per_window=chance.choice((None, None, 30)),
        result_timeout_s=chance.choice((120.0, 600.0)),
    )


def world_of(seed: int, tags: int = 65_536) -> World:
    """Draw a world: from a link that is nearly good to one that hardly works."""
    chance = random.Random(-seed - 1)
    return World(
        seed,
        tags=tags,
        cems=chance.choice((1, 1, 1, 2)),
        messages=chance.choice((1, 3, 5)),
        loss=chance.choice((0.0, 0.05, 0.2, 0.4)),
        duplication=chance.choice((0.0, 0.1, 0.3)),
        late=chance.choice((0.0, 0.05, 0.3)),
        replays=chance.choice((0.0, 0.2, 1.0)) / 10,
        crash=chance.choice((0.0, 0.005, 0.03)),
        down_s=chance.choice((0.0, 4 * HOUR_S)),
        busy=chance.choice((0.0, 0.02)),
        cancelled=chance.choice((0.0, 0.1)),
        answered=chance.choice((0.0, 0.2)),
        other_traffic=chance.choice((0, 10, 100_000)),
        receipts=chance.choice((ReceiptPolicy.BATCHED, ReceiptPolicy.EACH, ReceiptPolicy.OFF)),
        spread_s=chance.choice((60.0, HOUR_S, DAY_S)),
        down=pace_of(chance, DOWN),
        up=pace_of(chance, UP),
        limits=replace(
            LIMITS,
            partial_messages_per_peer=chance.choice((1, 4, 8)),
            total_octets=chance.choice((60_000, 10**6)),
            replay_window=chance.choice((1, 8, 256)),
            stream_from_chars=chance.choice((0, 500, 32_768)),
        ),
    )


def routes_of(world: World) -> World:
    """The same world with route 2b: from one that hardly ever fails to one that flaps."""
    chance = random.Random(world.seed * 7 + 3)
    every = tuple(RouteChoice)
    policy = {
        "fallback_after_s": chance.choice((1.0, 60.0, 300.0, HOUR_S)),
        "messages_in_flight_2b": chance.choice((1, 2, 32)),
        "attempts_2b": chance.choice((1, 2, 5)),
    }
    return replace(
        world,
        connections=chance.choice((1, 10, 40, 120)),
        up_s=chance.choice((2.0, 30.0, 600.0, 6 * HOUR_S)),
        away_s=chance.choice((0.5, 30.0, 600.0, 3 * HOUR_S)),
        notice_s=chance.choice((0.0, 5.0, 120.0)),
        choices=chance.choice(((RouteChoice.AUTO,), every, every, (RouteChoice.BOTH,))),
        urgent=chance.choice((0.0, 0.3)),
        spread_s=chance.choice((60.0, HOUR_S, world.spread_s)),
        messages=2 * world.messages,
        down=replace(world.down, **policy),  # type: ignore[arg-type]
        up=replace(world.up, **policy),  # type: ignore[arg-type]
    )


CHUNKS = 20


def run(world: World) -> Simulation:
    simulation = Simulation(world)
    try:
        simulation.run()
    except Exception as error:
        raise AssertionError(f"schedule {world.seed}: {world}") from error
    return simulation


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_happens_each_message_arrives_once_and_whole_or_ends_with_a_reason(
    chunk: int,
) -> None:
    for seed in range(chunk, SCHEDULES, CHUNKS):
        run(world_of(seed))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_with_route_2b(chunk: int) -> None:
    for seed in range(chunk, SCHEDULES, CHUNKS):
        run(routes_of(world_of(10**6 + seed)))


@pytest.fixture
def few_tags(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tags of five bits and nine ids, so that messages with equal ones are no rarity."""
    monkeypatch.setattr("smtunnel.outgoing.TAGS", 32)
    monkeypatch.setattr("smtunnel.uses.TAG_MASK", 31)
    monkeypatch.setattr("smtunnel.reassembler.TAG_MASK", 31)
    monkeypatch.setattr("smtunnel.message_ids.MAX_REMEMBERED_TAGS", 24)
    monkeypatch.setattr("smtunnel.message_ids.MAX_MESSAGE_ID", 8)
    monkeypatch.setattr("smtunnel.giving_out.MAX_LIVE_IDS", 8)
    return 32


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_where_tags_come_round_all_the_time(chunk: int, few_tags: int) -> None:
    for seed in range(chunk, SCHEDULES // 4, CHUNKS):
        world = world_of(-seed, tags=few_tags)
        run(replace(world, messages=2 * world.messages, replays=0.1))
        run(replace(routes_of(world), replays=0.1))


def states(simulation: Simulation) -> Counter[str]:
    return Counter(
        status.state.value
        for end in (simulation.dsrsp, *simulation.cems.values())
        for status in end.statuses.values()
    )


def test_over_a_good_link_everything_arrives_and_is_known_to_have() -> None:
    good = World(1, cems=3, messages=20, loss=0, duplication=0, late=0, replays=0, crash=0)
    simulation = run(good)
    assert states(simulation) == {"reassembled": 120}
    for cem in simulation.cems.values():
        assert cem.endpoint.capabilities(DSRSP) is not None
        assert simulation.dsrsp.endpoint.capabilities(cem.name) is not None


@pytest.mark.parametrize("seed", range(3))
def test_without_receipts_more_messages_than_ids(seed: int) -> None:
    off = World(seed, messages=400, loss=0.2, replays=0.02, receipts=ReceiptPolicy.OFF)
    off = replace(off, spread_s=2 * DAY_S, late=0.02)
    simulation = run(replace(off, up=replace(UP, messages_in_flight=16)))
    found = states(simulation)
    assert found["sent"] > 200
    ids = {key.split("/")[3] for key in simulation.cems[b"cem00000"].rows if "/i/0/" in key}
    assert len(ids) == 256


def test_more_messages_that_fail_than_ids() -> None:
    hopeless = replace(DOWN, attempts_per_fragment=1, messages_in_flight=16)
    world = World(5, messages=360, loss=0.5, late=0.3, crash=0.001, down=hopeless)
    simulation = run(replace(world, spread_s=2 * DAY_S))
    found = states(simulation)
    assert found["failed"] > 150
    assert found["reassembled"] > 100
    ids = {key.split("/")[3] for key in simulation.dsrsp.rows if "/i/0/" in key}
    assert len(ids) > 150


def test_an_end_that_is_off_for_hours_loses_nothing() -> None:
    world = World(3, messages=10, loss=0.0, late=0.0, crash=0.01, down_s=8 * HOUR_S)
    assert states(run(world)) == {"reassembled": 20}

"""Random faults in virtual time: whole and once, or failed with a reason, and never half true."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsrsp import StorageError
from smtunnel import ECS46A, DeliveryState, MessageReassembled, Originator, Reassembler


def fresh(world, folder):
    world.state = str(Path(folder) / "state.sqlite")
    world.journal.events.clear()
    world.dcc.posted.clear()
    world.dcc.signed.clear()
    world.dcc.on_transform = world.dcc.on_send = None


class FaultyDcc:
    """Makes a DCC lose, double, delay and refuse, as a random generator says."""

    def __init__(self, dcc, chance) -> None:
        self.dcc = dcc
        self.chance = chance
        self.seen: set[int] = set()
        self.taken: dict[int, bool] = {}
        self.rejected: set[int] = set()
        dcc.on_transform = self.transform
        dcc.on_send = self.send

    def transform(self, request):
        if self.chance.random() < 0.2:
            return None
        if self.chance.random() < 0.02:
            return self.dcc.refusal(request.request_id, "E100")
        return self.dcc.transform(request)

    def send(self, request):
        if self.chance.random() < 0.2:
            return None
        counter = request.originator_counter
        if counter in self.seen:
            return self.dcc.refusal(request.request_id, "E47")
        self.seen.add(counter)
        self.deliver(request)
        if self.chance.random() < 0.2:
            return None
        return self.dcc.acknowledgement(request.request_id)

    def deliver(self, request):
        dcc = self.dcc
        held = dcc.receive
        late = []
        dcc.receive = late.append
        dcc.results = lambda pre: None
        dcc.deliver(request)
        dcc.receive = held
        pre = dcc.signed[-1].pre_command
        if self.chance.random() < 0.05:
            return  # lost on the way to the device
        results = (0,) * len(pre.labels)
        if self.chance.random() < 0.03:
            results = (2,) * len(pre.labels)
        self.taken[pre.originator_counter] = not any(results)
        octets = dcc.service_response(pre, results)
        for _ in range(self.chance.choice([0, 1, 1, 1, 1, 1, 2, 3])):
            delay_s = self.chance.choice([0.0, 0.005, 1.0, 20.0, 90.0])
            asyncio.get_running_loop().call_later(delay_s, lambda: self.post(octets))

    def post(self, octets):
        try:
            self.dcc.receive(octets)
        except StorageError:  # the gateway is away: the DCC posts again
            asyncio.get_running_loop().call_later(5.0, lambda: self.post(octets))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    in_flight=st.integers(1, 4),
    restarts=st.integers(0, 3),
    attempts=st.sampled_from([1, 2, 8]),
)
def test_a_message_down_through_faults_and_restarts(world, seed, in_flight, restarts, attempts):
    chance = random.Random(seed)
    message = chance.randbytes(chance.randrange(400))

    async def main():
        faulty = FaultyDcc(world.dcc, chance)
        ref = None
        for last in [False] * restarts + [True]:
            gateway = world.gateway(
                fragments_in_flight=in_flight,
                response_timeout_s=60.0,
                resume_grace_s=10.0,
                fragment_attempts=attempts,
            )
            async with gateway:
                if ref is None:
                    ref = (await gateway.send(world.device, message)).ref
                if last:
                    status = await gateway.handle(ref).wait()
                    await asyncio.sleep(500)
                    assert gateway.handle(ref).status == status
                else:
                    await asyncio.sleep(chance.choice([0.0, 0.01, 0.02, 0.5, 30.0]))
        return faulty, status

    with TemporaryDirectory() as folder:
        fresh(world, folder)
        faulty, status = world.run(main)
    by_counter = {}
    for one in world.dcc.signed:
        by_counter.setdefault(one.pre_command.originator_counter, set()).add(one.to_bytes())
    assert all(len(octets) == 1 for octets in by_counter.values())
    # What a CEM makes of what it took, which is all but what was lost or answered 02.
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
    whole = []
    for payload, signed in zip(world.dcc.payloads(), world.dcc.signed, strict=True):
        counter = signed.pre_command.originator_counter
        if not faulty.taken.get(counter):
            continue
        for event in reassembler.receive_fragment(
            b"x", payload, originator_counter=counter, now=0.0
        ):
            if isinstance(event, MessageReassembled):
                whole.append(event.message)
    if status.state is DeliveryState.REASSEMBLED:
        assert whole == [message]
    else:
        assert status.state is DeliveryState.FAILED
        assert status.reason
        assert whole in ([], [message])
    for counters in repeated_fragments(world, status).values():
        assert len({(counter - counters[0]) % 65536 for counter in counters}) == 1


def repeated_fragments(world, status):
    """The counters of each fragment's attempts, in order."""
    found = {}
    for event in world.journal.of("carrier"):
        if event["message_ref"] == status.ref:
            found.setdefault(event["index"], []).append(event["originator_counter"])
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_messages_up_in_any_order_doubled_lost_with_restarts(world, seed):
    chance = random.Random(seed)
    messages = {
        number: chance.randbytes(chance.randrange(2500)) for number in range(chance.randrange(1, 5))
    }

    async def main():
        posts, complete, counter = [], set(), 1
        for number, message in messages.items():
            device = chance.choice([world.device, world.other_device])
            alerts = world.dcc.alerts(message, counter, tunnel_message_id=number, device=device)
            counter += len(alerts) + chance.randrange(3)
            lost = chance.randrange(len(alerts)) if chance.random() < 0.3 else None
            if lost is None:
                complete.add(number)
            for index, alert in enumerate(alerts):
                if index != lost:
                    posts += [alert] * chance.choice([1, 1, 2, 3])
        chance.shuffle(posts)
        found, gateway = {}, world.gateway()
        await gateway.__aenter__()
        for post in posts:
            gateway.receive_untrusted(post)
            if chance.random() < 0.2:
                await gateway.__aexit__(None, None, None)
                gateway = world.gateway()
                await gateway.__aenter__()
            if chance.random() < 0.3 and gateway._inbox_open:
                async for received in gateway.received():
                    assert received.ref not in found
                    found[received.ref] = received.message
                    await received.ack()
                    break
        while gateway._inbox_open:
            async for received in gateway.received():
                assert received.ref not in found
                found[received.ref] = received.message
                await received.ack()
                break
        await gateway.__aexit__(None, None, None)
        return found, complete

    with TemporaryDirectory() as folder:
        fresh(world, folder)
        found, complete = world.run(main)
    assert sorted(found.values()) == sorted(messages[number] for number in complete)

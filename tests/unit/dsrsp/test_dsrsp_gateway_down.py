"""Messages down, in virtual time, against a DCC that does as the test says."""

from __future__ import annotations

import pytest

from smtunnel import ECS46A, DeliveryState, MessageReassembled, Originator, Reassembler

MESSAGE = bytes(range(256)) * 2


def reassembled(world):
    """What a CEM makes of all that was sent, in the order of its coming."""
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
    messages = []
    for payload, signed in zip(world.dcc.payloads(), world.dcc.signed, strict=True):
        pre = signed.pre_command
        for event in reassembler.receive_fragment(
            pre.target_id.octets, payload, originator_counter=pre.originator_counter, now=0.0
        ):
            if isinstance(event, MessageReassembled):
                messages.append(event.message)
    return messages


def sent_down(world):
    return [event for event in world.journal.of("carrier") if not event["control"]]


def test_a_message_arrives_whole_and_its_states_are_told(world):
    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, MESSAGE)
            return handle, [status async for status in handle.statuses()]

    handle, statuses = world.run(main)
    assert [status.state for status in statuses][-3:] == [
        DeliveryState.ACCEPTED,
        DeliveryState.DELIVERED,
        DeliveryState.REASSEMBLED,
    ]
    final = statuses[-1]
    assert final == handle.status
    assert final.fragments_total == final.fragments_accepted == final.fragments_delivered > 3
    assert final.message_octets == len(MESSAGE)
    assert reassembled(world) == [MESSAGE]
    counters = [event["originator_counter"] for event in sent_down(world)]
    assert counters == list(range(final.first_counter, final.first_counter + len(counters)))
    assert {event["attempt"] for event in sent_down(world)} == {1}
    payloads = [event["payload"] for event in sent_down(world)]
    assert sorted(payloads) == sorted(world.dcc.payloads())


@pytest.mark.parametrize("in_flight", [1, 3])
def test_so_many_fragments_are_in_flight_as_the_setting_says(world, in_flight):
    async def main():
        async with world.gateway(fragments_in_flight=in_flight) as gateway:
            handle = await gateway.send(world.device, MESSAGE, compression="none")
            return await handle.wait()

    assert world.run(main).state is DeliveryState.REASSEMBLED
    assert world.dcc.most_held == in_flight

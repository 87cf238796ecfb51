"""Delivery in virtual time: what failed is sent again, receipts go down, and all of it is paced."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from dsrsp import MessageNotSendable, NoEcho
from dsrsp.errors import StorageError
from openadr_xml import canonical
from smtunnel import (
    DICTIONARIES,
    ECS46A,
    ECS200,
    Compression,
    DeliveryState,
    FragmentHeader,
    MessageReassembled,
    Originator,
    Reassembler,
    encode_message,
)
from smtunnel.control import build_control
from smtunnel.fragments import cut_stream
from smtunnel.records import (
    Abort,
    AbortCode,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    MessageName,
    Missing,
    Receipt,
)

MESSAGE = random.Random(5).randbytes(600)  # does not shrink: 8 fragments
XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07">
  <oadr:oadrSignedObject>
    <oadr:oadrPoll oadr:schemaVersion="2.0b" xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110">
      <ei:venID>ven-1</ei:venID>
    </oadr:oadrPoll>
  </oadr:oadrSignedObject>
</oadr:oadrPayload>
"""


def carried(world, *, control=False):
    return [event for event in world.journal.of("carrier") if event["control"] is control]


def reassembled(world):
    """What a CEM makes of all that reached it, in the order of its coming."""
    end = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
    messages = []
    for payload, signed in zip(world.dcc.payloads(), world.dcc.signed, strict=True):
        pre = signed.pre_command
        for event in end.receive_fragment(
            pre.target_id.octets, payload, originator_counter=pre.originator_counter, now=0.0
        ):
            if isinstance(event, MessageReassembled):
                messages.append(event.message)
    return messages


def control_up(world, counter, *records, tunnel_message_id=0, **how):
    """The alerts of a control message from a CEM."""
    octets = build_control(records)
    header = FragmentHeader(Originator.CEM, Compression.CONTROL, True, False, 0, tunnel_message_id)
    cut = cut_stream(octets, carrier=ECS200, header=header, message_octets=len(octets))
    return [
        world.dcc.alert(str(payload), counter + index, **how)
        for index, payload in enumerate(cut.payloads)
    ]


def send_one(world, message=MESSAGE, *, during=None, **settings):
    async def main():
        async with world.gateway(**settings) as gateway:
            handle = await gateway.send(world.device, message)
            if during is not None:
                await during(gateway, handle)
            status = await handle.wait()
            return status, asyncio.get_running_loop().time()

    return world.run(main)


class Answers:
    """Gives the results of a list to the first commands for a fragment, then success."""

    def __init__(self, world, *results, fragments=(0,)) -> None:
        self._world = world
        self._results = results
        self._fragments = fragments
        self.seen: Counter[int] = Counter()
        world.dcc.results = self

    def __call__(self, pre):
        (index,) = {
            event["index"]
            for event in carried(self._world)
            if event["originator_counter"] == pre.originator_counter
        }
        number = self.seen[index]
        self.seen[index] += 1
        result = 0
        if index in self._fragments and number < len(self._results):
            result = self._results[number]
        return None if result is None else (result,) * len(pre.labels)


# Again, but only what failed


def test_only_the_fragments_whose_responses_were_lost_are_sent_again(world):
    answers = Answers(world, None, None, fragments=(2, 5))
    status, _ = send_one(world, response_timeout_s=60.0)
    assert status.state is DeliveryState.REASSEMBLED
    assert {index for index, times in answers.seen.items() if times > 1} == {2, 5}
    assert answers.seen[2] == answers.seen[5] == 3
    assert reassembled(world) == [MESSAGE]
    again = [event for event in carried(world) if event["attempt"] > 1]
    assert len(again) == 4
    for event in again:  # under a new counter of the same tag
        tag = (event["originator_counter"] - event["index"] - status.first_counter) % 65536
        assert tag == 0


def test_busy_is_tried_again_later_however_often(world):
    answers = Answers(world, *[2] * 20)
    status, took_s = send_one(world, fragment_attempts=2, fragment_retry_max_s=100.0)
    assert status.state is DeliveryState.REASSEMBLED
    assert answers.seen[0] == 21
    assert set(answers.seen.values()) == {1, 21}
    assert took_s > 20 * 50


def test_a_rejected_message_ends_with_the_reason_of_the_cem(world):
    Answers(world, 0xFA, fragments=(7,))

    async def abort(gateway, handle):
        await asyncio.sleep(10)
        assert not handle.status.final
        name = MessageName.of(handle.status.tunnel_message_id, handle.status.first_counter)
        for alert in control_up(world, 1, Abort(name, AbortCode.TOO_LONG, 500)):
            gateway.receive_untrusted(alert)

    status, took_s = send_one(world, during=abort)
    assert status.state is DeliveryState.FAILED
    assert "too long (500)" in status.reason
    assert took_s < 11


def test_a_rejected_message_ends_without_a_reason_after_the_grace(world):
    Answers(world, 0xFA)
    status, took_s = send_one(world, reason_grace_s=50.0)
    assert status.state is DeliveryState.FAILED
    assert "FA other reason" in status.reason
    assert "no reason came" in status.reason
    assert took_s == pytest.approx(51, abs=1)


def test_attempts_are_limited_and_the_last_trouble_is_told(world):
    answers = Answers(world, *[None] * 10, fragments=(3,))
    status, _ = send_one(world, fragment_attempts=3, response_timeout_s=60.0)
    assert status.state is DeliveryState.FAILED
    assert status.reason.startswith("fragment 4 of 8: no answer from the device in 60 s")
    assert status.reason.endswith("after 3 attempts; not known whether it has arrived")
    assert answers.seen[3] == 3
    assert status.fragments_delivered == 7


def test_a_lifetime_ends_it(world):
    Answers(world, *[2] * 1000)
    status, took_s = send_one(world, message_lifetime_s=500.0)
    assert status.state is DeliveryState.FAILED
    assert "its lifetime is over" in status.reason
    assert took_s == pytest.approx(500, abs=1)


def test_a_late_response_counts_and_the_repetition_is_withdrawn(world):
    """The response comes while the second request is at the DCC's transform service."""
    dcc = world.dcc
    dcc.latency_s = 100.0
    seen = set()

    def transform(request):
        seen.add(request.originator_counter)
        return dcc.transform(request) if len(seen) == 1 else None

    dcc.on_transform = transform
    status, took_s = send_one(world, b"x", response_timeout_s=60.0)
    assert status.state is DeliveryState.REASSEMBLED
    assert took_s == pytest.approx(100, abs=1)
    assert len(seen) == 2
    assert len(dcc.sent) == 1


@pytest.mark.parametrize("code", ["E20", "E21", "E100"])
def test_a_refusal_that_may_heal_is_tried_again(world, code):
    dcc = world.dcc
    dcc.on_send = lambda request: (
        dcc.refusal(request.request_id, code) if len(dcc.sent) <= 3 else dcc.accept(request)
    )
    status, _ = send_one(world, b"x")
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) == 4
    counters = {one.pre_command.originator_counter for one in dcc.signed}
    assert len(counters) == 1


def test_a_refusal_that_stands_fails_the_message_at_once(world):
    dcc = world.dcc
    dcc.on_transform = lambda request: dcc.refusal(request.request_id, "E19")
    status, took_s = send_one(world, fragments_in_flight=2)
    assert status.state is DeliveryState.FAILED
    assert "E19" in status.reason
    assert took_s < 1
    assert len(dcc.transformed) <= 2


def test_a_repeated_transform_that_is_refused_goes_on_under_a_new_counter(world):
    dcc = world.dcc

    def transform(request):
        if len(dcc.transformed) == 1:
            return None
        return (
            dcc.refusal(request.request_id, "E48")
            if len(dcc.transformed) == 2
            else dcc.transform(request)
        )

    dcc.on_transform = transform
    status, _ = send_one(world, b"x")
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) == 1


# How fast


@pytest.mark.parametrize("in_flight", [1, 4, 8])
def test_in_flight_fragments_take_a_part_of_the_time(world, in_flight):
    world.dcc.latency_s = 30.0
    status, took_s = send_one(world, fragments_in_flight=in_flight)
    assert status.state is DeliveryState.REASSEMBLED
    rounds = -(-(8 + 1) // in_flight)  # with the control message that tells our capabilities
    assert took_s == pytest.approx(30 * rounds, abs=5)


def test_never_more_fragments_in_a_window_than_set(world):
    async def main():
        async with world.gateway(fragments_per_window=5, window_s=100.0) as gateway:
            handles = [
                await gateway.send(device, MESSAGE)
                for device in (world.device, world.other_device)
                for _ in range(2)
            ]
            times = []
            record = world.journal.record

            def timed(event, /, **fields):
                if event == "carrier":
                    times.append(asyncio.get_running_loop().time())
                record(event, **fields)

            times += [0.0] * len(world.journal.of("carrier"))
            world.journal.record = timed
            for handle in handles:
                assert (await handle.wait()).state is DeliveryState.REASSEMBLED
            return times

    times = world.run(main)
    assert len(times) >= 32
    for first, sixth in zip(times, times[5:], strict=False):
        assert sixth - first >= 100.0 - 1e-6


def test_control_messages_are_not_sent_in_each_others_place(world):
    """The capabilities go once, not with each message."""

    async def main():
        async with world.gateway() as gateway:
            for _ in range(3):
                await (await gateway.send(world.device, b"x")).wait()

    world.run(main)
    kinds = [type(record) for _, record in world.dcc.control]
    assert kinds == [Capabilities, CapabilitiesWanted]


# What goes down for what came up


def test_receipts_of_many_messages_go_down_in_one_command(world):
    async def main():
        async with world.gateway(receipt_batch_s=60.0) as gateway:
            for number in range(6):
                (alert,) = world.dcc.alerts(b"%d" % number, number + 1, tunnel_message_id=number)
                gateway.receive_untrusted(alert)
            await asyncio.sleep(59)
            assert world.dcc.control == []
            await asyncio.sleep(10)

    world.run(main)
    ((device, receipt),) = world.dcc.control
    assert device == world.device
    assert receipt == Receipt(tuple(MessageName.of(n, n + 1) for n in range(6)))
    assert len(carried(world, control=True)) == 1


@pytest.mark.parametrize(("policy", "receipts"), [("each", 2), ("off", 0)])
def test_receipts_one_by_one_or_not_at_all(world, policy, receipts):
    async def main():
        async with world.gateway(receipts=policy) as gateway:
            for number in range(2):
                (alert,) = world.dcc.alerts(b"%d" % number, number + 1, tunnel_message_id=number)
                gateway.receive_untrusted(alert)
                await asyncio.sleep(5)
            await asyncio.sleep(1000)

    world.run(main)
    assert len([r for _, r in world.dcc.control if isinstance(r, Receipt)]) == receipts


def test_what_is_missing_is_asked_for_and_the_message_becomes_whole(world):
    message = random.Random(6).randbytes(4000)

    async def main():
        async with world.gateway(missing_after_s=120.0) as gateway:
            alerts = world.dcc.alerts(message, 10)
            for alert in alerts[:1] + alerts[2:4] + alerts[5:]:
                gateway.receive_untrusted(alert)
            await asyncio.sleep(130)
            ((_, missing),) = [c for c in world.dcc.control if isinstance(c[1], Missing)]
            asked = [index for r in missing.ranges for index in range(r.start, r.start + r.count)]
            assert asked == [1, 4]
            payloads = payloads_up(message)
            for index in asked:  # as a CEM does it: new counters of the same tag
                counter = 10 + 65536 + index
                gateway.receive_untrusted(world.dcc.alert(payloads[index], counter))
            async for received in gateway.received():
                return received.message
        return None

    assert world.run(main) == message


def payloads_up(message):
    encoded = encode_message(
        message, carrier=ECS200, originator=Originator.CEM, tunnel_message_id=0
    )
    return [str(payload) for payload in encoded.payloads]


def test_a_receipt_that_is_lost_is_given_again_when_the_cem_asks(world):
    async def main():
        async with world.gateway(receipts="each") as gateway:
            (alert,) = world.dcc.alerts(b"x", 1)
            gateway.receive_untrusted(alert)
            await asyncio.sleep(5)
            (again,) = world.dcc.alerts(b"x", 1 + 65536)
            gateway.receive_untrusted(again)
            await asyncio.sleep(5)
            async for received in gateway.received():
                assert received.message == b"x"
                break
            assert len(gateway._inbox_open) == 0

    world.run(main)
    assert [type(record) for _, record in world.dcc.control] == [Receipt, Receipt]


# Capabilities, dictionary, compact form


def known(world, counter=1, **changes):
    capabilities = Capabilities(dictionaries=tuple(sorted(DICTIONARIES)))
    return control_up(world, counter, capabilities)


def test_the_dictionary_is_used_once_the_cem_is_known_to_have_it(world):
    async def main():
        async with world.gateway() as gateway:
            assert gateway.capabilities(world.device) is None
            before = await (await gateway.send(world.device, XML)).wait()
            with pytest.raises(MessageNotSendable):
                await gateway.send(world.device, XML, "dictionary")
            for alert in known(world):
                gateway.receive_untrusted(alert)
            assert gateway.capabilities(world.device).dictionaries == tuple(sorted(DICTIONARIES))
            after = await (await gateway.send(world.device, XML)).wait()
            forced = await (await gateway.send(world.device, XML, "dictionary")).wait()
            assert after.fragments_total == forced.fragments_total < before.fragments_total
            await asyncio.sleep(100)  # the receipt for the capabilities comes with its batch
        async with world.gateway() as gateway:  # it is not forgotten
            again = await (await gateway.send(world.device, XML)).wait()
            assert again.fragments_total == after.fragments_total

    world.run(main)
    assert {canonical(message) for message in reassembled(world)} == {canonical(XML)}
    assert len(reassembled(world)) == 4
    assert [event["dictionaries"] for event in world.journal.of("capabilities")]
    assert any(isinstance(record, ControlReceipt) for _, record in world.dcc.control)


@pytest.mark.parametrize(
    ("setting", "asked", "untouched"),
    [(True, None, False), (True, False, True), (False, None, True), (False, True, False)],
)
def test_compact_or_untouched(world, setting, asked, untouched):
    async def main():
        async with world.gateway(compact=setting) as gateway:
            return await (await gateway.send(world.device, XML, compact=asked)).wait()

    status = world.run(main)
    (arrived,) = reassembled(world)
    assert (arrived == XML) is untouched
    assert canonical(arrived) == canonical(XML)
    assert status.message_octets == len(arrived)


def test_what_is_no_xml_goes_as_it_is(world):
    send_one(world, b"\x00 not <xml")
    assert reassembled(world) == [b"\x00 not <xml"]


# Echo


def test_an_echo_measures_there_and_back(world):
    world.dcc.latency_s = 20.0

    async def main():
        async with world.gateway() as gateway:
            asking = asyncio.create_task(gateway.echo(world.device))
            await asyncio.sleep(30)
            ((_, request),) = world.dcc.control
            assert isinstance(request, EchoRequest)
            for alert in control_up(world, 1, EchoReply(request.nonce, request.opaque)):
                gateway.receive_untrusted(alert)
                gateway.receive_untrusted(alert)
            return await asking

    assert world.run(main) == pytest.approx(30, abs=0.1)
    assert [event["seconds"] for event in world.journal.of("echo")] == [pytest.approx(30, abs=0.1)]


def test_an_echo_that_does_not_come_is_told(world):
    async def main():
        async with world.gateway() as gateway:
            with pytest.raises(NoEcho, match="in 500 s"):
                await gateway.echo(world.device, timeout_s=500.0)
            for alert in control_up(world, 1, EchoReply(bytes(8), b"")):
                gateway.receive_untrusted(alert)  # nobody asked

    world.run(main)


def test_an_echo_that_the_dcc_does_not_carry_ends_at_once(world):
    dcc = world.dcc
    dcc.harms_control = True
    dcc.on_transform = lambda request: dcc.refusal(request.request_id, "E19")

    async def main():
        async with world.gateway() as gateway:
            with pytest.raises(NoEcho, match="E19"):
                await gateway.echo(world.device)
            return asyncio.get_running_loop().time()

    assert world.run(main) < 1


# The store


def test_nothing_leaves_before_it_is_stored(world, monkeypatch):
    """Every write fails once: what goes on is what the disk knows."""

    async def main():
        async with world.gateway() as gateway:
            storage = gateway._storage_open
            keep = storage.keep
            failed = set()

            def flaky(changes, *, now):
                name = repr(sorted(changes.tunnel)) + repr(
                    [(r.originator_counter, r.state) for r in changes.requests]
                )
                if name not in failed:
                    failed.add(name)
                    raise StorageError("disk full")
                keep(changes, now=now)

            handle = await gateway.send(world.device, MESSAGE)
            monkeypatch.setattr(storage, "keep", flaky)
            status = await handle.wait()
            return status, failed

    dcc = world.dcc
    receive = None

    def again():
        nonlocal receive
        receive = dcc.receive

        def until_taken(octets):
            try:
                receive(octets)
            except StorageError:
                asyncio.get_running_loop().call_later(5.0, lambda: until_taken(octets))

        return until_taken

    make = world.gateway

    def gateway(**settings):
        made = make(**settings)
        dcc.receive = again()
        return made

    world.gateway = gateway
    status, failed = world.run(main)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(failed) > 10
    assert reassembled(world) == [MESSAGE]
    by_counter = {}
    for one in dcc.signed:
        by_counter.setdefault(one.pre_command.originator_counter, set()).add(
            one.pre_command.to_bytes()
        )
    assert all(len(octets) == 1 for octets in by_counter.values())

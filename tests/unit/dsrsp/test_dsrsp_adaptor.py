"""Requests against a DCC that misbehaves, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from dsrsp.core.request import State
from gbcs.duis import RequestId, build_response
from gbcs.duis import Response as DuisResponse
from gbcs.duis.model import AcknowledgementBody, ServiceResponseBody
from gbcs.entity_id import EntityId
from gbcs.messages import Label
from smtunnel import DeliveryState

ONE_FRAGMENT = b"short"
HOUR = 3600.0


def final_status(world, message=ONE_FRAGMENT, *, listen=None, **settings):
    """Send one message, each fragment once, and return its final status and how long that took."""
    settings = {"fragment_attempts": 1} | settings

    async def main():
        async with world.gateway(**settings) as gateway:
            if listen is not None:
                listen(gateway)
            handle = await gateway.send(world.device, message)
            status = await handle.wait()
            return status, asyncio.get_running_loop().time()

    return world.run(main)


# Transform


WRONG_PRE_COMMANDS = {
    "originator": lambda pre: replace(pre, originator_id=EntityId(b"somebody")),
    "target": lambda pre: replace(pre, target_id=EntityId(b"elsewher")),
    "counter": lambda pre: replace(pre, originator_counter=pre.originator_counter + 1),
    "label 1": lambda pre: replace(pre, labels=(Label(1, "AAAA"),)),
    "label 2": lambda pre: replace(pre, labels=(*pre.labels, Label(2, "AAAA"))),
}


@pytest.mark.parametrize("field", WRONG_PRE_COMMANDS)
def test_a_wrong_pre_command_is_never_signed(world, field):
    dcc = world.dcc

    def transform(request):
        wrong = WRONG_PRE_COMMANDS[field](dcc.pre_command(request))
        return dcc.pre_command_answer(request, wrong.to_bytes())

    dcc.on_transform = transform
    status, _ = final_status(world)
    assert status.state is DeliveryState.FAILED
    assert field in status.reason
    assert "not signed" in status.reason
    assert dcc.sent == []


def test_a_pre_command_that_is_not_signed_by_the_dcc_is_no_answer(world):
    dcc = world.dcc
    dcc.on_transform = lambda request: dcc.pre_command_answer(
        request, dcc.pre_command(request).to_bytes(), world.pki.foreign_xml
    )
    status, took_s = final_status(world, transform_timeout_s=HOUR, message_lifetime_s=HOUR + 1)
    assert status.state is DeliveryState.FAILED
    assert "its lifetime is over" in status.reason
    assert "no pre-command from the DCC in 3600 s" in status.reason
    assert "cannot be believed" in status.reason
    assert took_s == pytest.approx(HOUR, abs=2)
    assert dcc.sent == []
    assert len(dcc.transformed) > 100


def test_a_pre_command_for_another_request_is_no_answer(world):
    dcc = world.dcc

    def transform(request):
        return dcc.transform(replace(request, originator_counter=request.originator_counter + 1))

    dcc.on_transform = transform
    status, _ = final_status(world, message_lifetime_s=HOUR)
    assert "asked was" in status.reason
    assert dcc.sent == []


@pytest.mark.parametrize("garbage", [b"", b"<x/>", b"\xff\x00", b"<?xml version='1.0'?><a>"])
def test_garbage_is_no_answer_and_the_next_try_counts(world, garbage):
    dcc = world.dcc
    answers = [garbage, garbage]
    dcc.on_transform = lambda request: answers.pop() if answers else dcc.transform(request)
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.transformed) == 3


def test_an_acknowledgement_is_no_answer_to_a_transform(world):
    dcc = world.dcc
    dcc.on_transform = lambda request: dcc.acknowledgement(request.request_id)
    status, _ = final_status(world, message_lifetime_s=HOUR + 1)
    assert "AcknowledgementBody instead of a pre-command" in status.reason


def test_repeated_transforms_have_the_same_octets(world):
    dcc = world.dcc
    failures = [None, None, None]
    dcc.on_transform = lambda request: failures.pop() if failures else dcc.transform(request)
    status, took_s = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.transformed) == 4
    assert len(set(dcc.transformed)) == 1
    assert took_s > 0.25 + 0.5 + 1.0  # half of each pause at least


@pytest.mark.parametrize(
    ("code", "teaches"),
    [
        ("E2", "6.14.1 needs an electricity import supplier"),
        ("E19", "add 02-53-4D-54-00-00-00-01 to the DCC's inventory"),
        ("E5", "commissioned"),
        ("E40", "counter_floor"),
        ("E55", "ask the DCC"),
    ],
)
def test_a_refusal_is_explained(world, code, teaches):
    dcc = world.dcc
    dcc.on_transform = lambda request: dcc.refusal(request.request_id, code)
    status, _ = final_status(world)
    assert status.state is DeliveryState.FAILED
    assert f"refused with {code}" in status.reason
    assert teaches in status.reason


def test_a_refusal_without_request_id_is_one_too(world):
    dcc = world.dcc
    dcc.on_transform = lambda request: dcc.refusal(None, "E65")
    assert "E65" in final_status(world)[0].reason


@pytest.mark.parametrize("code", ["E64", "E65"])
def test_what_was_bent_on_its_way_goes_again_as_it_was(world, code):
    dcc = world.dcc
    dcc.on_transform = lambda request: (
        dcc.refusal(None, code) if len(dcc.transformed) == 1 else dcc.transform(request)
    )
    dcc.on_send = lambda request: (
        dcc.refusal(None, code) if len(dcc.sent) == 1 else dcc.accept(request)
    )
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.transformed) == len(dcc.sent) == 2
    assert len(set(dcc.transformed)) == len(set(dcc.sent)) == 1


# Send


def test_signed_requests_are_repeated_with_the_same_octets(world):
    dcc = world.dcc
    failures = [None, None, None]
    dcc.on_send = lambda request: failures.pop() if failures else dcc.accept(request)
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.transformed) == 1
    assert len(dcc.sent) == 4
    assert len(set(dcc.sent)) == 1


@pytest.mark.parametrize("code", ["E40", "E47", "E48"])
def test_a_duplicate_refusal_of_a_repeat_is_no_failure(world, code):
    dcc = world.dcc
    dcc.latency_s = 100.0

    def send(request):
        if len(dcc.sent) == 1:
            dcc.deliver(request)  # taken, but the answer is lost
            return None
        return dcc.refusal(request.request_id, code)

    dcc.on_send = send
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) == 2


def test_a_duplicate_refusal_of_a_repeat_then_silence_times_out(world):
    dcc = world.dcc
    dcc.on_send = lambda request: (
        None if len(dcc.sent) == 1 else dcc.refusal(request.request_id, "E47")
    )
    status, took_s = final_status(world, response_timeout_s=2 * HOUR)
    assert status.state is DeliveryState.FAILED
    assert "whether it has the fragment is not known" in status.reason
    assert status.fragments_accepted == 0
    assert took_s == pytest.approx(2 * HOUR, abs=1)


def test_a_duplicate_refusal_of_a_first_attempt_is_a_failure(world):
    dcc = world.dcc
    dcc.on_send = lambda request: dcc.refusal(request.request_id, "E47")
    status, _ = final_status(world)
    assert status.state is DeliveryState.FAILED
    assert len(dcc.sent) == 1


def test_the_devices_answer_may_overtake_the_acknowledgement(world):
    dcc = world.dcc

    def send(request):
        dcc.latency_s = -1.0  # due before the acknowledgement is read
        dcc.deliver(request)
        # ... and the acknowledgement is lost altogether.

    dcc.on_send = send
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) == 1


@pytest.mark.parametrize("answer", ["wrong id", "pre-command", "service response"])
def test_anything_but_our_acknowledgement_is_no_answer(world, answer):
    dcc = world.dcc

    def send(request):
        if len(dcc.sent) > 1:
            return dcc.accept(request)
        identity = request.request_id
        if answer == "wrong id":
            other = RequestId(
                identity.originator_id, identity.target_id, identity.originator_counter + 1
            )
            return dcc.acknowledgement(other)
        if answer == "pre-command":
            return dcc.pre_command_answer(request, b"x")
        body = ServiceResponseBody(b"x")
        return build_response(
            DuisResponse("I0", dcc._now(), body, request_id=identity, response_id=identity),
            world.pki.dcc_xml,
        )

    dcc.on_send = send
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) == 2


def test_an_acknowledgement_signed_by_a_stranger_is_no_answer(world):
    dcc = world.dcc
    dcc.on_send = lambda request: build_response(
        DuisResponse("I99", dcc._now(), AcknowledgementBody(), request_id=request.request_id),
        world.pki.foreign_xml,
    )
    status, _ = final_status(world)
    assert "did not confirm the request in 7200 s" in status.reason


def test_no_dcc_for_an_hour_is_ridden_out(world):
    dcc = world.dcc

    def transform(request):
        now = asyncio.get_running_loop().time()
        return None if now < HOUR - 60 else dcc.transform(request)

    dcc.on_transform = transform
    status, _ = final_status(world)
    assert status.state is DeliveryState.REASSEMBLED


# The device


def test_no_answer_of_the_device_times_out(world):
    world.dcc.results = lambda pre: None
    status, took_s = final_status(world, response_timeout_s=30.0)
    assert status.state is DeliveryState.FAILED
    assert "no answer from the device in 30 s" in status.reason
    assert status.fragments_accepted == 1
    assert status.fragments_delivered == 0
    assert took_s == pytest.approx(30.0, abs=0.1)


def test_an_answer_after_the_time_is_late_and_written_down(world):
    dcc = world.dcc
    dcc.latency_s = 100.0

    async def main():
        async with world.gateway(response_timeout_s=30.0, fragment_attempts=1) as gateway:
            handle = await gateway.send(world.device, ONE_FRAGMENT)
            status = await handle.wait()
            await asyncio.sleep(200)
            return status, handle.status

    status, later = world.run(main)
    assert status == later
    assert status.state is DeliveryState.FAILED
    late = [e for e in world.journal.of("late_response") if e["message_ref"] == status.ref]
    assert [event["results"] for event in late] == [bytes(1)]


def test_what_follows_a_failed_fragment_is_not_sent(world):
    world.dcc.results = lambda pre: (3,) * len(pre.labels)
    status, _ = final_status(world, bytes(range(256)) * 2, fragments_in_flight=1)
    assert status.state is DeliveryState.FAILED
    assert "fragment 1 of" in status.reason
    assert "label 1: 03 not allowed" in status.reason
    assert len(world.dcc.sent) == 1
    assert len(world.dcc.transformed) == 1


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (lambda pre: 2, "02 temporary failure"),
        (lambda pre: 0xFA, "label 5: FA other reason"),
        (lambda pre: 0x77, "label 5: 77 no result that DLMS/COSEM knows"),
        (lambda pre: 3, "label 5: 03 not allowed"),
        (None, "2 results for 5 labels"),
    ],
)
def test_labels_that_partly_succeed_are_not_delivered(world, results, says):
    world.dcc.results = lambda pre: (
        (0, 0) if results is None else (*(0,) * (len(pre.labels) - 1), results(pre))
    )
    status, _ = final_status(
        world, bytes(range(256)), message_lifetime_s=HOUR, fragments_in_flight=1
    )
    assert status.state is DeliveryState.FAILED
    assert says in status.reason
    assert status.fragments_delivered == 0


# Errors that come later


def after_acceptance(world, make, **settings):
    dcc = world.dcc
    dcc.results = lambda pre: None

    def send(request):
        octets = make(request)
        asyncio.get_running_loop().call_later(5.0, lambda: dcc.receive(octets))
        return dcc.accept(request)

    dcc.on_send = send
    return final_status(world, response_timeout_s=600.0, **settings)


def test_a_signed_error_after_acceptance_ends_the_request(world):
    dcc = world.dcc
    status, took_s = after_acceptance(
        world, lambda request: dcc.refusal(request.request_id, "E21", signed=True)
    )
    assert "E21" in status.reason
    assert status.fragments_accepted == 1
    assert took_s < 6


def test_an_unsigned_error_is_only_noted(world):
    dcc = world.dcc
    status, took_s = after_acceptance(world, lambda request: dcc.refusal(request.request_id, "E19"))
    assert "no answer from the device in 600 s" in status.reason
    assert "E19" in status.reason
    assert took_s == pytest.approx(600, abs=1)


def test_an_unsigned_error_that_only_costs_a_repetition_is_believed(world):
    dcc = world.dcc
    status, took_s = after_acceptance(world, lambda request: dcc.refusal(request.request_id, "E20"))
    assert "refused with E20" in status.reason
    assert took_s < 6


def test_an_unsigned_error_ends_the_request_where_the_settings_say_so(world):
    dcc = world.dcc
    status, took_s = after_acceptance(
        world,
        lambda request: dcc.refusal(request.request_id, "E19"),
        believe_unsigned_errors=True,
    )
    assert "refused with E19" in status.reason
    assert took_s < 6


def test_a_failure_told_as_an_alert_ends_the_request(world):
    from gbcs.duis import CommandFailure, DccAlertBody

    dcc = world.dcc

    def make(request):
        failure = CommandFailure(request.request_id, request.target_id)
        return build_response(
            DuisResponse(
                "I0",
                dcc._now(),
                DccAlertBody("N12", failure),
                response_id=None,
            ),
            world.pki.dcc_xml,
        )

    status, took_s = after_acceptance(world, make)
    assert "N12, the command could not be delivered" in status.reason
    assert took_s < 6


def test_quarantine_is_noted_and_waited_for(world):
    from gbcs.duis import DccAlertBody, QuarantinedRequest

    dcc = world.dcc

    def make(request):
        held = QuarantinedRequest(request.request_id, "ADUserThresholdBreach", 12)
        return build_response(
            DuisResponse("I0", dcc._now(), DccAlertBody("AD1", held)), world.pki.dcc_xml
        )

    status, took_s = after_acceptance(world, make)
    assert "quarantine" in status.reason
    assert took_s == pytest.approx(600, abs=1)


# Several messages


def test_messages_of_one_device_follow_each_other_and_devices_do_not_wait(world):
    dcc = world.dcc
    dcc.latency_s = 10.0

    async def main():
        async with world.gateway(messages_in_flight=1) as gateway:
            handles = [await gateway.send(world.device, b"%d" % n) for n in range(3)]
            handles.append(await gateway.send(world.other_device, b"other"))
            statuses = [await handle.wait() for handle in handles]
            return statuses, asyncio.get_running_loop().time()

    statuses, took_s = world.run(main)
    assert {status.state for status in statuses} == {DeliveryState.REASSEMBLED}
    counters = [status.first_counter for status in statuses]
    assert len(set(counters)) == 4
    assert counters[:3] == sorted(counters[:3])
    assert took_s == pytest.approx(30, abs=1)


def test_many_messages_each_have_counters_of_their_own(world):
    dcc = world.dcc
    dcc.latency_s = 0.0

    async def main():
        async with world.gateway() as gateway:
            handles = [await gateway.send(world.device, b"%d" % number) for number in range(258)]
            return [await handle.wait() for handle in handles]

    statuses = world.run(main)
    assert {status.state for status in statuses} == {DeliveryState.REASSEMBLED}
    counters = [status.first_counter for status in statuses]
    assert counters == sorted(set(counters))


def test_requests_that_are_not_needed_any_more_are_withdrawn(world):
    """A fragment is refused for good while the next ones are still being transformed."""
    dcc = world.dcc
    dcc.results = lambda pre: (3,) * len(pre.labels)
    dcc.latency_s = 1.0
    first = []

    def transform(request):
        return dcc.transform(request) if request.originator_counter in first else None

    dcc.on_transform = transform

    async def main():
        async with world.gateway(fragments_in_flight=4) as gateway:
            handle = await gateway.send(world.device, bytes(range(256)) * 2, compression="none")
            first.append(handle.status.first_counter)
            status = await handle.wait()
            await asyncio.sleep(10)
            posted = len(dcc.posted)
            await asyncio.sleep(100)
            assert len(dcc.posted) == posted
            storage = gateway._storage_open
            return status, [storage.request(status.first_counter + n) for n in range(3)]

    status, requests = world.run(main)
    assert status.state is DeliveryState.FAILED
    states = [request.state for request in requests]
    assert states == [State.ANSWERED, State.WITHDRAWN, State.WITHDRAWN]
    assert len(world.dcc.sent) == 1

"""What is posted to the receive address: forged, replayed, late, doubled, of the wrong device."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrsp.core.matching import DeviceAlert, DeviceResponse, ReceivedReader
from dsrsp.errors import ReceivedRefused
from gbcs.duis import RequestId
from gbcs.messages import Label, PreCommand
from smtunnel import DeliveryState


def with_accepted_request(world, check):
    """Send one message whose answer the test makes; check(gateway, pre_command) then runs."""
    world.dcc.results = lambda pre: None

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"short")
            async for status in handle.statuses():
                if status.state is DeliveryState.ACCEPTED:
                    break
            pre = world.dcc.signed[0].pre_command
            check(gateway, pre, handle)
            if not handle.status.final:
                gateway.receive_untrusted(world.dcc.service_response(pre, (0,)))
            return await handle.wait()

    return world.run(main)


def refused(world, octets_of, match):
    """What octets_of makes is refused, changes nothing, and the genuine answer still counts."""

    def check(gateway, pre, handle):
        before = handle.status
        with pytest.raises(ReceivedRefused, match=match):
            gateway.receive_untrusted(octets_of(pre))
        assert handle.status == before

    assert with_accepted_request(world, check).state is DeliveryState.REASSEMBLED


def test_an_answer_not_signed_by_the_dcc_is_refused(world):
    dcc = world.dcc
    refused(
        world,
        lambda pre: dcc.service_response(pre, (0,), signer=world.pki.foreign_xml),
        "DUIS message refused",
    )


def test_an_unsigned_answer_is_refused(world):
    refused(world, lambda pre: world.dcc.service_response(pre, (0,), unsigned=True), "DUIS message")


def test_an_answer_signed_by_a_user_is_refused(world):
    refused(
        world,
        lambda pre: world.dcc.service_response(pre, (0,), signer=world.pki.user_xml),
        "DUIS message refused",
    )


def test_a_changed_answer_is_refused(world):
    def changed(pre):
        octets = world.dcc.service_response(pre, (0,))
        return octets.replace(b">I0<", b">I1<", 1).replace(b".000Z", b".001Z", 1)

    refused(world, changed, "DUIS message refused")


def test_an_answer_of_another_device_is_refused(world):
    signer = world.pki.devices[world.other_device]
    refused(
        world,
        lambda pre: world.dcc.service_response(pre, (0,), device_signer=signer),
        "signature does not hold",
    )


def test_an_answer_in_another_devices_name_is_refused(world):
    def octets(pre):
        other = replace(pre, target_id=world.other_device)
        return world.dcc.service_response(
            other, (0,), request_id=RequestId(pre.originator_id, pre.target_id, 1)
        )

    refused(world, octets, "the envelope says")


def test_an_answer_to_a_request_to_another_device_is_refused(world):
    refused(
        world,
        lambda pre: world.dcc.service_response(replace(pre, target_id=world.other_device), (0,)),
        "went to 02-53-4D-54-00-00-00-01",
    )


def test_an_answer_under_another_counter_is_refused(world):
    def octets(pre):
        message = replace(world.dcc.response(pre, (0,)), originator_counter=99)
        return world.dcc.service_response(pre, (0,), message=message)

    refused(world, octets, "counter 99")


def test_an_answer_to_another_user_is_refused(world):
    def octets(pre):
        message = replace(world.dcc.response(pre, (0,)), target_id=world.load_controller)
        return world.dcc.service_response(pre, (0,), message=message)

    refused(world, octets, "not to the request's originator")
    world.journal.events.clear()


def test_somebody_elses_answer_is_refused(world):
    def octets(pre):
        return world.dcc.service_response(replace(pre, originator_id=world.load_controller), (0,))

    refused(world, octets, "is not ours")


def test_an_alert_in_the_place_of_an_answer_is_refused(world):
    from gbcs.crypto import sign_alert
    from gbcs.date_time import GbcsDateTime
    from gbcs.duis import Response as DuisResponse
    from gbcs.duis import ServiceResponseBody, build_response
    from gbcs.messages import Alert

    def octets(pre):
        alert = sign_alert(
            Alert(
                pre.target_id,
                pre.originator_id,
                pre.originator_counter,
                "x",
                GbcsDateTime(),
                world.load_controller,
            ),
            world.pki.devices[pre.target_id],
        )
        request_id = RequestId(pre.originator_id, pre.target_id, pre.originator_counter)
        response_id = RequestId(pre.target_id, pre.originator_id, pre.originator_counter)
        return build_response(
            DuisResponse(
                "I0",
                world.dcc._now(),
                ServiceResponseBody(alert.to_bytes()),
                request_id=request_id,
                response_id=response_id,
            ),
            world.pki.dcc_xml,
        )

    refused(world, octets, "a Alert where the device's response")


def test_a_pre_command_or_acknowledgement_is_refused_here(world):
    dcc = world.dcc

    def acknowledgement(pre):
        identity = RequestId(pre.originator_id, pre.target_id, pre.originator_counter)
        return dcc.acknowledgement(identity)

    refused(world, acknowledgement, "DUIS message refused")


@given(octets=st.binary(max_size=200) | st.sampled_from([b"<a/>", b"<!DOCTYPE a><a/>", b"\xff"]))
def test_garbage_is_refused(pki, octets):
    reader = ReceivedReader(
        pki.keystore(), supplier_id=next(iter(pki.devices)), load_controller_id=None
    )
    with pytest.raises(ReceivedRefused, match="DUIS message refused"):
        reader.read_untrusted(octets, at=None)


def test_a_repeated_answer_is_ignored(world):
    def check(gateway, pre, handle):
        octets = world.dcc.service_response(pre, (0,))
        for _ in range(3):
            gateway.receive_untrusted(octets)
        # With other results, too: the first answer counts.
        gateway.receive_untrusted(world.dcc.service_response(pre, (3,)))

    assert with_accepted_request(world, check).state is DeliveryState.REASSEMBLED


def test_an_answer_to_a_request_that_was_never_made_is_ignored(world, caplog):
    def check(gateway, pre, handle):
        unknown = replace(pre, originator_counter=pre.originator_counter + 1000)
        gateway.receive_untrusted(world.dcc.service_response(unknown, (0,)))
        assert "is not known here" in caplog.text
        assert not handle.status.final

    assert with_accepted_request(world, check).state is DeliveryState.REASSEMBLED


def test_an_answer_to_a_request_that_was_not_sent_yet_is_ignored(world):
    """Its counters are reserved, so that it can be guessed; a device cannot have answered it."""
    dcc = world.dcc

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, bytes(range(256)))
            await asyncio.sleep(0.5)
            first = dcc.signed[0].pre_command
            assert len(dcc.signed) < handle.status.fragments_total
            not_sent = handle.status.first_counter + handle.status.fragments_total - 1
            second = replace(first, originator_counter=not_sent)
            gateway.receive_untrusted(dcc.service_response(second, (0,) * 5))
            assert handle.status.fragments_delivered == 0
            return await handle.wait()

    status = world.run(main)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.signed) == status.fragments_total


# Alerts


@pytest.fixture
def reader(world):
    return ReceivedReader(
        world.keystore, supplier_id=world.supplier, load_controller_id=world.load_controller
    )


def read(world, reader, make):
    async def main():
        return reader.read_untrusted(make(world.dcc), at=world.dcc._now())

    return world.run(main)


def test_an_alert_is_read_whichever_identity_it_is_posted_to(world, reader):
    for user in (world.supplier, world.load_controller):
        found = read(world, reader, lambda dcc, user=user: dcc.alert("text", 5, user=user))
        assert found == DeviceAlert(world.device, 5, "text")


BAD_ALERTS = {
    "unsigned": (lambda w, d: d.alert("x", 5, unsigned=True), "DUIS message refused"),
    "foreign dcc": (lambda w, d: d.alert("x", 5, signer=w.pki.foreign_xml), "DUIS message"),
    "other device's key": (
        lambda w, d: d.alert("x", 5, device_signer=w.pki.devices[w.other_device]),
        "signature does not hold",
    ),
    "unknown device": (
        lambda w, d: d.alert(
            "x", 5, device=w.load_controller, device_signer=w.pki.devices[w.device]
        ),
        "refused",
    ),
    "another recipient": (
        lambda w, d: d.alert("x", 5, recipient=w.load_controller),
        "expected the supplier",
    ),
    "another party": (lambda w, d: d.alert("x", 5, party=w.supplier), "expected the load"),
    "no party": (lambda w, d: d.alert("x", 5, party=None), "expected the load controller"),
    "envelope of another device": (
        lambda w, d: d.alert("x", 5, response_id=RequestId(w.other_device, w.supplier, 5)),
        "the envelope says",
    ),
    "envelope of another counter": (
        lambda w, d: d.alert("x", 5, response_id=RequestId(w.device, w.supplier, 6)),
        "does not fit",
    ),
    "envelope to another user": (
        lambda w, d: d.alert("x", 5, response_id=RequestId(w.device, w.other_device, 5)),
        "does not fit",
    ),
}


@pytest.mark.parametrize("kind", BAD_ALERTS)
def test_a_bad_alert_is_refused(world, reader, kind):
    make, says = BAD_ALERTS[kind]
    with pytest.raises(ReceivedRefused, match=says):
        read(world, reader, lambda dcc: make(world, dcc))


def test_other_alerts_are_left_alone(world, reader):
    found = read(world, reader, lambda dcc: dcc.alert("x", 5, alert_code=0x8F30))
    assert "8F30" in found.what


def test_a_response_is_read(world, reader):
    pre = PreCommand(world.supplier, world.device, 9, (Label(1, "x"),))
    found = read(world, reader, lambda dcc: dcc.service_response(pre, (0,)))
    assert found == DeviceResponse(world.device, 9, (0,))


def test_an_expired_certificate_of_the_dcc_is_refused(world, reader):
    from datetime import timedelta

    async def main():
        late = world.dcc._now() + timedelta(days=200 * 365)
        with pytest.raises(ReceivedRefused, match="DUIS message refused"):
            reader.read_untrusted(world.dcc.alert("x", 5), at=late)

    world.run(main)

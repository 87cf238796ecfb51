"""The message of route 2b and its handshake: what the vectors do not ask."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gbcs import (
    Alert,
    CraFlag,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    KeyStore,
    KeyUsage,
    Role,
    parse_untrusted,
    sign_alert,
)
from gbcs.device_link import Challenge as DeviceLinkChallenge
from gbcs.device_link import make_proof
from gbcs.errors import BuildError, FormatError, Route2bRefused, SignatureInvalid
from gbcs.inspection import Verdict, explain
from gbcs.pki import TestPki
from gbcs.route_2b import (
    DEFAULT_MESSAGE_OCTETS,
    FIXED_OCTETS,
    MAX_MESSAGE_OCTETS,
    Route2bMessage,
    is_route_2b,
    message_octets_for,
    parse_untrusted_route_2b,
    parse_untrusted_unsigned_route_2b,
    payload_capacity,
    sign_route_2b,
    verify_route_2b,
)
from gbcs.route_2b_link import MessageGuard, ServerHandshake, State
from gbcs.route_2b_texts import (
    Challenge,
    CloseCode,
    Hello,
    Proof,
    Welcome,
    cut_reason,
    parse_untrusted_hello,
)
from gbcs.route_2b_transcript import Transcript, parse_untrusted_server_octets
from gbcs.route_2b_trust import find_all_trusted, find_trusted

KEY = ec.derive_private_key(7, ec.SECP256R1())
SIGNER = EcdsaSigner(KEY)
DEVICE, SUPPLIER = EntityId(b"a device"), EntityId(b"supplier")
MESSAGE = Route2bMessage(DEVICE, SUPPLIER, 5, CraFlag.ALERT, b"payload")
SIGNED = sign_route_2b(MESSAGE, SIGNER)


@given(
    st.binary(max_size=400),
    st.integers(0, 2**64 - 1),
    st.sampled_from([CraFlag.COMMAND, CraFlag.ALERT]),
    st.data(),
)
def test_read_is_what_was_built_and_nothing_else(
    payload: bytes, counter: int, cra: CraFlag, data: st.DataObject
) -> None:
    message = Route2bMessage(DEVICE, SUPPLIER, counter, cra, payload).with_signature(bytes(64))
    octets = message.to_bytes()
    assert len(octets) == message_octets_for(len(payload)) <= len(payload) + FIXED_OCTETS
    assert parse_untrusted_route_2b(octets) == message
    # Whatever is changed, what is read gives the same octets again, or is refused.
    at = data.draw(st.integers(0, len(octets) - 1))
    other = octets[:at] + bytes([octets[at] ^ data.draw(st.integers(1, 255))]) + octets[at + 1 :]
    for damaged in (other, octets[:at], octets + other[:at]):
        try:
            read = parse_untrusted_route_2b(damaged)
        except FormatError:
            continue
        assert read.to_bytes() == damaged
        again = dataclasses.replace(read)
        assert again.to_bytes() == damaged


@given(st.binary(max_size=200))
def test_any_octets_are_refused_or_canonical(octets: bytes) -> None:
    try:
        assert parse_untrusted_route_2b(octets).to_bytes() == octets
    except FormatError:
        return


def test_neither_route_takes_the_messages_of_the_other() -> None:
    octets = SIGNED.to_bytes()
    assert is_route_2b(octets)
    with pytest.raises(FormatError, match="FF2B is that of route 2b: such a message comes over"):
        parse_untrusted(octets)
    alert = sign_alert(Alert(DEVICE, SUPPLIER, 5, "text", GbcsDateTime(), SUPPLIER), SIGNER)
    assert not is_route_2b(alert.to_bytes())
    with pytest.raises(FormatError, match="message code 0123 is not that of route 2b"):
        parse_untrusted_route_2b(alert.to_bytes())
    # The same content under the other code has another signature.
    swapped = octets.replace(b"\xff\x2b", b"\x01\x23", 1)
    assert swapped != octets
    with pytest.raises(FormatError):
        parse_untrusted(swapped)


def test_limits() -> None:
    assert payload_capacity(DEFAULT_MESSAGE_OCTETS) + FIXED_OCTETS == DEFAULT_MESSAGE_OCTETS
    octets = SIGNED.to_bytes()
    parse_untrusted_route_2b(octets, max_message_octets=len(octets))
    with pytest.raises(FormatError, match="has at most"):
        parse_untrusted_route_2b(octets, max_message_octets=len(octets) - 1)
    for limit in (0, MAX_MESSAGE_OCTETS + 1):
        with pytest.raises(BuildError, match="max_message_octets"):
            parse_untrusted_route_2b(octets, max_message_octets=limit)
    with pytest.raises(BuildError, match="shorten the payload by"):
        dataclasses.replace(MESSAGE, payload=bytes(MAX_MESSAGE_OCTETS))


def test_a_length_of_four_octets() -> None:
    message = dataclasses.replace(MESSAGE, payload=bytes(1 << 24), signature=bytes(64))
    octets = message.to_bytes()
    assert octets[33:38].hex() == "8401000001"
    assert parse_untrusted_route_2b(octets, max_message_octets=MAX_MESSAGE_OCTETS) == message


@pytest.mark.parametrize(
    "change",
    [
        {"cra_flag": CraFlag.RESPONSE},
        {"payload": "text"},
        {"signature": b"short"},
        {"originator_counter": -1},
        {"originator_id": b"a device"},
    ],
)
def test_what_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(BuildError):
        dataclasses.replace(MESSAGE, **change)


def test_signatures() -> None:
    verify_route_2b(parse_untrusted_route_2b(SIGNED.to_bytes()), KEY.public_key())
    with pytest.raises(SignatureInvalid, match="not signed"):
        verify_route_2b(MESSAGE, KEY.public_key())
    other = dataclasses.replace(SIGNED, originator_counter=6)
    with pytest.raises(SignatureInvalid):
        verify_route_2b(other, KEY.public_key())
    with pytest.raises(FormatError, match="the message is not signed"):
        parse_untrusted_route_2b(MESSAGE.to_bytes() + bytes(64))


def test_texts_that_cannot_be_built() -> None:
    good = Hello(
        version=1, device=DEVICE, dsrsp=SUPPLIER, nonce=bytes(32), offer=1, message_octets=512
    )
    assert parse_untrusted_hello(good.build()) == good
    for change in ({"nonce": b""}, {"offer": 2**32}, {"message_octets": 1}, {"version": 256}):
        with pytest.raises(BuildError):
            dataclasses.replace(good, **change)
    for make in (lambda: Challenge(1, b""), lambda: Proof(b""), lambda: Welcome(bytes(64), 0)):
        with pytest.raises(BuildError):
            make()
    with pytest.raises(FormatError, match="not JSON"):
        parse_untrusted_hello(good.build()[:-1] + ', "offer": 1}')
    assert len(cut_reason("é" * 200).encode()) <= 123


def test_a_handshake_goes_its_way_only() -> None:
    handshake = ServerHandshake(
        dsrsp=SUPPLIER,
        path_device=DEVICE,
        check_offer=lambda device, offer: None,
        message_octets=1000,
        certificate_sha256=bytes(32),
        random_octets=bytes,
    )
    with pytest.raises(BuildError, match="no proof is due: connected"):
        handshake.receive_untrusted_proof("")
    with pytest.raises(BuildError, match="no signature is due: connected"):
        handshake.welcome(bytes(64))
    with pytest.raises(Route2bRefused):
        handshake.receive_untrusted_hello("")
    assert handshake.state is State.REFUSED
    with pytest.raises(BuildError, match="no hello is due: over"):
        handshake.receive_untrusted_hello("")


def test_trust(laboratory: Any) -> None:
    keystore, now = laboratory.keystore, laboratory.now
    assert find_trusted(keystore, laboratory.device, None, now).entity_id == laboratory.device
    find_trusted(keystore, laboratory.supplier, Role.SUPPLIER, now)
    for entity_id, role, at, code in (
        (EntityId(bytes(8)), None, now, CloseCode.UNKNOWN_DEVICE),
        (laboratory.supplier, None, now, CloseCode.WRONG_ROLE),
        (laboratory.device, Role.SUPPLIER, now, CloseCode.WRONG_ROLE),
        (laboratory.load_controller, Role.SUPPLIER, now, CloseCode.WRONG_ROLE),
        (laboratory.device, None, now + timedelta(days=40_000), CloseCode.EXPIRED),
        (laboratory.device, None, now - timedelta(days=2), CloseCode.EXPIRED),
    ):
        with pytest.raises(Route2bRefused) as refused:
            find_trusted(keystore, entity_id, role, at)
        assert refused.value.code == code


def test_of_several_certificates_the_newest_that_holds() -> None:
    moment = [datetime(2026, 6, 1, tzinfo=UTC)]
    pki = TestPki.create(
        random_octets=random.Random(4).randbytes, clock=lambda: moment[0].timestamp()
    )
    begin = moment[0]
    made = []
    for later in (0, 100, 4000):
        moment[0] = begin + timedelta(days=later)
        made.append(pki.issue_organisation(SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE))
    pems = {f"{number}.pem": item.certificate.pem for number, item in enumerate(made)}
    pems |= {f"{item.file_stem}.pem": item.certificate.pem for item in pki.authorities()}
    keystore = KeyStore.from_pems(pems, test_mode=True)
    # The first ends after ten years, the third has not begun then.
    for day, expected in ((0, [0]), (99, [1, 0]), (3651, [1]), (4001, [2])):
        found = find_all_trusted(
            keystore, SUPPLIER, Role.SUPPLIER, begin + timedelta(days=day, hours=1)
        )
        assert list(found) == [made[number].certificate for number in expected]
    for day in (-5, 3800):
        with pytest.raises(Route2bRefused, match="4404"):
            find_trusted(keystore, SUPPLIER, Role.SUPPLIER, begin + timedelta(days=day))


def test_a_certificate_without_a_path_shuts_out_no_other() -> None:
    clock = datetime(2026, 6, 1, tzinfo=UTC).timestamp
    one, other = (
        TestPki.create(random_octets=random.Random(seed).randbytes, clock=clock) for seed in (4, 5)
    )
    good = one.issue_organisation(SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    strange = other.issue_organisation(SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    issued = [*one.authorities(), good, strange]
    pems = {f"{number}.pem": item.certificate.pem for number, item in enumerate(issued)}
    keystore = KeyStore.from_pems(pems, test_mode=True)
    # Test mode would take the stranger for pinned.
    keystore._test_mode = False
    now = datetime(2026, 6, 2, tzinfo=UTC)
    assert find_all_trusted(keystore, SUPPLIER, Role.SUPPLIER, now) == (good.certificate,)
    # The refusal that says most: the one out of date has a path at least.
    with pytest.raises(Route2bRefused, match="4404"):
        find_trusted(keystore, SUPPLIER, Role.SUPPLIER, now + timedelta(days=4000))


def test_a_message_that_is_too_long_has_the_code_of_websocket() -> None:
    guard = MessageGuard(DEVICE, SUPPLIER, CraFlag.ALERT, KEY.public_key(), 1000)
    with pytest.raises(Route2bRefused) as refused:
        guard.check_untrusted(bytes(1001))
    assert refused.value.code == 1009
    with pytest.raises(Route2bRefused) as refused:
        guard.check_untrusted(bytes(1000))
    assert refused.value.code == CloseCode.MALFORMED


def test_what_is_to_be_signed_is_read_as_strictly() -> None:
    octets = MESSAGE.to_bytes()
    read = parse_untrusted_unsigned_route_2b(octets, max_message_octets=len(octets) + 64)
    assert (read, read.to_bytes()) == (MESSAGE, octets)
    assert read.with_signature(SIGNED.signature or b"").to_bytes() == SIGNED.to_bytes()
    with pytest.raises(FormatError, match="at most"):
        parse_untrusted_unsigned_route_2b(octets, max_message_octets=len(octets) + 63)
    for damaged, said in (
        (SIGNED.to_bytes(), "signed already"),
        (octets + b"\x00", "expected"),
        (octets[:-1], "ends behind"),
        (octets[1:], "tag"),
    ):
        with pytest.raises(FormatError, match=said):
            parse_untrusted_unsigned_route_2b(damaged)


def test_what_a_dsrsp_signs_in_a_handshake_is_read_as_strictly() -> None:
    transcript = Transcript(1, DEVICE, SUPPLIER, bytes(32), b"n" * 32, bytes(32))
    octets = transcript.server_octets()
    assert parse_untrusted_server_octets(octets) == transcript
    for damaged, said in (
        (transcript.client_octets(), "context"),
        (octets[:-1], "octets, expected"),
        (octets + b"\x00", "octets, expected"),
        (dataclasses.replace(transcript, version=2).server_octets(), "version"),
        (dataclasses.replace(transcript, server_nonce=bytes(32)).server_octets(), "nonces"),
        (b"", "context"),
    ):
        with pytest.raises(FormatError, match=said):
            parse_untrusted_server_octets(damaged)


def test_a_proof_of_one_link_is_none_of_another() -> None:
    """Everything that a key of ours signs says first what it is, and none is the other's begin."""
    transcript = Transcript(1, DEVICE, SUPPLIER, bytes(32), bytes(32), bytes(32))
    begins = [
        octets[: octets.index(0) + 1] for octets in
        (transcript.client_octets(), transcript.server_octets(), device_link_octets())
    ]  # fmt: skip
    assert len(set(begins)) == 3
    assert not any(begin.startswith(b"\x09") for begin in begins)
    assert MESSAGE.signed_part().startswith(b"\x09")


def device_link_octets() -> bytes:
    signed: list[bytes] = []

    class Recorder:
        def sign(self, octets: bytes) -> bytes:
            signed.append(octets)
            return bytes(64)

    make_proof(DeviceLinkChallenge(bytes(32)), DEVICE, Recorder(), bytes(32))
    return signed[0]


def test_the_inspection_explains_a_message(laboratory: Any) -> None:
    signer = EcdsaSigner(laboratory.issued[f"{laboratory.device.hex}-device-ds"].private_key)
    message = Route2bMessage(
        laboratory.device, laboratory.supplier, 9, CraFlag.ALERT, bytes.fromhex("8c0001") + b"x"
    )
    octets = sign_route_2b(message, signer).to_bytes()
    inspection = explain(octets, laboratory.keystore, laboratory.now)
    assert inspection.title == "route 2b message"
    assert b"".join(field.octets for field in inspection.fields) == octets
    offset = 0
    for field in inspection.fields:
        assert field.offset == offset
        offset += len(field.octets)
    meanings = {field.title: field.meaning for field in inspection.fields}
    assert meanings["message code"] == "route 2b (assumed)"
    assert meanings["CRA flag"] == "alert"
    assert [check.verdict for check in inspection.checks] == [Verdict.HOLDS] * 2
    down = Route2bMessage(
        laboratory.supplier, laboratory.device, 9, CraFlag.COMMAND, b""
    ).with_signature(bytes(64))
    inspection = explain(down.to_bytes(), laboratory.keystore, laboratory.now)
    assert inspection.checks[0].verdict is Verdict.FAILS
    assert not inspection.holds()

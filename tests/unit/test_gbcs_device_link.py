from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gbcs import EcdsaSigner, EntityId
from gbcs.device_link import (
    Challenge,
    Proof,
    build_welcome,
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_path,
    parse_untrusted_proof,
    parse_untrusted_welcome,
    verify_proof,
)
from gbcs.errors import BuildError, FormatError, SignatureInvalid

KEY = ec.derive_private_key(7, ec.SECP256R1())
DEVICE = EntityId(b"a device")
CHALLENGE = Challenge(bytes(range(32)))
PROOF = make_proof(CHALLENGE, DEVICE, EcdsaSigner(KEY), bytes(32))


def test_the_handshake() -> None:
    challenge = parse_untrusted_challenge(CHALLENGE.build())
    assert challenge == CHALLENGE
    proof = parse_untrusted_proof(PROOF.build())
    assert proof == PROOF
    verify_proof(proof, challenge, DEVICE, KEY.public_key())
    parse_untrusted_welcome(build_welcome())


def test_the_octets_that_are_signed() -> None:
    class Recorder:
        def sign(self, data: bytes) -> bytes:
            assert data == (
                b"smtunnel device link v1\0" + DEVICE.octets + CHALLENGE.nonce + b"n" * 32
            )
            return bytes(64)

    assert make_proof(CHALLENGE, DEVICE, Recorder(), b"n" * 32).signature == bytes(64)


def test_a_proof_holds_for_one_challenge_device_and_key() -> None:
    other_key = ec.derive_private_key(8, ec.SECP256R1()).public_key()
    other_nonce = Proof(b"\1" * 32, PROOF.signature)
    for proof, challenge, device, key in (
        (PROOF, Challenge(bytes(32)), DEVICE, KEY.public_key()),
        (PROOF, CHALLENGE, EntityId(bytes(8)), KEY.public_key()),
        (PROOF, CHALLENGE, DEVICE, other_key),
        (other_nonce, CHALLENGE, DEVICE, KEY.public_key()),
    ):
        with pytest.raises(SignatureInvalid):
            verify_proof(proof, challenge, device, key)


def changed(text: str, **fields: object) -> str:
    return json.dumps({**json.loads(text), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 1000,
        "x" * 2000,
        b"{}",
        build_welcome(),
        changed(CHALLENGE.build(), version=2),
        changed(CHALLENGE.build(), version=True),
        changed(CHALLENGE.build(), version="1"),
        changed(CHALLENGE.build(), more=1),
        changed(CHALLENGE.build(), nonce=5),
        changed(CHALLENGE.build(), nonce="AAAA"),
        changed(CHALLENGE.build(), nonce=None),
        changed(CHALLENGE.build(), nonce="é" * 44),
        # the last character before the padding carries two bits that must be nought
        changed(CHALLENGE.build(), nonce="A" * 42 + "B="),
    ],
)
def test_what_is_no_challenge_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_untrusted_challenge(text)


@pytest.mark.parametrize(
    "text",
    [
        CHALLENGE.build(),
        changed(PROOF.build(), signature="AAAA"),
        changed(PROOF.build(), nonce=[]),
        changed(PROOF.build(), entity_id=DEVICE.hex),
    ],
)
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse_untrusted_proof(text)


@given(st.text() | st.binary())
def test_any_text_is_refused_or_read(text: str | bytes) -> None:
    for parse in (parse_untrusted_challenge, parse_untrusted_proof, parse_untrusted_welcome):
        with pytest.raises(FormatError):
            parse(text)


def test_paths() -> None:
    assert parse_untrusted_path(device_path(DEVICE)) == DEVICE
    assert parse_untrusted_path(f"/device/{DEVICE}") == DEVICE
    for path in ("/", "/device/", "/device/123", f"/devices/{DEVICE}", f"/device/{DEVICE}/"):
        with pytest.raises(FormatError, match="/device/"):
            parse_untrusted_path(path)


def test_lengths_are_checked() -> None:
    with pytest.raises(BuildError):
        Challenge(bytes(31))
    with pytest.raises(BuildError):
        Proof(bytes(32), bytes(63))
    with pytest.raises(BuildError):
        make_proof(CHALLENGE, DEVICE, EcdsaSigner(KEY), b"")

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs import (
    EcdsaSigner,
    EntityId,
    Label,
    PreCommand,
    Response,
    shared_secret,
    sign_pre_command,
    sign_response,
    verify_message,
    verify_signature,
)
from gbcs.errors import BuildError, SignatureInvalid

KEY = ec.derive_private_key(7, ec.SECP256R1())
OTHER_CURVE = ec.derive_private_key(7, ec.SECP384R1())
PRE_COMMAND = PreCommand(EntityId(bytes(8)), EntityId(b"a device"), 1, (Label(1, "x"),))


def test_a_signature_is_64_octets_and_holds() -> None:
    signature = EcdsaSigner(KEY).sign(b"data")
    assert len(signature) == 64
    verify_signature(KEY.public_key(), signature, b"data")


def test_deterministic_signatures_are_the_same_each_time() -> None:
    signer = EcdsaSigner(KEY, deterministic=True)
    assert signer.sign(b"data") == signer.sign(b"data")
    verify_signature(KEY.public_key(), signer.sign(b"data"), b"data")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65), bytes(64), b"\xff" * 64], ids=len)
def test_what_is_no_signature_is_invalid(signature: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify_signature(KEY.public_key(), signature, b"data")


def test_unsigned_messages_are_invalid() -> None:
    with pytest.raises(SignatureInvalid, match="response is not signed"):
        verify_message(Response.answering(PRE_COMMAND, (0,)), KEY.public_key())


def test_messages_are_signed() -> None:
    signer = EcdsaSigner(KEY)
    verify_message(sign_pre_command(PRE_COMMAND, signer), KEY.public_key())
    verify_message(sign_response(Response.answering(PRE_COMMAND, (0,)), signer), KEY.public_key())


def test_other_curves_are_refused() -> None:
    with pytest.raises(BuildError, match="P-256"):
        EcdsaSigner(OTHER_CURVE)
    for private, public in ((KEY, OTHER_CURVE), (OTHER_CURVE, KEY)):
        with pytest.raises(BuildError, match="P-256"):
            shared_secret(private, public.public_key())


def test_both_sides_get_the_same_secret() -> None:
    other = ec.derive_private_key(8, ec.SECP256R1())
    z = shared_secret(KEY, other.public_key())
    assert z == shared_secret(other, KEY.public_key())
    assert len(z) == 32

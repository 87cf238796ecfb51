"""What a signing service is asked for route 2b, of the vectors of route 2b: the same signatures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dsrsp.http_signer import USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF
from gbcs import EcdsaSigner, EntityId
from gbcs.route_2b_texts import parse_untrusted_welcome
from lab.signing_policy import RequestRefused, SigningPolicy

VECTORS = json.loads(
    (Path(__file__).resolve().parents[2] / "specs/vectors/route-2b.json").read_text()
)
HANDSHAKE = VECTORS["handshake"]
MESSAGES = {case["name"]: case for case in VECTORS["messages"]}
USES = (USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF)


def signed(use: str, octets: bytes) -> bytes:
    key = ec.derive_private_key(int(VECTORS["keys"]["supplier"]["private"], 16), ec.SECP256R1())
    supplier = EntityId.parse(HANDSHAKE["dsrsp"])
    policy = SigningPolicy(supplier, per_minute=dict.fromkeys(USES, 9), message_octets=1 << 20)
    granted = policy.grant_untrusted(use, octets, 0.0)
    return EcdsaSigner(key, deterministic=True).sign(granted.octets)


def unsigned(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["octets"])[:-65] + b"\x00"


def test_a_message() -> None:
    case = MESSAGES["down, a short one"]
    assert signed(USE_ROUTE_2B_MESSAGE, unsigned(case)).hex() == case["octets"][-128:]


def test_a_proof() -> None:
    octets = bytes.fromhex(HANDSHAKE["server_signs"])
    assert len(octets) == 138
    welcome = parse_untrusted_welcome(HANDSHAKE["welcome"])
    assert signed(USE_ROUTE_2B_PROOF, octets) == welcome.signature


@pytest.mark.parametrize(
    ("use", "octets"),
    [
        (USE_ROUTE_2B_MESSAGE, unsigned(MESSAGES["up, a short one"])),
        (USE_ROUTE_2B_MESSAGE, unsigned(MESSAGES["content of 256 octets"])),
        (USE_ROUTE_2B_MESSAGE, bytes.fromhex(HANDSHAKE["server_signs"])),
        (USE_ROUTE_2B_PROOF, bytes.fromhex(HANDSHAKE["client_signs"])),
        (USE_ROUTE_2B_PROOF, unsigned(MESSAGES["down, a short one"])),
    ],
    ids=["of a CEM", "no fragment", "a proof", "of a client", "a message"],
)
def test_what_is_not_signed(use: str, octets: bytes) -> None:
    with pytest.raises(RequestRefused):
        signed(use, octets)

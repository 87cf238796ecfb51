"""The library against the vectors of route 2b, which a second reading of the specification made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs import CraFlag, EcdsaSigner, EntityId
from gbcs.errors import FormatError, Route2bRefused
from gbcs.route_2b import (
    MAX_MESSAGE_OCTETS,
    Route2bMessage,
    parse_untrusted_route_2b,
    sign_route_2b,
    verify_route_2b,
)
from gbcs.route_2b_link import ClientHandshake, MessageGuard, ServerHandshake, State
from gbcs.route_2b_texts import (
    SUBPROTOCOL,
    parse_untrusted_route_2b_path,
    parse_untrusted_try_later,
    route_2b_path,
)
from gbcs.route_2b_transcript import parse_untrusted_server_octets

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((ROOT / "specs/vectors/route-2b.json").read_text(encoding="utf-8"))
HANDSHAKE = VECTORS["handshake"]
DEVICE, DSRSP = EntityId.parse(HANDSHAKE["device"]), EntityId.parse(HANDSHAKE["dsrsp"])
KEYS = {
    name: ec.derive_private_key(int(key["private"], 16), ec.SECP256R1())
    for name, key in VECTORS["keys"].items()
}


def named(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def test_the_file_is_what_the_script_makes() -> None:
    script = ROOT / "scripts/make_route_2b_vectors.py"
    made = subprocess.run([sys.executable, script], capture_output=True, check=True)
    assert json.loads(made.stdout) == VECTORS


@named(VECTORS["messages"])
def test_messages(case: dict[str, Any]) -> None:
    payload = bytes.fromhex(case["payload"]) * case.get("payload_repeated", 1)
    message = sign_route_2b(
        Route2bMessage(
            EntityId.parse(case["originator_id"]),
            EntityId.parse(case["target_id"]),
            int(case["originator_counter"]),
            CraFlag(case["cra_flag"]),
            payload,
        ),
        EcdsaSigner(KEYS[case["signed_by"]], deterministic=True),
    )
    octets = message.to_bytes()
    assert len(octets) == case["octet_count"]
    if "octets" in case:
        assert octets.hex() == case["octets"]
    else:
        assert octets.hex().startswith(case["octets_begin"])
        assert octets[-64:].hex() == case["signature"]
        assert sha256(octets).hexdigest() == case["octets_sha256"]
    read = parse_untrusted_route_2b(octets, max_message_octets=MAX_MESSAGE_OCTETS)
    assert read == message
    assert read.to_bytes() == octets
    verify_route_2b(read, KEYS[case["signed_by"]].public_key())


@named(VECTORS["refused_messages"])
def test_refused_messages(case: dict[str, Any]) -> None:
    guard = MessageGuard(DEVICE, DSRSP, CraFlag.ALERT, KEYS["device"].public_key(), 1 << 20)
    with pytest.raises(Route2bRefused) as refused:
        guard.check_untrusted(bytes.fromhex(case["octets"]))
    assert refused.value.code == case["close_code"]


def nonce(name: str) -> Callable[[int], bytes]:
    return lambda count: bytes.fromhex(HANDSHAKE[name])[:count]


def client() -> ClientHandshake:
    return ClientHandshake(
        device=DEVICE,
        dsrsp=DSRSP,
        offer=HANDSHAKE["offer"],
        message_octets=1 << 20,
        certificate_sha256=bytes.fromhex(HANDSHAKE["certificate_sha256"]),
        signer=EcdsaSigner(KEYS["device"], deterministic=True),
        dsrsp_key=KEYS["supplier"].public_key(),
        random_octets=nonce("client_nonce"),
    )


def server() -> ServerHandshake:
    def check(device: EntityId, offer: int) -> str | None:
        return None if offer == HANDSHAKE["offer"] else "not known"

    return ServerHandshake(
        dsrsp=DSRSP,
        path_device=DEVICE,
        check_offer=check,
        message_octets=2 << 20,
        certificate_sha256=bytes.fromhex(HANDSHAKE["certificate_sha256"]),
        random_octets=nonce("server_nonce"),
    )


def test_the_handshake() -> None:
    us, them = client(), server()
    hello = us.begin()
    assert json.loads(hello) == json.loads(HANDSHAKE["hello"])
    assert them.receive_untrusted_hello(HANDSHAKE["hello"]).message_octets == 1 << 20
    challenge = them.admit(KEYS["device"].public_key())
    assert json.loads(challenge) == json.loads(HANDSHAKE["challenge"])
    proof = us.receive_untrusted_challenge(HANDSHAKE["challenge"])
    assert json.loads(proof) == json.loads(HANDSHAKE["proof"])
    signer = EcdsaSigner(KEYS["supplier"], deterministic=True)
    to_sign = them.receive_untrusted_proof(HANDSHAKE["proof"]).server_octets()
    assert parse_untrusted_server_octets(to_sign).server_octets() == to_sign
    welcome = them.welcome(signer.sign(to_sign))
    assert json.loads(welcome) == json.loads(HANDSHAKE["welcome"])
    assert us.receive_untrusted_welcome(HANDSHAKE["welcome"]).message_octets == 2 << 20
    assert us.state is them.state is State.OPEN
    assert us._transcript.client_octets().hex() == HANDSHAKE["client_signs"]
    assert them._transcript.server_octets().hex() == HANDSHAKE["server_signs"]
    assert HANDSHAKE["path"] == route_2b_path(DEVICE)
    assert HANDSHAKE["subprotocol"] == SUBPROTOCOL


@named(VECTORS["refused_texts"])
def test_refused_texts(case: dict[str, Any]) -> None:
    us, them = client(), server()
    us.begin()
    refuse = {
        "hello": them.receive_untrusted_hello,
        "challenge": us.receive_untrusted_challenge,
        "proof": them.receive_untrusted_proof,
        "welcome": us.receive_untrusted_welcome,
    }[case["step"]]
    if case["step"] == "proof":
        them.receive_untrusted_hello(HANDSHAKE["hello"])
        them.admit(KEYS["device"].public_key())
    if case["step"] == "welcome":
        us.receive_untrusted_challenge(HANDSHAKE["challenge"])
    with pytest.raises(Route2bRefused) as refused:
        refuse(case["text"])
    assert refused.value.code == case["close_code"]
    assert State.REFUSED in (us.state, them.state)


@pytest.mark.parametrize("path", VECTORS["refused_paths"])
def test_refused_paths(path: str) -> None:
    with pytest.raises(FormatError):
        parse_untrusted_route_2b_path(path)


@pytest.mark.parametrize("case", VECTORS["try_later"])
def test_try_later(case: dict[str, Any]) -> None:
    assert parse_untrusted_try_later(case["reason"]) == case["wait_s"]

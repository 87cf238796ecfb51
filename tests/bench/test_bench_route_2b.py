"""What route 2b costs: memory a connection, and a message against its signature alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from gbcs import CraFlag, EcdsaSigner, EntityId
from gbcs.route_2b import Route2bMessage, parse_untrusted_route_2b, sign_route_2b, verify_route_2b

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/measure_route_2b.py"
CONNECTIONS = int(os.environ.get("SMTUNNEL_CONNECTIONS", "300"))
MOST_OCTETS_A_CONNECTION = 128 * 1024
PAYLOAD = bytes(1000)

pytestmark = pytest.mark.bench


def test_connections_held() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", "--connections", str(CONNECTIONS)],
        capture_output=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    print()
    for name, value in figures.items():
        print(f"  {name:<36}{value:,.2f}" if isinstance(value, float) else f"  {name:<36}{value:,}")
    assert figures["broadcast_queued"] == CONNECTIONS
    assert figures["octets_a_connection"] < MOST_OCTETS_A_CONNECTION


def microseconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(200):
            work()
        best = min(best, time.perf_counter() - began)
    return best / 200 * 1e6


def test_a_message_against_its_signature_alone() -> None:
    key = ec.derive_private_key(7, ec.SECP256R1())
    public, algorithm, signer = key.public_key(), ec.ECDSA(SHA256()), EcdsaSigner(key)
    device, supplier = EntityId(b"a device"), EntityId(b"supplier")
    message = Route2bMessage(device, supplier, 1, CraFlag.ALERT, PAYLOAD)
    octets = sign_route_2b(message, signer).to_bytes()
    signature = key.sign(octets[:-65], algorithm)

    def make() -> bytes:
        fresh = Route2bMessage(device, supplier, 1, CraFlag.ALERT, PAYLOAD)
        return sign_route_2b(fresh, signer).to_bytes()

    rows = (
        ("build and sign", make, lambda: key.sign(octets[:-65], algorithm)),
        (
            "read and verify",
            lambda: verify_route_2b(parse_untrusted_route_2b(octets), public),
            lambda: public.verify(signature, octets[:-65], algorithm),
        ),
    )
    print()
    for name, ours, floor in rows:
        ours_us, floor_us = microseconds(ours), microseconds(floor)
        print(f"  {name:<18}{ours_us:7.1f} us, signature alone {floor_us:7.1f} us, "
              f"ratio {ours_us / floor_us:.2f}")  # fmt: skip
        assert ours_us > 0

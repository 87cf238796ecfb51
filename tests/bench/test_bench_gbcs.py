"""What GBCS messages cost beside the bare signature they cannot do without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    Label,
    PreCommand,
    add_mac,
    parse_untrusted,
    sign_alert,
    sign_pre_command,
    verify_mac,
    verify_message,
)

ROUNDS = 300
SUPPLIER, DEVICE, LOAD_CONTROLLER = (EntityId(bytes(7) + bytes((n,))) for n in (1, 2, 3))
KEY = ec.derive_private_key(7, ec.SECP256R1())
PUBLIC_KEY = KEY.public_key()
SIGNER = EcdsaSigner(KEY)
ECDSA = ec.ECDSA(SHA256())
Z = bytes(32)
TEXT = "x" * 1062


def ratio(name: str, floor: Callable[[], object], work: Callable[[], object]) -> None:
    """Print the median of work in medians of floor, taken in turns in the same run."""
    times: dict[Callable[[], object], list[float]] = {floor: [], work: []}
    for _ in range(20):
        floor()
        work()
    for _ in range(ROUNDS):
        for one, spent in times.items():
            begin = time.perf_counter()
            one()
            spent.append(time.perf_counter() - begin)
    floor_s, work_s = (statistics.median(spent) for spent in times.values())
    print(
        f"\n{name}: {work_s / floor_s:.2f} x the floor "
        f"({work_s * 1e6:.0f} us against {floor_s * 1e6:.0f} us)"
    )


def pre_command() -> PreCommand:
    labels = tuple([Label(index, TEXT[:22]) for index in range(1, 6)])
    return PreCommand(SUPPLIER, DEVICE, 12345, labels)


@pytest.mark.bench
def test_build_and_sign_an_ecs46a() -> None:
    octets = pre_command().to_bytes()
    ratio(
        "build + sign a full ECS46a, floor one ECDSA P-256 signature",
        lambda: KEY.sign(octets, ECDSA),
        lambda: sign_pre_command(pre_command(), SIGNER).to_bytes(),
    )


@pytest.mark.bench
def test_parse_and_verify_an_ecs46a() -> None:
    octets = sign_pre_command(pre_command(), SIGNER).to_bytes()
    signature = KEY.sign(octets, ECDSA)
    ratio(
        "parse + verify a full ECS46a, floor one ECDSA P-256 verification",
        lambda: PUBLIC_KEY.verify(signature, octets, ECDSA),
        lambda: verify_message(parse_untrusted(octets), PUBLIC_KEY),  # type: ignore[arg-type]
    )


@pytest.mark.bench
def test_parse_and_verify_a_command_with_mac() -> None:
    octets = add_mac(sign_pre_command(pre_command(), SIGNER), Z).to_bytes()
    signature = KEY.sign(octets, ECDSA)

    def work() -> None:
        command = parse_untrusted(octets)
        if isinstance(command, Command):
            verify_mac(command, Z)
            verify_message(command, PUBLIC_KEY)

    ratio(
        "parse + verify a full ECS46a and its MAC, floor one ECDSA P-256 verification",
        lambda: PUBLIC_KEY.verify(signature, octets, ECDSA),
        work,
    )


@pytest.mark.bench
def test_build_and_sign_an_ecs200() -> None:
    when = GbcsDateTime.from_timestamp(1_735_689_600)
    octets = Alert(DEVICE, SUPPLIER, 1, TEXT, when, LOAD_CONTROLLER).to_bytes()
    ratio(
        "build + sign a full ECS200, floor one ECDSA P-256 signature",
        lambda: KEY.sign(octets, ECDSA),
        lambda: sign_alert(
            Alert(DEVICE, SUPPLIER, 1, TEXT, GbcsDateTime.from_timestamp(1e9), LOAD_CONTROLLER),
            SIGNER,
        ).to_bytes(),
    )

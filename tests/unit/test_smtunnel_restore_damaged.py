"""Saved rows that contradict each other are refused at the restart, not stumbled over later."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from smtunnel import Confirmation, Endpoint, Originator, SendPolicy, StateError
from smtunnel.send_states import SendState

PEER = b"\x02\x53MT\x00\x00\x00\x01"


class Counters:
    next = 1

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % 65_536 + 1
        return self.next - 1


def endpoint() -> Endpoint:
    return Endpoint(
        side=Originator.DSRSP,
        counters=Counters(),
        policy=SendPolicy(confirmation=Confirmation.RESULTS),
        random_fraction=random.Random(1).random,
    )


@pytest.fixture
def rows() -> dict[str, bytes]:
    sender = endpoint()
    sender.restore((), 0.0)
    saves = sender.send("m", PEER, random.Random(2).randbytes(400), 1.0).saves
    return {key: octets for key, octets in saves.items() if octets is not None}


def test_whole_rows_are_taken(rows: dict[str, bytes]) -> None:
    assert endpoint().restore(rows.items(), 2.0).transmits


def test_a_live_message_without_its_id(rows: dict[str, bytes]) -> None:
    kept = {key: octets for key, octets in rows.items() if "/i/" not in key}
    assert len(kept) < len(rows)
    with pytest.raises(StateError, match="id of message"):
        endpoint().restore(kept.items(), 2.0)


def test_a_control_message_of_no_peer(rows: dict[str, bytes]) -> None:
    with pytest.raises(StateError):
        endpoint().restore({**rows, "xyz/m/~1": b""}.items(), 2.0)


def test_a_fragment_that_is_no_text() -> None:
    row = {f"{PEER.hex()}/f/1/1": bytes(16) + b"\xff" * 8}
    with pytest.raises(StateError):
        endpoint().restore(row.items(), 2.0)


def test_a_message_that_had_ended(rows: dict[str, bytes]) -> None:
    key = f"{PEER.hex()}/s/m"
    damaged = rows[key][:1] + bytes([SendState.FAILED]) + rows[key][2:]
    with pytest.raises(StateError, match="contradicts itself"):
        endpoint().restore({**rows, key: damaged}.items(), 2.0)

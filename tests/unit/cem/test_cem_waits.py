"""What the CEM knows of a message that waits for route 2b."""

from __future__ import annotations

import math

import pytest

from smtunnel import RouteChoice

NOW = 1_700_000_000.0


@pytest.fixture
def store(world):
    with_store = world.store()
    yield with_store
    with_store.close()


@pytest.fixture
def tunnel(world, store):
    made = world.tunnel(store)
    made.start(NOW)
    return made


def test_nothing_waits_for_a_route_that_never_stood(tunnel) -> None:
    tunnel.send("a", b"x", "auto", NOW)
    assert tunnel.waits_for_route_2b_s("a", NOW) is None


def test_after_the_route_went_down_it_is_known_when_the_other_is_taken(world, store, tunnel):
    tunnel.route_up(65536, NOW)
    tunnel.send("sent", b"x", "auto", NOW)
    assert tunnel.waits_for_route_2b_s("sent", NOW) is None
    tunnel.route_down(NOW + 10)
    tunnel.send("waits", b"x", "auto", NOW + 20)
    tunnel.send("urgent", b"x", "auto", NOW + 20, urgent=True)
    tunnel.send("only", b"x", "auto", NOW + 20, route=RouteChoice.ONLY_2B)
    tunnel.send("other", b"x", "auto", NOW + 20, route=RouteChoice.ONLY_2A)
    waits = {
        ref: tunnel.waits_for_route_2b_s(ref, NOW + 20)
        for ref in ("sent", "waits", "urgent", "only", "other", "unknown")
    }
    assert waits == {
        "sent": 290.0,
        "waits": 290.0,
        "urgent": None,
        "only": math.inf,
        "other": None,
        "unknown": None,
    }
    # Another process knows it too, and it ends when it was told to end.
    again = world.tunnel(store)
    again.start(NOW + 100)
    assert again.waits_for_route_2b_s("waits", NOW + 100) == 210.0
    again.handle_timer(NOW + 311)
    assert again.waits_for_route_2b_s("waits", NOW + 311) is None
    assert again.waits_for_route_2b_s("only", NOW + 311) == math.inf
    again.route_up(65536, NOW + 320)
    assert again.waits_for_route_2b_s("only", NOW + 320) is None

from __future__ import annotations

import re

import msgspec
import pytest

import cem.errors
from cem import CemConfig, CemError, ConfigurationError
from gbcs import EntityId


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hub_url", "http://127.0.0.1:8090"),
        ("hub_url", "ws://"),
        ("hub_url", "ws://127.0.0.1:8090/?a=b"),
        ("hub_url", "ws://[::1"),
        ("hub_url", "ws://127.0.0.1:99999"),
        ("hub_url", ""),
        ("state", ""),
        ("counter_reserve", 0),
        ("counter_floor", -1),
        ("counter_floor", 2**64),
        ("message_octets", 0),
        ("unacknowledged_messages", 0),
        ("queued_messages", 0),
        ("finished_messages", 0),
        ("replay_window", 0),
        ("replay_window", 65536),
        ("reconnect_min_s", 0.0),
        ("reconnect_min_s", 100.0),
        ("reconnect_max_s", float("inf")),
        ("link_timeout_s", -1.0),
        ("keepalive_s", float("nan")),
        ("alerts_per_window", -1),
        ("alert_window_s", 0.0),
        ("messages_in_flight", 0),
        ("messages_in_flight", 256),
        ("fragment_attempts", 256),
        ("receipt_timeout_s", 0.0),
        ("receipt_timeout_max_s", 1.0),
        ("message_lifetime_s", float("inf")),
        ("load_controller_id", EntityId.parse("90b3d51f30010000")),
    ],
)
def test_impossible_values_are_refused(world, field, value) -> None:
    with pytest.raises(ConfigurationError):
        world.config(**{field: value})


def test_file_with_impossible_value_is_a_validation_error() -> None:
    fields = {
        "device_id": "02534d5400000001",
        "supplier_id": "90b3d51f30010000",
        "load_controller_id": "90b3d51f30010008",
        "state": "cem.sqlite",
    }

    def convert(**changes):
        return msgspec.convert(
            fields | changes, CemConfig, dec_hook=lambda _kind, value: EntityId.parse(value)
        )

    assert convert().hub_url == "ws://127.0.0.1:8090"
    with pytest.raises(msgspec.ValidationError, match="hub_url"):
        convert(hub_url="nonsense")
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        convert(colour="red")


def test_error_tree_is_the_documented_one() -> None:
    documented = {}
    stack: list[tuple[int, str]] = []
    for line in (cem.errors.__doc__ or "").splitlines():
        if found := re.match(r"^([ │├└─]*)([A-Z]\w+)", line):
            depth = len(found[1])
            if depth < 4:
                continue
            while stack and stack[-1][0] >= depth:
                stack.pop()
            documented[found[2]] = stack[-1][1] if stack else "Exception"
            stack.append((depth, found[2]))
    classes = {
        name: item.__bases__[0].__name__
        for name, item in vars(cem.errors).items()
        if isinstance(item, type) and issubclass(item, CemError)
    }
    assert documented == classes

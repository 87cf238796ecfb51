from __future__ import annotations

import math

import pytest

from gbcs import GbcsDateTime
from gbcs.errors import BuildError, FormatError

# 2015-01-01, as in the alert of the real system: weekday, deviation and status are not given
MIDNIGHT = bytes.fromhex("07DF0101FF000000008000FF")


def test_a_time_is_written_as_the_real_system_writes_it() -> None:
    assert GbcsDateTime.from_timestamp(1_420_070_400).to_bytes() == MIDNIGHT


def test_a_time_is_read() -> None:
    date_time = GbcsDateTime.parse_untrusted(MIDNIGHT)
    assert date_time.timestamp() == 1_420_070_400
    assert str(date_time) == "2015-01-01T00:00:00.00Z"


def test_nothing_given() -> None:
    nothing = GbcsDateTime()
    assert nothing.to_bytes() == bytes.fromhex("FFFFFFFFFFFFFFFFFF8000FF")
    assert nothing.timestamp() is None
    assert str(nothing) == "????-??-??T??:??:??.??Z"


def test_local_time_and_its_deviation() -> None:
    # one hour ahead of UTC is a deviation of -60 minutes
    local = GbcsDateTime(2015, 1, 1, None, 1, 0, 0, 0, -60)
    assert local.timestamp() == 1_420_070_400
    assert str(local).endswith("UTC+60 min")


def test_hundredths() -> None:
    assert GbcsDateTime.from_timestamp(0.999).hundredths == 99


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"month": 13}, "month is 13, it must be 1 to 12"),
        ({"year": 10000}, "year"),
        ({"hour": 24}, "hour"),
        ({"deviation_minutes": -721}, "deviation_minutes"),
        ({"status": 255}, "status"),
        ({"second": "0"}, "second"),
        ({"year": 2023, "month": 2, "day": 29}, "no day 2023-02-29"),
    ],
)
def test_impossible_times_are_refused(fields: dict[str, int], told: str) -> None:
    with pytest.raises(BuildError, match=told):
        GbcsDateTime(**fields)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1e20, 1e20])
def test_impossible_timestamps_are_refused(seconds: float) -> None:
    with pytest.raises(BuildError, match="seconds since 1970"):
        GbcsDateTime.from_timestamp(seconds)


@pytest.mark.parametrize(
    "octets", [b"", MIDNIGHT[:-1], MIDNIGHT + b"\x00", bytes(12), MIDNIGHT[:2] + b"\x0d" * 10]
)
def test_malformed_date_times_are_refused(octets: bytes) -> None:
    with pytest.raises(FormatError):
        GbcsDateTime.parse_untrusted(octets)

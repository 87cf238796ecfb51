"""The date and time of a GBCS message, in twelve octets."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from gbcs.errors import BuildError, FormatError

DATE_TIME_OCTETS = 12

_LAYOUT = struct.Struct(">HBBBBBBBhB")
_YEAR_NOT_GIVEN = 0xFFFF
_NOT_GIVEN = 0xFF
_DEVIATION_NOT_GIVEN = -0x8000
_RANGES = {
    "year": (1, 9999),
    "month": (1, 12),
    "day": (1, 31),
    "weekday": (1, 7),
    "hour": (0, 23),
    "minute": (0, 59),
    "second": (0, 59),
    "hundredths": (0, 99),
    "deviation_minutes": (-720, 840),
    "status": (0, 0xFE),
}
_NOT_GIVEN_AS = (_YEAR_NOT_GIVEN, *(_NOT_GIVEN,) * 7, _DEVIATION_NOT_GIVEN, _NOT_GIVEN)


@dataclass(frozen=True, slots=True)
class GbcsDateTime:
    """A date and time of which any part may be not given (None).

    Args:
        year: 1 to 9999.
        month: 1 to 12.
        day: 1 to 31, within the month.
        weekday: 1 (Monday) to 7.
        hour: 0 to 23.
        minute: 0 to 59.
        second: 0 to 59.
        hundredths: of a second, 0 to 99.
        deviation_minutes: local time to UTC, -720 to 840; GBCS times are UTC and leave it out.
        status: clock status, 0 to 254.

    Raises:
        BuildError: a part is out of range, or there is no such day.

    Source: IEC 62056-6-2 (COSEM) date-time; GBCS 4.3 use case ECS200.
    """

    year: int | None = None
    month: int | None = None
    day: int | None = None
    weekday: int | None = None
    hour: int | None = None
    minute: int | None = None
    second: int | None = None
    hundredths: int | None = None
    deviation_minutes: int | None = None
    status: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and low <= value <= high):
                raise BuildError(f"date-time: {name} is {value!r}, it must be {low} to {high}")
        if self.year is not None and self.month is not None and self.day is not None:
            try:
                datetime(self.year, self.month, self.day, tzinfo=UTC)
            except ValueError:
                raise BuildError(
                    f"date-time: there is no day {self.year}-{self.month:02}-{self.day:02}"
                ) from None

    @classmethod
    def from_timestamp(cls, seconds: float) -> GbcsDateTime:
        """Return the UTC time, to the hundredth of a second; weekday and deviation not given.

        Args:
            seconds: since 1970-01-01T00:00:00Z.

        Raises:
            BuildError: not a time of the years 1 to 9999.
        """
        try:
            moment = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            raise BuildError(f"{seconds!r} is not a time in seconds since 1970") from None
        return cls(
            year=moment.year,
            month=moment.month,
            day=moment.day,
            hour=moment.hour,
            minute=moment.minute,
            second=moment.second,
            hundredths=moment.microsecond // 10_000,
        )

    @classmethod
    def parse_untrusted(cls, octets: bytes) -> GbcsDateTime:
        """Read a date-time.

        Args:
            octets: 12 octets.

        Raises:
            FormatError: another length, a part out of range, or no such day.
        """
        if len(octets) != DATE_TIME_OCTETS:
            raise FormatError(f"a date-time has {DATE_TIME_OCTETS} octets, not {len(octets)}")
        parts = zip(_LAYOUT.unpack(octets), _NOT_GIVEN_AS, strict=True)
        try:
            return cls(*(None if value == not_given else value for value, not_given in parts))
        except BuildError as error:
            raise FormatError(str(error)) from None

    def to_bytes(self) -> bytes:
        """Return the 12 octets; what is not given as FF, FFFF or 8000."""
        values = (getattr(self, name) for name in _RANGES)
        return _LAYOUT.pack(
            *(
                not_given if value is None else value
                for value, not_given in zip(values, _NOT_GIVEN_AS, strict=True)
            )
        )

    def timestamp(self) -> float | None:
        """Return seconds since 1970-01-01T00:00:00Z, or None when date or time are not given.

        What is finer than the hour counts as nought where not given.
        """
        if self.year is None or self.month is None or self.day is None or self.hour is None:
            return None
        moment = datetime(
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute or 0,
            self.second or 0,
            (self.hundredths or 0) * 10_000,
            tzinfo=UTC,
        )
        # deviation is what must be added to local time to get UTC
        return moment.timestamp() + 60 * (self.deviation_minutes or 0)

    def __str__(self) -> str:
        date = "-".join((_shown(self.year, 4), _shown(self.month, 2), _shown(self.day, 2)))
        time = ":".join(_shown(part, 2) for part in (self.hour, self.minute, self.second))
        deviation = "Z" if not self.deviation_minutes else f" UTC{-self.deviation_minutes:+} min"
        return f"{date}T{time}.{_shown(self.hundredths, 2)}{deviation}"


def _shown(value: int | None, digits: int) -> str:
    return "?" * digits if value is None else f"{value:0{digits}}"

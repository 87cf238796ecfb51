"""What the logic asks the world to do, in order, after the state is durable."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from gbcs.entity_id import EntityId


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send a GBCS message to a device that is connected."""

    device: EntityId
    request_id: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Post:
    """POST a DUIS message to a user; tell the logic how it went."""

    posting_id: int
    user: EntityId
    url: str
    xml: bytes


class Severity(enum.Enum):
    """How much a log line matters; the values are those of Python's logging."""

    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Note:
    """Write a log line: what, who, why."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Stop all that is not durable, and begin again after some time.

    Attributes:
        pause_s: how long nothing runs, in seconds.
    """

    pause_s: float


Effect: TypeAlias = Deliver | Post | Note | Restart


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer in the same HTTP exchange.

    Attributes:
        http_status: 200, or 400 when the request could not be read.
        xml: the DUIS response.
        delay_s: how long the DCC takes over it, in seconds.
    """

    http_status: int
    xml: bytes
    delay_s: float = 0.0

"""What a MessageSender asks for and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from smtunnel.delivery import MessageStatus
from smtunnel.fragments import Payload
from smtunnel.records import AbortCode


@dataclass(frozen=True, slots=True)
class Transmit:
    """Hand one fragment over for transport, and tell by transmitted() and result() how it went."""

    ref: str
    peer: bytes
    index: int
    payload: Payload
    originator_counter: int
    attempt: int
    """1 at the first transmission of this fragment."""


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """News of a data message."""

    peer: bytes
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class ReencodeNeeded:
    """The peer cannot take a message as it is encoded: call reencoded() with another encoding."""

    ref: str
    peer: bytes
    code: AbortCode
    """UNKNOWN_DICTIONARY or WINDOW_TOO_LARGE."""
    detail: int
    """The DICTID that is not known, or the largest window bits taken."""


@dataclass(frozen=True, slots=True)
class ControlEnded:
    """A control message has come to its end."""

    ref: str
    peer: bytes
    delivered: bool


SenderEvent: TypeAlias = Transmit | StatusChanged | ReencodeNeeded | ControlEnded

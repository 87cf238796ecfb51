"""Why a message ended, as its sender is told."""

from __future__ import annotations

from typing import Final

from smtunnel.errors import (
    Base64Error,
    ControlInvalid,
    FragmentConflict,
    LimitExceeded,
    RemoteError,
    UnknownDictionary,
    UnsupportedCompression,
    WindowTooLarge,
    ZlibError,
)
from smtunnel.events import AbortReason
from smtunnel.limits import Limits
from smtunnel.records import AbortCode

_OF_ERRORS: Final[dict[type[RemoteError], AbortCode]] = {
    UnsupportedCompression: AbortCode.UNSUPPORTED_COMPRESSION,
    UnknownDictionary: AbortCode.UNKNOWN_DICTIONARY,
    WindowTooLarge: AbortCode.WINDOW_TOO_LARGE,
    Base64Error: AbortCode.BASE64,
    ZlibError: AbortCode.ZLIB,
    FragmentConflict: AbortCode.CONFLICT,
    LimitExceeded: AbortCode.TOO_LONG,
    ControlInvalid: AbortCode.OTHER,
}

_OF_REASONS: Final = {
    AbortReason.SUPERSEDED: AbortCode.OTHER,
    AbortReason.TOO_MANY_PARTIAL: AbortCode.TOO_MANY_PARTIAL,
    AbortReason.MEMORY: AbortCode.MEMORY,
    AbortReason.BY_CALLER: AbortCode.WITHDRAWN,
    AbortReason.BY_SENDER: AbortCode.OTHER,
}


def abort_of_error(error: RemoteError, limits: Limits) -> tuple[AbortCode, int]:
    """Return the abort code, and its detail, of a message that was rejected."""
    detail = 0
    if isinstance(error, UnknownDictionary):
        detail = error.dictionary_id
    elif isinstance(error, WindowTooLarge):
        detail = error.window_bits
    elif isinstance(error, LimitExceeded):
        detail = limits.message_octets
    return _OF_ERRORS.get(type(error), AbortCode.OTHER), detail


def abort_of_reason(reason: AbortReason) -> AbortCode:
    """Return the abort code of a message that was given up."""
    return _OF_REASONS[reason]

"""What to say of a connection that did not come about."""

from __future__ import annotations

import os

import aiohttp


def connect_reason(error: Exception) -> str:
    """Return why no connection came about, in few words.

    aiohttp's own text repeats the address, speaks of TLS even where there is none, and shows the
    operating system's error as a Python value. Where the system's word is the whole reason, that
    alone is said; of TLS and of names that are not found aiohttp's text says more.
    """
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if isinstance(cause, ConnectionError) and cause.errno:
            return os.strerror(cause.errno)
    return str(error) or type(error).__name__

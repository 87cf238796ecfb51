"""What to say of a connection that did not come about."""

from __future__ import annotations

import errno
import os
import socket

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


def listen_reason(error: OSError) -> str:
    """Return why a port cannot be listened on, in few words.

    asyncio and socket repeat the address, each in its own way, around the system's word.
    """
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    reason = os.strerror(error.errno)
    if error.errno == errno.EADDRINUSE:
        return f"{reason}: another program has that port, or this one runs already"
    return reason

"""Every error that cem raises. No library's exception escapes from this package.

What is wrong with a message to be sent is told by `smtunnel.errors.TunnelError`, what
is wrong with keys by `gbcs.errors.CertificateError`.

The tree::

    CemError
    ├── ConfigurationError     a configured value is impossible
    ├── StoreError             the state file cannot be opened, read or written
    │   └── StoreInUse         another process works with it
    ├── LinkError              hub or DSRSP cannot be reached, or broke the link's rules
    │   ├── LinkRefused        it did not accept our proof
    │   └── PinMismatch        a server of route 2b showed another certificate than the offer names
    ├── CommandRefused         what came from the hub is no valid command for this device
    ├── AlertError             no alert can be built: no counter is left, or the clock is no date
    ├── QueueFull              too many messages wait to be sent
    ├── UnknownMessage         no message has this reference
    └── GatewayClosed          the gateway was not started, or has ended
"""

from __future__ import annotations

import os


class CemError(Exception):
    """Root of all errors of cem."""


class ConfigurationError(CemError, ValueError):
    """A configured value is impossible."""


class StoreError(CemError):
    """The state file cannot be opened, read or written."""


class StoreInUse(StoreError):
    """Another process works with the state file."""


class LinkError(CemError):
    """The communications hub, or a server of route 2b, cannot be reached or broke the rules."""


class LinkRefused(LinkError):
    """The communications hub did not accept our proof."""


class PinMismatch(LinkError):
    """A server of route 2b showed another certificate than the offer names."""


class CommandRefused(CemError):
    """What came from the hub is no valid command for this device; it gets no answer."""


class AlertError(CemError):
    """No alert can be built: the Originator Counters are used up, or the clock shows no date."""


class QueueFull(CemError):
    """Too many messages wait to be sent."""


class UnknownMessage(CemError):
    """No message has this reference."""


class GatewayClosed(CemError):
    """The gateway was not started, or has ended."""


def connect_reason(error: Exception) -> str:
    """Return why no connection came about: the system's word, without the address once more."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__

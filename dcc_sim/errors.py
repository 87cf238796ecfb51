"""Every error that dcc_sim raises. No library's exception escapes from this package.

The tree::

    DccSimError
    ├── ConfigError           the configuration asks for something impossible
    ├── StoreError            the state cannot be read or written
    ├── RequestRefused        a user's request failed a check; carries the check
    ├── NotInQuarantine       nothing in quarantine has this reference
    ├── CertificateUnknown    there is no certificate of this issuer and serial number
    ├── MessageDropped        a fault on order lost what was to come or go
    └── DeviceMessageRefused  what a device sent, or its proof, is not to be believed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcc_sim.core.checks import Check


class DccSimError(Exception):
    """Root of all errors of dcc_sim."""


class ConfigError(DccSimError, ValueError):
    """The configuration asks for something impossible."""


class StoreError(DccSimError):
    """The state cannot be read or written."""


class RequestRefused(DccSimError):
    """A user's request failed a check.

    ``check`` says which one; the message says what was found and what was expected.
    """

    def __init__(self, check: Check, detail: str) -> None:
        super().__init__(detail)
        self.check = check


class NotInQuarantine(DccSimError):
    """Nothing in quarantine has this reference."""


class CertificateUnknown(DccSimError):
    """There is no certificate of this issuer and serial number."""


class MessageDropped(DccSimError):
    """A fault on order lost a request, or the answer to it."""


class DeviceMessageRefused(DccSimError):
    """What a device sent, or its proof, is not to be believed."""

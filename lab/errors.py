"""What can go wrong when the parts are put together.

The tree::

    LabError
    ├── ConfigError      a configuration file is missing, malformed or says the impossible
    ├── KeyFolderError   a folder of certificates and keys cannot be used
    ├── ControlError     a daemon's control interface refused or did not answer
    ├── DemoError        a part of the demo did not start, or something did not arrive
    ├── ExplainError     the journals do not tell what is asked
    ├── VectorError      test vectors are missing or of another format
    └── VirtualError     a simulation on virtual time was asked for what it cannot do
"""

from __future__ import annotations


class LabError(Exception):
    """Root of all errors of lab."""


class ConfigError(LabError):
    """A configuration file is missing, malformed or says the impossible."""


class KeyFolderError(LabError):
    """A folder of certificates and keys cannot be used."""


class ControlError(LabError):
    """A daemon's control interface refused or did not answer."""


class DemoError(LabError):
    """A part of the demo did not start, or something did not arrive."""


class ExplainError(LabError):
    """The journals do not tell what is asked, or are no journals."""


class VectorError(LabError):
    """Test vectors are missing or of another format."""


class VirtualError(LabError):
    """A simulation on virtual time was asked for what it cannot do."""

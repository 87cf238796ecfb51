"""Every error that smtunnel raises.

The tree::

    TunnelError
    ├── LocalError               we, or the caller, erred
    └── RemoteError              what came from outside is wrong
"""

from __future__ import annotations


class TunnelError(Exception):
    """Root of all errors of smtunnel."""

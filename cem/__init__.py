"""The CEM's gateway: device side of GBCS and the CEM end of the tunnel.

``async with Gateway(config, keystore) as gateway`` connects to the communications hub;
``await gateway.send(message)`` sends, ``async for received in gateway.received()`` receives.
"""

from __future__ import annotations

try:
    from cem.config import CemConfig
    from cem.errors import (
        AlertError,
        CemError,
        CommandRefused,
        ConfigurationError,
        GatewayClosed,
        LinkError,
        LinkRefused,
        QueueFull,
        StoreError,
        StoreInUse,
        UnknownMessage,
    )
    from cem.gateway import Gateway
    from cem.handles import MessageHandle, ReceivedMessage
    from cem.route_2b import Phase, RouteState
    from cem.store import SqliteStore
except ModuleNotFoundError as missing:
    # The base install carries the embeddable library alone.
    raise ModuleNotFoundError(
        f"cem needs the package {missing.name!r}: "
        "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
        name=missing.name,
    ) from None

__all__ = [
    "AlertError",
    "CemConfig",
    "CemError",
    "CommandRefused",
    "ConfigurationError",
    "Gateway",
    "GatewayClosed",
    "LinkError",
    "LinkRefused",
    "MessageHandle",
    "Phase",
    "QueueFull",
    "ReceivedMessage",
    "RouteState",
    "SqliteStore",
    "StoreError",
    "StoreInUse",
    "UnknownMessage",
]

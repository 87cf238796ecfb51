"""The DSRSP's side of the tunnel: DCC adaptor and gateway.

`Gateway` is all that an application needs; `DsrspConfig` has its settings.
"""

try:
    from dsrsp.config import DsrspConfig
    from dsrsp.errors import (
        ConfigurationError,
        DsrspError,
        GatewayNotRunning,
        MessageNotSendable,
        NoEcho,
        RouteNotOffered,
        SendError,
        StorageError,
        UnknownDevice,
        UnknownMessage,
    )
    from dsrsp.gateway import Gateway
    from dsrsp.handles import Handle
    from dsrsp.inbox import ReceivedMessage
    from dsrsp.ports import DccClient, Service, Storage
    from dsrsp.routes import RouteInfo
except ModuleNotFoundError as missing:
    # The base install carries the embeddable library alone.
    raise ModuleNotFoundError(
        f"dsrsp needs the package {missing.name!r}: "
        "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
        name=missing.name,
    ) from None

__all__ = [
    "ConfigurationError",
    "DccClient",
    "DsrspConfig",
    "DsrspError",
    "Gateway",
    "GatewayNotRunning",
    "Handle",
    "MessageNotSendable",
    "NoEcho",
    "ReceivedMessage",
    "RouteInfo",
    "RouteNotOffered",
    "SendError",
    "Service",
    "Storage",
    "StorageError",
    "UnknownDevice",
    "UnknownMessage",
]

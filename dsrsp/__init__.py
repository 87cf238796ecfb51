"""The DSRSP's side of the tunnel: DCC adaptor and gateway.

`Gateway` is all that an application needs; `DsrspConfig` has its settings.
"""

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

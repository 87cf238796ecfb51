"""The DCC and what lies behind it: gateway services, checks, SM WAN, devices. Blind to payload."""

from __future__ import annotations

try:
    from dcc_sim.config import DccSimConfig, DeviceConfig, ThresholdConfig, UserConfig
    from dcc_sim.core.checks import CHECKS, Check, CheckRow, Told
    from dcc_sim.core.faults import Fault, FaultKind, Hop
    from dcc_sim.core.quarantine import QuarantinedCommand
    from dcc_sim.core.state import ResponseBehaviour
    from dcc_sim.errors import (
        CertificateUnknown,
        ConfigError,
        DccSimError,
        MessageDropped,
        NotInQuarantine,
        StoreError,
    )
    from dcc_sim.inventory_file import parse_inventory
    from dcc_sim.local import LocalLink, LocalSimulator
    from dcc_sim.simulator import Simulator
except ModuleNotFoundError as missing:
    # The base install carries the embeddable library alone.
    raise ModuleNotFoundError(
        f"dcc_sim needs the package {missing.name!r}: "
        "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
        name=missing.name,
    ) from None

__all__ = [
    "CHECKS",
    "CertificateUnknown",
    "Check",
    "CheckRow",
    "ConfigError",
    "DccSimConfig",
    "DccSimError",
    "DeviceConfig",
    "Fault",
    "FaultKind",
    "Hop",
    "LocalLink",
    "LocalSimulator",
    "MessageDropped",
    "NotInQuarantine",
    "QuarantinedCommand",
    "ResponseBehaviour",
    "Simulator",
    "StoreError",
    "ThresholdConfig",
    "Told",
    "UserConfig",
    "parse_inventory",
]

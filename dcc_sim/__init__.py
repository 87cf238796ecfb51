"""The DCC and what lies behind it: gateway services, checks, SM WAN, devices. Blind to payload."""

from __future__ import annotations

from dcc_sim.config import DccSimConfig, DeviceConfig, UserConfig
from dcc_sim.core.checks import CHECKS, Check, CheckRow
from dcc_sim.errors import ConfigError, DccSimError, StoreError
from dcc_sim.simulator import Simulator

__all__ = [
    "CHECKS",
    "Check",
    "CheckRow",
    "ConfigError",
    "DccSimConfig",
    "DccSimError",
    "DeviceConfig",
    "Simulator",
    "StoreError",
    "UserConfig",
]

"""The services of DUIS: which command variants each has, to which address each variant goes."""

from __future__ import annotations

import enum


class Service(enum.Enum):
    """An HTTP service of the DCC; the value is the last part of its path."""

    TRANSFORM = "serviceT"
    SEND_COMMAND = "serviceS"
    NON_DEVICE = "serviceD"


TRANSFORM_VARIANT = 4
SIGNED_PRE_COMMAND_VARIANTS = frozenset({5, 6, 7})
LOCAL_DELIVERY_VARIANTS = frozenset({6, 7})
"""Of the signed pre-commands, those whose answer carries the command. Source: DUIS 5.4."""
LOCAL_DELIVERY_ALONE = 6

SERVICE_OF_COMMAND_VARIANT = {
    1: Service.SEND_COMMAND,
    2: Service.SEND_COMMAND,
    3: Service.SEND_COMMAND,
    4: Service.TRANSFORM,
    5: Service.SEND_COMMAND,
    6: Service.SEND_COMMAND,
    7: Service.SEND_COMMAND,
    8: Service.NON_DEVICE,
}
"""Source: DUIS 5.4, CommandVariant; which address takes which is as DCC Boxed has it."""

_CRITICAL = """
    1.1.1 1.1.2 1.2.1 1.2.2 1.5 1.6 1.7 2.1 2.3 2.5 6.4.1 6.6 6.7 6.8 6.11 6.14.1 6.14.2 6.14.3
    6.15.1 6.15.2 6.17 6.24.2 6.25 6.26 7.1 7.2 7.3 7.5 7.6 7.8 7.14 7.15 7.16 8.7.1 8.8.1 11.3
"""
_NON_CRITICAL = """
    2.2 3.1 3.2 3.3 3.4 3.5 4.1.1 4.1.2 4.1.3 4.1.4 4.2 4.3 4.4.2 4.4.3 4.4.4 4.4.5 4.6.1 4.6.2
    4.8.1 4.8.2 4.8.3 4.10 4.11.1 4.11.2 4.12.1 4.12.2 4.13 4.14 4.15 4.16 4.17 4.18 6.2.1 6.2.2
    6.2.3 6.2.4 6.2.5 6.2.7 6.2.8 6.2.9 6.2.10 6.4.2 6.5 6.12 6.13 6.18.1 6.18.2 6.20.1 6.20.2
    6.21 6.22 6.23 6.24.1 6.27 6.28 6.29 6.30 6.31 6.32 7.4 7.7 7.9 7.10 7.11 7.12 7.13 8.7.2
    8.8.2 8.9 8.11 8.12.1 8.12.2 9.1 11.2 14.1
"""
_NON_DEVICE = "5.1 5.2 5.3 8.2 8.3 8.4 8.6 8.13 8.14.1 8.14.2 8.14.3 8.14.4 11.1 11.4 12.1 12.2"

COMMAND_VARIANTS: dict[str, frozenset[int]] = {
    **dict.fromkeys(_CRITICAL.split(), frozenset({4, 5, 6, 7})),
    **dict.fromkeys(_NON_CRITICAL.split(), frozenset({1, 2, 3})),
    **dict.fromkeys(_NON_DEVICE.split(), frozenset({8})),
    "8.1.1": frozenset({4, 5}),
    "8.5": frozenset({1}),
}
"""By service reference variant. Source: DUIS schema 5.4, ServiceReferenceVariant."""

READ_INVENTORY = "8.2"
UPDATE_INVENTORY = "8.4"
RETURN_LOCAL_COMMAND_RESPONSE = "8.13"

OFFERED = ("6.14.1", READ_INVENTORY, UPDATE_INVENTORY, RETURN_LOCAL_COMMAND_RESPONSE)
"""The service reference variants that the simulator does."""

SCHEMA_VERSIONS = ("5.2", "5.3", "5.4")
"""The DUIS versions in which requests may come."""

ELIGIBLE_ROLES: dict[str, frozenset[str]] = {
    "6.14.1": frozenset({"supplier"}),
    UPDATE_INVENTORY: frozenset({"supplier"}),
    RETURN_LOCAL_COMMAND_RESPONSE: frozenset({"supplier"}),
}
"""Only an electricity import supplier may set labels (source: DUIS 5.4, 6.14.1, role IS); that
the same holds for the two other services is assumed."""

ELIGIBLE_DEVICE_TYPES: dict[str, frozenset[str]] = {"6.14.1": frozenset({"ESME"})}
"""Source: GBCS 4.3, use case ECS46a: an ESME keeps the labels of its auxiliary controllers."""

COMMANDABLE_STATUSES = frozenset({"InstalledNotCommissioned", "Commissioned"})
"""Device statuses in which critical commands are passed on (assumed)."""

"""The simulator's configuration: who may use it, which devices there are, limits and times."""

from __future__ import annotations

import msgspec

from dcc_sim.core.checks import CHECKS, Check
from dcc_sim.errors import ConfigError
from gbcs.duis.codes import RESPONSE_CODES
from gbcs.entity_id import EntityId

USER_ROLES = ("supplier", "load-controller")

DEVICE_STATUSES = (
    "Pending",
    "Whitelisted",
    "InstalledNotCommissioned",
    "Commissioned",
    "Decommissioned",
    "Withdrawn",
    "Suspended",
    "Recovery",
    "Recovered",
)
"""Source: DUIS schema 5.4, DeviceStatus."""

DEVICE_TYPES = ("ESME", "GSME", "GPF", "CHF", "HCALCS", "PPMID", "IHD", "CAD")
"""Source: DUIS schema 5.4, DeviceType."""


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One identity of a service user.

    ``role`` is "supplier" (an electricity import supplier) or "load-controller"; ``receive_url``
    is where the DCC posts responses and alerts for it.
    """

    entity_id: EntityId
    role: str
    receive_url: str

    def __post_init__(self) -> None:
        if self.role not in USER_ROLES:
            raise ConfigError(
                f"user {self.entity_id}: role {self.role!r} is not one of {', '.join(USER_ROLES)}"
            )
        if not self.receive_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"user {self.entity_id}: receive_url {self.receive_url!r} must begin with "
                "http:// or https://, for example http://127.0.0.1:1880/smartdcc/duis"
            )


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device of the inventory.

    A CEM stands here as "ESME", because the DUIS schema knows no device type for it (assumed).
    ``supplier_id`` names the one supplier who may command the device; None: any supplier.
    """

    entity_id: EntityId
    device_type: str = "ESME"
    status: str = "Commissioned"
    supplier_id: EntityId | None = None

    def __post_init__(self) -> None:
        if self.device_type not in DEVICE_TYPES:
            raise ConfigError(
                f"device {self.entity_id}: device_type {self.device_type!r} is not one of "
                f"{', '.join(DEVICE_TYPES)}"
            )
        if self.status not in DEVICE_STATUSES:
            raise ConfigError(
                f"device {self.entity_id}: status {self.status!r} is not one of "
                f"{', '.join(DEVICE_STATUSES)}"
            )


class DccSimConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set; times are in seconds.

    Attributes:
        duis_listen: "host:port" of the HTTP services for users; port 0 takes any free one.
        device_listen: "host:port" of the WebSocket server for devices.
        dcc_id: EUI-64 of the DCC's XML signing key and of the access control broker.
        state: path of the SQLite file, or ":memory:".
        keys: folders of certificates and keys; read by the caller, not by the simulator.
        test_mode: whether publicly known test keys are admitted.
        users: who may send requests and receives responses and alerts.
        devices: the inventory.
        duis_schema: path of the DUIS schema's main file; read by the caller.
        schema_version: schemaVersion of what the DCC sends of its own accord.
        device_connect_timeout_s: how long a command waits for its device to connect (else E20).
        device_response_timeout_s: how long a delivered command waits for a response (else E21).
        device_proof_timeout_s: how long a connecting device may take to prove its key.
        request_timeout_s: how long a user may take to send the body of a request.
        post_timeout_s: how long one POST to a user may take.
        post_backoff_s: pause after the first failed POST; it doubles with each further one.
        post_backoff_max_s: the longest pause between two POSTs of one message.
        post_limit_s: after this time without success a message is held (300 s: from an official
            source).
        held_retry_s: pause between two POSTs of a held message.
        hold_limit_s: a held message older than this is dropped (two days: official source).
        posts_in_flight: how many POSTs to one user may be under way at once.
        counter_window: how many of the latest originator counters are remembered for each user;
            an older one is stale.
        response_codes: overrides, from the name of a check (see `dcc_sim.core.checks`) to the
            DUIS response code it gives.
    """

    duis_listen: str = "127.0.0.1:8079"
    device_listen: str = "127.0.0.1:8090"
    dcc_id: EntityId
    state: str
    keys: list[str] = []
    test_mode: bool = False
    users: list[UserConfig]
    devices: list[DeviceConfig]
    duis_schema: str | None = None
    schema_version: str = "5.4"
    device_connect_timeout_s: float = 30.0
    device_response_timeout_s: float = 30.0
    device_proof_timeout_s: float = 10.0
    request_timeout_s: float = 10.0
    post_timeout_s: float = 10.0
    post_backoff_s: float = 0.5
    post_backoff_max_s: float = 30.0
    post_limit_s: float = 300.0
    held_retry_s: float = 60.0
    hold_limit_s: float = 172_800.0
    posts_in_flight: int = 8
    counter_window: int = 16_384
    response_codes: dict[str, str] = {}

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, not {getattr(self, name)}")
        _no_doubles("users", [user.entity_id for user in self.users])
        _no_doubles("devices", [device.entity_id for device in self.devices])
        for name, code in self.response_codes.items():
            if name not in Check.__members__:
                raise ConfigError(
                    f"response_codes: no check is called {name!r}; there are "
                    f"{', '.join(Check.__members__)}"
                )
            if code not in RESPONSE_CODES:
                raise ConfigError(
                    f"response_codes: {code!r} for {name} is no response code of the DUIS schema"
                )

    def code_of(self, check: Check) -> str:
        """Return the DUIS response code that a failed check gives."""
        return self.response_codes.get(check.name, CHECKS[check].code)


_POSITIVE = (
    "device_connect_timeout_s",
    "device_response_timeout_s",
    "device_proof_timeout_s",
    "request_timeout_s",
    "post_timeout_s",
    "post_backoff_s",
    "post_backoff_max_s",
    "post_limit_s",
    "held_retry_s",
    "hold_limit_s",
    "posts_in_flight",
    "counter_window",
)


def _no_doubles(what: str, entity_ids: list[EntityId]) -> None:
    seen: set[EntityId] = set()
    for entity_id in entity_ids:
        if entity_id in seen:
            raise ConfigError(f"{what}: {entity_id} is listed twice")
        seen.add(entity_id)

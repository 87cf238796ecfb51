"""The simulator's configuration: who may use it, which devices there are, limits and times."""

from __future__ import annotations

import msgspec

from dcc_sim.core.checks import CHECKS, Check, Told
from dcc_sim.errors import ConfigError
from gbcs.duis.codes import DCC_ALERT_CODES, RESPONSE_CODES
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


class ThresholdConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many requests of one kind a user expects to send in a period.

    ``limit`` requests of ``service_reference_variant`` in any period of ``period_s`` seconds are
    let through; periods follow each other from 1970 on.
    """

    service_reference_variant: str
    limit: int
    period_s: float

    def __post_init__(self) -> None:
        if self.limit < 0 or not self.period_s > 0:
            raise ConfigError(
                f"threshold of {self.service_reference_variant}: limit {self.limit} in "
                f"{self.period_s} s; expected at least 0 in more than 0 s"
            )


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One identity of a service user.

    ``role`` is "supplier" (an electricity import supplier) or "load-controller"; ``receive_url``
    is where the DCC posts responses and alerts for it. ``thresholds`` are for anomaly detection:
    at most one for each kind of request, and without one there is no limit.
    """

    entity_id: EntityId
    role: str
    receive_url: str
    thresholds: list[ThresholdConfig] = []

    def __post_init__(self) -> None:
        kinds = [threshold.service_reference_variant for threshold in self.thresholds]
        if len(set(kinds)) != len(kinds):
            raise ConfigError(f"user {self.entity_id}: two thresholds for one kind of request")
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
    ``region`` is one of the network profile's; empty: the profile's default. ``hub`` names the
    communications hub, which several devices may share; empty: the device has one of its own,
    named like its EUI-64. ``mpxn`` is the metering point; it, manufacturer, model and firmware
    version are what the inventory says of the device.
    """

    entity_id: EntityId
    device_type: str = "ESME"
    status: str = "Commissioned"
    supplier_id: EntityId | None = None
    region: str = ""
    hub: str = ""
    mpxn: str | None = None
    manufacturer: str = "0000"
    model: str = "00000000"
    firmware_version: str | None = None

    def __post_init__(self) -> None:
        for name, longest in (("mpxn", 13), ("firmware_version", 8)):
            value = getattr(self, name)
            if value is not None and not 1 <= len(value) <= longest:
                raise ConfigError(
                    f"device {self.entity_id}: {name} {value!r} must have 1 to {longest} characters"
                )
        for name in ("manufacturer", "model"):
            if len(getattr(self, name)) > 30:
                raise ConfigError(f"device {self.entity_id}: {name} is longer than 30 characters")
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
        smki_listen: "host:port" of the SMKI repository.
        device_listen: "host:port" of the WebSocket server for devices.
        dcc_id: EUI-64 of the DCC's XML signing key and of the access control broker.
        state: path of the SQLite file, or ":memory:".
        keys: folders of certificates and keys; read by the caller, not by the simulator.
        test_mode: whether publicly known test keys are admitted.
        users: who may send requests and receives responses and alerts.
        devices: the inventory.
        devices_file: path of a CSV file with more of it (see `dcc_sim.inventory_file`); read by
            the caller.
        device_certificates: folder with certificates of devices, {eui}-device-ds.pem and
            {eui}-device-ka.pem, each read when it is first needed; read by the caller.
        duis_schema: path of the DUIS schema's main file; read by the caller.
        schema_version: schemaVersion of what the DCC sends of its own accord.
        device_connect_timeout_s: how long a command waits for its device to connect (else E20),
            in seconds of network time, where the network's profile does not say it.
        device_response_timeout_s: how long a delivered command waits for a response (else E21);
            the same.
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
        commands_per_device: how many accepted commands may wait for one device; more are refused
            (COMMAND_ROOM). What is released from quarantine comes on top.
        postings_per_user: how many messages may wait to be posted to one user; with so many its
            commands are refused (COMMAND_ROOM), and alerts for it are dropped with an error in
            the log. Responses to accepted commands come on top.
        quarantine_limit: how many commands of one user anomaly detection may hold back.
        response_copies: how often each response and alert is posted; more than once shows a
            user duplicates.
        response_delay_s: how long each response and alert is held back before it is posted.
        response_codes: overrides, from the name of a check (see `dcc_sim.core.checks`) to the
            DUIS response code it gives; to a DCC alert code where an alert tells it.
        network: name of a network profile that comes with the package, or path of a profile's
            TOML file; "none": messages pass at once.
        network_seed: the same seed gives the same network.
        network_time_scale: seconds of network time in one second; 60 passes a minute of network
            in a second. The device's two time-outs are network time; the other times of this
            configuration are not scaled.
        scenario: path of a TOML file with faults; read by the caller.
    """

    duis_listen: str = "127.0.0.1:8079"
    smki_listen: str = "127.0.0.1:8083"
    device_listen: str = "127.0.0.1:8090"
    dcc_id: EntityId
    state: str
    keys: list[str] = []
    test_mode: bool = False
    users: list[UserConfig]
    devices: list[DeviceConfig] = []
    devices_file: str | None = None
    device_certificates: str | None = None
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
    commands_per_device: int = 1_000
    postings_per_user: int = 100_000
    quarantine_limit: int = 10_000
    response_copies: int = 1
    response_delay_s: float = 0.0
    response_codes: dict[str, str] = {}
    network: str = "none"
    network_seed: int = 0
    network_time_scale: float = 1.0
    scenario: str | None = None

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
            is_alert = CHECKS[Check[name]].told is Told.ALERT
            if code not in (DCC_ALERT_CODES if is_alert else RESPONSE_CODES):
                raise ConfigError(
                    f"response_codes: {code!r} for {name} is no "
                    f"{'DCC alert' if is_alert else 'response'} code of the DUIS schema"
                )
        check_behaviour(self.response_copies, self.response_delay_s)

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
    "commands_per_device",
    "postings_per_user",
    "quarantine_limit",
    "network_time_scale",
)


MAX_RESPONSE_COPIES = 10
MAX_RESPONSE_DELAY_S = 86_400.0


def check_behaviour(copies: int, delay_s: float) -> None:
    """Check how responses are to be posted.

    Raises:
        ConfigError: so many copies, or so long a delay, are not allowed.
    """
    if not 1 <= copies <= MAX_RESPONSE_COPIES:
        raise ConfigError(f"response_copies is {copies}: expected 1 to {MAX_RESPONSE_COPIES}")
    if not 0 <= delay_s <= MAX_RESPONSE_DELAY_S:
        raise ConfigError(
            f"response_delay_s is {delay_s}: expected 0 to {MAX_RESPONSE_DELAY_S:g} seconds"
        )


def _no_doubles(what: str, entity_ids: list[EntityId]) -> None:
    seen: set[EntityId] = set()
    for entity_id in entity_ids:
        if entity_id in seen:
            raise ConfigError(f"{what}: {entity_id} is listed twice")
        seen.add(entity_id)

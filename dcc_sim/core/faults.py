"""Faults on order: by a scenario file, or while the simulator runs."""

from __future__ import annotations

import enum
import heapq
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dcc_sim.errors import ConfigError
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError


class Hop(enum.Enum):
    """A stretch of a message's way."""

    REQUEST = "request"  # user to DCC
    ANSWER = "answer"  # DCC to user, in the same HTTP exchange
    COMMAND = "command"  # DCC to device
    RESPONSE = "response"  # device to DCC
    ALERT = "alert"  # device to DCC
    POST = "post"  # DCC to the user's receive address


class FaultKind(enum.Enum):
    """What a fault does."""

    DROP = "drop"
    CORRUPT = "corrupt"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    HUB_DOWN = "hub-down"
    HUB_UP = "hub-up"
    REVOKE = "revoke"
    RESTART = "restart"


MESSAGE_FAULTS = frozenset(
    {FaultKind.DROP, FaultKind.CORRUPT, FaultKind.DELAY, FaultKind.DUPLICATE}
)
_HUB_FAULTS = frozenset({FaultKind.HUB_DOWN, FaultKind.HUB_UP})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault.

    Attributes:
        kind: what it does.
        at_s: when, in seconds of network time after the start; a scenario's fault only, at run
            time faults come at once.
        hop: of "drop", "corrupt", "delay", "duplicate": on which hop.
        entity_id: of these: whose messages, the device's or, on "post", the user's; None:
            anybody's. Of "revoke": whose certificates.
        count: of these: how many messages it hits.
        delay_s: of "delay": how long, in seconds of network time.
        hub: of "hub-down" and "hub-up": which communications hub.
        duration_s: of "hub-down": comes back after this time; None: stays down. Of "restart":
            how long nothing runs.
    """

    kind: FaultKind
    at_s: float = 0.0
    hop: Hop | None = None
    entity_id: EntityId | None = None
    count: int = 1
    delay_s: float | None = None
    hub: str | None = None
    duration_s: float | None = None

    def __post_init__(self) -> None:
        kind = self.kind.value
        _needs(kind, "hop", self.hop, self.kind in MESSAGE_FAULTS)
        _needs(kind, "delay_s", self.delay_s, self.kind is FaultKind.DELAY)
        _needs(kind, "hub", self.hub, self.kind in _HUB_FAULTS)
        if self.kind is FaultKind.REVOKE and self.entity_id is None:
            raise ValueError("a fault 'revoke' needs entity_id: whose certificates")
        if self.entity_id is not None and not (
            self.kind is FaultKind.REVOKE or self.kind in MESSAGE_FAULTS
        ):
            raise ValueError(f"entity_id says nothing about a fault {kind!r}: leave it out")
        if self.duration_s is not None and self.kind not in (
            FaultKind.HUB_DOWN,
            FaultKind.RESTART,
        ):
            raise ValueError(f"duration_s says nothing about a fault {kind!r}: leave it out")
        if self.kind is FaultKind.DUPLICATE and self.hop is Hop.ANSWER:
            raise ValueError("an HTTP exchange has one answer: duplicate the 'request' instead")
        if self.hop in (Hop.REQUEST, Hop.ANSWER) and self.entity_id is not None:
            raise ValueError(
                f"on the hop {self.hop.value!r} nobody knows yet whose message it is: "
                "leave entity_id out"
            )
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count}")
        for name in ("at_s", "delay_s", "duration_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a number of at least 0, not {value}")


class _Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    fault: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Armed:
    """A message fault that waits for its next message.

    Attributes:
        fault_id: rises with each one.
        fault: what it is.
        left: how many messages it still hits.
    """

    fault_id: int
    fault: Fault
    left: int


@dataclass(slots=True)
class Hit:
    """What faults do to one message.

    Attributes:
        drop: it is lost.
        corrupt: one of its bits is turned.
        copies: how many more times it arrives.
        delay_s: how much later, in seconds of network time.
        fault_ids: which faults did it.
    """

    drop: bool = False
    corrupt: bool = False
    copies: int = 0
    delay_s: float = 0.0
    fault_ids: list[int] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The faults, as text for the journal; empty without any."""
        return ", ".join(f"fault {number}" for number in self.fault_ids)


class Faults:
    """The faults that wait, those that are armed, and the hubs that were taken down.

    It outlives a restart of the DCC in the same process. A new process goes through its
    scenario up to the network's time: hubs that are down then, and revocations, are taken up;
    faults on messages are not armed once more.

    Args:
        scenario: comes at its times.
    """

    def __init__(self, scenario: Iterable[Fault] = ()) -> None:
        self._waiting = [(fault.at_s, n, fault) for n, fault in enumerate(scenario)]
        heapq.heapify(self._waiting)
        self._waited = len(self._waiting)
        self._armed: dict[int, Armed] = {}
        self._last_id = 0
        self._hubs_down: set[str] = set()
        self._started = False

    def begin(self, at: float) -> list[Fault]:
        """Take up what the scenario did before the network's present time.

        Returns:
            The revocations among them. A second call does nothing.
        """
        if self._started:
            return []
        self._started = True
        missed = []
        while self._waiting and self._waiting[0][0] < at:
            missed.append(self._pop())
        for fault in missed:
            if fault.kind in _HUB_FAULTS:
                self._switch_hub(fault, fault.at_s)
        return [fault for fault in missed if fault.kind is FaultKind.REVOKE]

    def inject(self, fault: Fault, at: float) -> int | None:
        """Let a fault come now.

        Args:
            fault: its ``at_s`` does not count.
            at: network time, in seconds.

        Returns:
            The number of a fault that is armed now; None when it is done at once. What is more
            than counting messages ("revoke", "restart") is the caller's to do.
        """
        if fault.kind in MESSAGE_FAULTS:
            self._last_id += 1
            self._armed[self._last_id] = Armed(self._last_id, fault, fault.count)
            return self._last_id
        if fault.kind in _HUB_FAULTS:
            self._switch_hub(fault, at)
        return None

    def cancel(self, fault_id: int | None = None) -> int:
        """Disarm one fault, or all; returns how many that were."""
        chosen = list(self._armed) if fault_id is None else [fault_id]
        return sum(self._armed.pop(number, None) is not None for number in chosen)

    def hit(self, hop: Hop, entity_id: EntityId | None) -> Hit:
        """Say what happens to one message, and count it.

        Args:
            hop: where it is.
            entity_id: its device, on "post" its user; None: not known.
        """
        hit = Hit()
        for armed in list(self._armed.values()):
            fault = armed.fault
            if fault.hop is not hop or fault.entity_id not in (None, entity_id):
                continue
            if armed.left > 1:
                self._armed[armed.fault_id] = Armed(armed.fault_id, fault, armed.left - 1)
            else:
                del self._armed[armed.fault_id]
            hit.fault_ids.append(armed.fault_id)
            match fault.kind:
                case FaultKind.DROP:
                    hit.drop = True
                    # What is lost cannot be hit by the faults behind.
                    break
                case FaultKind.CORRUPT:
                    hit.corrupt = True
                case FaultKind.DUPLICATE:
                    hit.copies += 1
                case FaultKind.DELAY:
                    hit.delay_s += fault.delay_s or 0.0
        return hit

    def due(self, at: float) -> list[Fault]:
        """Return what the scenario has for the time up to now; each fault comes once."""
        faults = []
        while self._waiting and self._waiting[0][0] <= at:
            faults.append(self._pop())
        return faults

    def get_timer(self) -> float | None:
        """Return the network time of the scenario's next fault."""
        return self._waiting[0][0] if self._waiting else None

    def is_hub_down(self, hub: str) -> bool:
        """Say whether a fault has taken a hub down."""
        return hub in self._hubs_down

    @property
    def active(self) -> bool:
        """Whether any message could meet a fault."""
        return bool(self._armed or self._hubs_down)

    @property
    def armed(self) -> list[Armed]:
        """The faults that wait for messages, the oldest first."""
        return list(self._armed.values())

    @property
    def hubs_down(self) -> list[str]:
        """The hubs that faults have taken down."""
        return sorted(self._hubs_down)

    def _pop(self) -> Fault:
        return heapq.heappop(self._waiting)[2]

    def _switch_hub(self, fault: Fault, at: float) -> None:
        hub = fault.hub or ""
        if fault.kind is FaultKind.HUB_UP:
            self._hubs_down.discard(hub)
            return
        self._hubs_down.add(hub)
        if fault.duration_s is not None:
            self._waited += 1
            end = at + fault.duration_s
            back = Fault(kind=FaultKind.HUB_UP, hub=hub, at_s=end)
            heapq.heappush(self._waiting, (end, self._waited, back))


def corrupted(octets: bytes) -> bytes:
    """Return octets with one bit in the middle turned."""
    middle = len(octets) // 2
    return (
        octets[:middle]
        + bytes(octet ^ 1 for octet in octets[middle : middle + 1])
        + (octets[middle + 1 :])
    )


def parse_scenario(text: str, *, where: str) -> tuple[Fault, ...]:
    """Read a scenario: a TOML file with one table [[fault]] for each fault.

    Args:
        text: TOML.
        where: what to call the text in errors.

    Raises:
        ConfigError: not TOML, or a fault that cannot be.
    """
    try:
        return msgspec.convert(tomllib.loads(text), _Scenario, dec_hook=decode_entity_id).fault
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {error} ($ is the whole file); expected tables like "
            '[[fault]] at_s = 60, kind = "drop", hop = "command", count = 3'
        ) from None
    except (ValueError, RecursionError) as error:
        # tomllib also lets numbers of too many digits and too deep nesting pass as they are.
        raise ConfigError(f"{where}: not valid TOML: {error}") from None


def parse_untrusted_fault(octets: bytes) -> Fault:
    """Read one fault from JSON.

    Raises:
        ConfigError: not JSON, or a fault that cannot be.
    """
    try:
        return msgspec.json.decode(octets, type=Fault, dec_hook=decode_entity_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f'not a fault: {error}; expected JSON like {{"kind": "drop", "hop": "command"}}'
        ) from None


def decode_entity_id(wanted: type, value: Any) -> EntityId:
    """Read an EUI-64 for msgspec."""
    if wanted is not EntityId or not isinstance(value, str):
        raise ValueError(f"expected an EUI-64 as text, got {value!r}")
    try:
        return EntityId.parse(value)
    except BuildError as error:
        raise ValueError(str(error)) from None


def _needs(kind: str, name: str, value: object, needed: bool) -> None:
    if needed and value is None:
        raise ValueError(f"a fault {kind!r} needs {name}")
    if not needed and value is not None:
        raise ValueError(f"{name} says nothing about a fault {kind!r}: leave it out")

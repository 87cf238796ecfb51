"""Lets faults come, on request or by the scenario's clock."""

from __future__ import annotations

from dcc_sim.core.effects import Restart, Severity
from dcc_sim.core.faults import Fault, FaultKind, Faults, Hit, Hop
from dcc_sim.core.keys import Keys
from dcc_sim.core.network import Network
from dcc_sim.core.state import State, certificate_name
from gbcs.entity_id import EntityId

# A timer that comes this much too early by rounding is on time; in seconds.
_TIMER_SLACK_S = 1e-6


class FaultDesk:
    """Lets faults come: those of the scenario at their times, the others at once.

    Args:
        state: shared with the other parts.
        keys: says which certificates somebody has.
        faults: those that wait and those that are armed.
        network: hears of hubs that go down and up.
        now: seconds since 1970.
    """

    def __init__(
        self, state: State, keys: Keys, faults: Faults, network: Network, now: float
    ) -> None:
        self._state = state
        self._keys = keys
        self._faults = faults
        self._network = network
        for revocation in faults.begin(network.time(now)):
            self._revoke(revocation.entity_id)

    def inject(self, fault: Fault, now: float) -> int | None:
        """Let a fault come now.

        Returns:
            The number of a fault that waits for messages; None when it is done at once.
        """
        fault_id = self._faults.inject(fault, self._network.time(now))
        self._state.journal.record(
            "fault",
            kind=fault.kind.value,
            fault_id=fault_id,
            hop=None if fault.hop is None else fault.hop.value,
            entity_id=None if fault.entity_id is None else str(fault.entity_id),
            hub=fault.hub,
            count=fault.count,
        )
        self._state.note(Severity.WARNING, f"fault: {describe_fault(fault)}")
        if fault.hub is not None:
            self._network.hub_changed(fault.hub, now)
        elif fault.kind is FaultKind.REVOKE:
            self._revoke(fault.entity_id)
        elif fault.kind is FaultKind.RESTART:
            pause_s = self._network.real_s(fault.duration_s or 0.0)
            self._state.effects.append(Restart(pause_s))
        return fault_id

    def hit(self, hop: Hop, user: EntityId | None) -> Hit:
        """Say what faults do to a message between a user and the DCC; times are real seconds."""
        hit = self._faults.hit(hop, user)
        if hit.fault_ids:
            hit.delay_s = self._network.real_s(hit.delay_s)
            outcome = "lost" if hit.drop else "passes"
            self._state.journal.record(
                "network",
                hop=hop.value,
                outcome=outcome,
                reason=hit.reason,
                copies=hit.copies,
                corrupted=hit.corrupt,
                fault_s=hit.delay_s,
            )
        return hit

    def handle_timer(self, now: float) -> None:
        """Let the scenario's due faults come."""
        for fault in self._faults.due(self._network.time(now + _TIMER_SLACK_S)):
            self.inject(fault, now)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, in seconds since 1970."""
        at = self._faults.get_timer()
        return None if at is None else self._network.clock(at)

    def _revoke(self, entity_id: EntityId | None) -> None:
        if entity_id is not None:
            for certificate in self._keys.keystore.certificates_of(entity_id):
                self._state.revoke(certificate_name(certificate))


def describe_fault(fault: Fault) -> str:
    """Return a fault in a few words."""
    parts = [fault.kind.value]
    if fault.hop is not None:
        parts.append(f"the next {fault.count} on the hop {fault.hop.value!r}")
    if fault.entity_id is not None:
        parts.append(f"of {fault.entity_id}")
    if fault.hub is not None:
        parts.append(f"of {fault.hub}")
    if fault.delay_s is not None:
        parts.append(f"by {fault.delay_s:g} s")
    if fault.duration_s is not None:
        parts.append(f"for {fault.duration_s:g} s")
    return " ".join(parts)

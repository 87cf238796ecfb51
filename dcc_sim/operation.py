"""What an operator can do to a running simulator, on sockets or without."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dcc_sim.core.faults import Fault
from dcc_sim.core.quarantine import QuarantinedCommand
from dcc_sim.core.state import ResponseBehaviour
from dcc_sim.engine import Engine


class Operated(ABC):
    """A simulator with an engine, at least some of the time.

    Every method raises DccSimError when the simulator does not run, and StoreError when the state
    cannot be written.
    """

    @abstractmethod
    def _running(self) -> Engine:
        """Return the engine.

        Raises:
            DccSimError: the simulator does not run at the moment.
        """

    async def quarantined(self) -> list[QuarantinedCommand]:
        """Return what anomaly detection holds back, the oldest first."""
        return await self._running().perform(lambda dcc, _now: dcc.quarantined())

    async def release(self, event_reference: int) -> None:
        """Let a command out of quarantine go on its way.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        await self._running().perform(lambda dcc, now: dcc.release(event_reference, now))

    async def discard(self, event_reference: int) -> None:
        """Give up a command in quarantine and tell its user.

        Raises:
            NotInQuarantine: there is none of this reference.
        """
        await self._running().perform(lambda dcc, now: dcc.discard(event_reference, now))

    async def revoke(self, issuer_name: str, serial: int) -> None:
        """Trust a certificate no more, for good.

        Raises:
            CertificateUnknown: there is none of this issuer and serial number.
        """
        await self._running().perform(lambda dcc, _now: dcc.revoke(issuer_name, serial))

    async def change_behaviour(self, behaviour: ResponseBehaviour) -> None:
        """Post responses and alerts in another way from now on.

        Raises:
            ConfigError: so many copies, or so long a delay, are not allowed.
        """
        await self._running().perform(lambda dcc, _now: dcc.change_behaviour(behaviour))

    async def inject(self, fault: Fault) -> int | None:
        """Let a fault come now; its ``at_s`` does not count.

        Returns:
            The number of a fault that waits for messages; None when it is done at once.
        """
        return await self._running().perform(lambda dcc, now: dcc.inject(fault, now))

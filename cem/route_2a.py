"""Route 2a at the CEM: one connection to the communications hub after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from cem.core.downlink import Downlink
from cem.core.tunnel import TunnelEnd
from cem.errors import CommandRefused, LinkError
from cem.ports import HubConnection, Store
from cem.telling import Teller
from gbcs.ports import Clock

logger = logging.getLogger("cem")


class Route2aWay:
    """Obeys what comes from the hub, and hands over what is to be sent.

    Args:
        downlink: obeys commands.
        tunnel: is told what was handed over.
        store: has the alerts that are to be sent.
        teller: tells what happens.
        counts: how many commands had each outcome, and how many were refused.
        clock: what all is measured by; see `gbcs.steady`.
    """

    def __init__(
        self,
        downlink: Downlink,
        tunnel: TunnelEnd,
        store: Store,
        teller: Teller,
        counts: Counter[str],
        clock: Clock,
    ) -> None:
        self._downlink = downlink
        self._tunnel = tunnel
        self._store = store
        self._teller = teller
        self._counts = counts
        self._clock = clock
        self.alert_added = asyncio.Event()
        """To be set when there is an alert more."""

    async def serve(self, connection: HubConnection) -> None:
        """Serve one connection until it breaks."""
        # No task group: in Python 3.11 one can swallow a cancellation that meets a failure.
        tasks = [
            asyncio.create_task(self._receive_commands(connection), name="cem receive"),
            asyncio.create_task(self._send_alerts(connection), name="cem send"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _receive_commands(self, connection: HubConnection) -> None:
        while True:
            message = await connection.receive()
            if isinstance(message, str):
                raise LinkError(
                    f"the hub sent a text of {len(message)} characters, expected binary messages"
                )
            response = self._obey(message)
            if response is not None:
                await connection.send(response)
            # A hub that floods us must not keep everybody else from their turn.
            await asyncio.sleep(0)

    def _obey(self, octets: bytes) -> bytes | None:
        try:
            handled = self._downlink.receive_untrusted(octets, self._clock())
        except CommandRefused as error:
            self._counts["REFUSED_COMMAND"] += 1
            logger.warning(
                "refused %d octets from the hub, no answer is sent: %s", len(octets), error
            )
            return None
        self._counts[handled.outcome.name] += 1
        self._teller.log_command(handled)
        return handled.response

    async def _send_alerts(self, connection: HubConnection) -> None:
        """Hand over what is to be sent, in order; what the hub may not have goes out again."""
        while True:
            self.alert_added.clear()
            alert = self._store.next_alert()
            if alert is None:
                await self.alert_added.wait()
                continue
            self._teller.tell_alert(alert)
            await connection.send(alert.octets)
            await connection.confirm()
            self._tunnel.handed_over(alert, self._clock())

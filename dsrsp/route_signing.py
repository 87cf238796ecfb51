"""Messages of route 2b that wait for their signatures, where the supplier's key lives elsewhere.

The tunnel's end keeps every message until its receipt has come. So what waits here is in memory
alone, and may be dropped with the connection that it was for.

While the signer is away, all wait and it is asked again, with growing pauses: connections stand.
To close them would help nobody, for each CEM that comes back costs a signature more, and route 2a
needs the same key. What the signer will not sign counts as lost on its way: the tunnel's end
repeats it, and at last takes route 2a. When more waits than may, the connection of the device for
which there is no room is closed, and what waited for it comes again when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from dsrsp.config import DsrspConfig
from dsrsp.errors import SignerUnavailable, SigningFailed
from dsrsp.route_2b.gate import Complaints
from dsrsp.signing import SupplierSigner
from gbcs.entity_id import EntityId
from gbcs.route_2b import Route2bMessage, message_octets_for
from smtunnel.send_events import Transmit

logger = logging.getLogger("dsrsp")

_MOST_DOUBLINGS: Final = 30


class Outlet(Protocol):
    """Where signed messages go on."""

    def carry(self, transmit: Transmit, message: Route2bMessage) -> None:
        """Send a signed message."""
        ...

    def wanted(self, transmit: Transmit) -> bool:
        """Tell whether a message is still to go."""
        ...

    def refused(self, transmit: Transmit) -> None:
        """Take note that a message was not signed, and will not be."""
        ...

    def too_much(self, device: EntityId, wait_s: float, why: str) -> None:
        """Close a device's connection: no more can wait for it. It may come back in wait_s."""
        ...


@dataclass(slots=True, eq=False)
class _Entry:
    """One message that waits; ``over`` when it is signed, refused, or not wanted any more."""

    transmit: Transmit
    message: Route2bMessage
    signed: Route2bMessage | None = None
    refused: bool = False
    over: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def octets(self) -> int:
        return message_octets_for(len(self.message.payload))


@dataclass(slots=True, eq=False)
class _Lane:
    """What waits for one connection, in the order of hand-over; first what is asked for."""

    asked: deque[_Entry] = field(default_factory=deque)
    to_ask: deque[_Entry] = field(default_factory=deque)

    def __iter__(self) -> Iterator[_Entry]:
        yield from self.asked
        yield from self.to_ask


class SigningQueue:
    """Has messages signed, and hands them on: those to one device in the order that they came.

    Args:
        config: says how much may wait, how many signatures are asked for at once, and the pauses.
        signer: lets no wrong signature through.
        outlet: takes what is signed.
    """

    def __init__(self, config: DsrspConfig, signer: SupplierSigner, outlet: Outlet) -> None:
        self._config = config
        self._signer = signer
        self._outlet = outlet
        self._lanes: dict[EntityId, _Lane] = {}
        # Those with something to ask for: each has its turn.
        self._turns: OrderedDict[EntityId, _Lane] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._messages = self._octets = 0
        self._failures = 0
        self._ask_at = 0.0
        self._closed = False
        self._complaints = Complaints(logger)

    def put(self, transmit: Transmit, message: Route2bMessage) -> None:
        """Have a message signed.

        Args:
            transmit: what the tunnel's end gave out.
            message: made of it, unsigned.
        """
        device, entry = message.target_id, _Entry(transmit, message)
        if self._closed:
            return
        if self._messages >= self._config.messages_to_sign or (
            self._messages and self._octets + entry.octets > self._config.octets_to_sign
        ):
            why = f"{self._messages} messages wait for signatures"
            self.forget(device)
            self._outlet.too_much(device, self._config.retry_max_s, why)
            return
        self._messages += 1
        self._octets += entry.octets
        lane = self._lanes.setdefault(device, _Lane())
        lane.to_ask.append(entry)
        self._turns.setdefault(device, lane)
        self._start()

    def forget(self, device: EntityId) -> None:
        """Drop what waits for a device: its connection is gone, or going."""
        self._turns.pop(device, None)
        lane = self._lanes.pop(device, None)
        if lane is None:
            return
        for entry in lane:
            self._count_off(entry)
            if entry.task is not None:
                entry.task.cancel()
        lane.asked.clear()
        lane.to_ask.clear()

    async def close(self) -> None:
        """Drop everything."""
        self._closed = True
        tasks = list(self._tasks)
        for device in list(self._lanes):
            self.forget(device)
        await asyncio.gather(*tasks, return_exceptions=True)

    # At work

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._turns and len(self._tasks) < self._config.signatures_in_flight:
            device, lane = self._turns.popitem(last=False)
            entry = lane.to_ask.popleft()
            lane.asked.append(entry)
            if lane.to_ask:
                self._turns[device] = lane
            entry.task = loop.create_task(self._sign(device, lane, entry))
            self._tasks.add(entry.task)
            entry.task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _sign(self, device: EntityId, lane: _Lane, entry: _Entry) -> None:
        try:
            entry.signed = await self._signature(entry)
        except SigningFailed as error:
            entry.refused = True
            text = "message %d to %s is not signed for route 2b: %s"
            self._complaints.tell(text, entry.message.originator_counter, device, error)
        except Exception:
            # A fault of ours with one message must not hold up those behind it for ever.
            entry.refused = True
            logger.exception("unforeseen error while a message to %s was signed", device)
        entry.over = True
        self._hand_on(device, lane)

    async def _signature(self, entry: _Entry) -> Route2bMessage | None:
        loop = asyncio.get_running_loop()
        while True:
            if (wait_s := self._ask_at - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not self._outlet.wanted(entry.transmit):
                return None
            try:
                signature = await self._signer.sign(entry.message)
            except SignerUnavailable as error:
                self._note_away(error, loop.time())
            else:
                self._note_back()
                return entry.message.with_signature(signature)

    def _hand_on(self, device: EntityId, lane: _Lane) -> None:
        while lane.asked and lane.asked[0].over:
            entry = lane.asked.popleft()
            self._count_off(entry)
            if entry.refused:
                self._outlet.refused(entry.transmit)
            elif entry.signed is not None and self._outlet.wanted(entry.transmit):
                self._outlet.carry(entry.transmit, entry.signed)
        if not lane.asked and not lane.to_ask and self._lanes.get(device) is lane:
            del self._lanes[device]

    def _count_off(self, entry: _Entry) -> None:
        self._messages -= 1
        self._octets -= entry.octets

    # A signer that is away

    def _note_away(self, error: SignerUnavailable, now: float) -> None:
        if now < self._ask_at:
            # One of those that were asked for together has told it.
            return
        pause_s = self._config.retry_first_s * 2 ** min(self._failures, _MOST_DOUBLINGS)
        self._failures += 1
        self._ask_at = now + min(pause_s, self._config.retry_max_s)
        text = "%d messages by route 2b wait for signatures, attempt %d failed: %s"
        self._complaints.tell(text, self._messages, self._failures, error)

    def _note_back(self) -> None:
        if self._failures > 1:
            logger.info("the signing service is back, %d messages wait", self._messages)
        self._failures = 0

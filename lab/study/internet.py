"""The internet between a home and the DSRSP, as the engines with real software have it.

The same times as in the fleet model (`lab.study.fleet.direct`): half a round trip for what goes one
way, and a retransmission for packets that are lost.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from contextlib import suppress

from dcc_sim.core.network.distributions import (
    Constant,
    Distribution,
    Exponential,
    Lognormal,
    Mixture,
    Trace,
)
from lab.study.networks import Internet

PACKET_OCTETS = 1400
MOST_RETRANSMISSIONS = 12
_READ_OCTETS = 65536
_SAME_S = 0.02


class InternetTimes:
    """Draws what messages take.

    Args:
        internet: its parameters.
        seed: the same one, the same times.
    """

    def __init__(self, internet: Internet, seed: str) -> None:
        self._internet = internet
        self._numbers = random.Random(seed)  # noqa: S311 (a simulation's)

    def round_trip_s(self) -> float:
        """Return the time there and back, in seconds."""
        return self._draw(self._internet.round_trip.value)

    def line(self, clock: Callable[[], float]) -> Callable[[int], float]:
        """Return one way of one connection: what so many octets take on it, in seconds.

        Args:
            clock: seconds of the case; what goes out together takes the same time.
        """
        known = (-math.inf, 0.0)

        def takes_s(octets: int) -> float:
            nonlocal known
            if clock() - known[0] > _SAME_S:
                known = (clock(), self.round_trip_s())
            return known[1] / 2 + self.retransmissions_s(math.ceil(octets / PACKET_OCTETS))

        return takes_s

    def is_offline(self) -> bool:
        """Draw whether a home has no internet."""
        return self._numbers.random() < self._internet.offline_share.value

    def retransmissions_s(self, packets: int) -> float:
        """Return what lost packets cost, in seconds."""
        loss, pause = self._internet.loss_probability.value, self._internet.retransmission_s.value
        cost = 0.0
        for _ in range(MOST_RETRANSMISSIONS):
            packets = sum(self._numbers.random() < loss for _ in range(packets))
            if not packets:
                break
            # Packets that are lost together are sent again together.
            cost += pause
            pause *= 2
        return cost

    def _draw(self, distribution: Distribution) -> float:
        numbers = self._numbers
        match distribution:
            case Constant(value_s=value):
                return value
            case Lognormal(median_s=median, sigma=sigma, shift_s=shift, max_s=most):
                value = shift + median * math.exp(sigma * numbers.gauss(0.0, 1.0))
                return value if most is None else min(value, most)
            case Exponential(mean_s=mean, max_s=most):
                value = numbers.expovariate(1 / mean)
                return value if most is None else min(value, most)
            case Trace(values_s=values):
                return values[numbers.randrange(len(values))]
            case Mixture(parts=parts):
                chosen = numbers.choices(parts, [part.weight for part in parts])[0]
                return self._draw(chosen.of)


class SlowProxy:
    """Stands between two real sockets and lets everything pass later.

    Args:
        line: makes one way of one connection: what so many octets take on it, in seconds.
        connecting_s: draws what a new connection takes before it carries anything, in seconds.

    ``address`` is where it takes connections, as host:port.
    """

    def __init__(
        self, line: Callable[[], Callable[[int], float]], connecting_s: Callable[[], float]
    ) -> None:
        self._line = line
        self._connecting_s = connecting_s
        self._leads_to: tuple[str, int] | None = None
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1") -> None:
        """Begin to take connections, at `address`; until `leads_to` they come to an end at once."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def leads_to(self, host: str, port: int) -> None:
        """Say where the server is."""
        self._leads_to = host, port

    async def close(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for task in set(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._leads_to is None:
            writer.close()
            return
        await asyncio.sleep(self._connecting_s())
        try:
            other_reader, other_writer = await asyncio.open_connection(*self._leads_to)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.ensure_future(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass octets on, each piece after its delay and never before the one ahead of it."""
        loop = asyncio.get_running_loop()
        takes_s = self._line()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.ensure_future(self._write(pieces, sink))
        free_at = 0.0
        try:
            while piece := await source.read(_READ_OCTETS):
                free_at = max(free_at, loop.time() + takes_s(len(piece)))
                pieces.put_nowait((free_at, piece))
            pieces.put_nowait((free_at, b""))
            await writing
        except OSError:
            return
        finally:
            writing.cancel()
            sink.close()

    @staticmethod
    async def _write(
        pieces: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, piece = await pieces.get()
            await asyncio.sleep(at - loop.time())
            if not piece:
                return
            sink.write(piece)
            await sink.drain()

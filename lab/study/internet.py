"""The internet between a home and the DSRSP, as the engines with real software have it.

The same times as in the fleet model (`lab.study.fleet.direct`): half a round trip for what goes one
way, more of them where TCP's first window is too small, and a retransmission for packets that are
lost. Each flight has a round trip of its own.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Callable, Sequence
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
CONNECTING_PACKETS = 2
"""TCP's own packets before anything is carried: there and back."""
CERTIFICATE_PACKETS = 1
"""The client's certificate, which a new connection sends right before the first message."""
_FIRST_WINDOW_PACKETS = 10
_FLIGHT_S = 0.01
"""So long pieces of one message may follow each other, and a message the receipt before it."""
_READ_OCTETS = 65536


def flights_of(round_trips: float) -> tuple[float, ...]:
    """Return what a message waits for, in order: shares of a round trip, each with its own draw.

    A connection that is made for a message begins with a whole round trip of TCP; TLS and the
    message itself go one way after another, half a round trip each. With TLS 1.3 these are the
    greeting, the server's answer, and the client's certificate with the request behind it.

    Args:
        round_trips: of all of them together.
    """
    connecting = (1.0,) if round_trips > 1 else ()
    ways, rest = divmod(round_trips - sum(connecting), 0.5)
    return (*connecting, *[0.5] * int(ways), *([rest] if rest else []))


def window_rounds(packets: int) -> int:
    """Return how many round trips TCP's slow start adds to a message after a pause.

    Source: RFC 6928 (ten packets at first, doubled each round trip), RFC 5681 section 4.1.
    """
    rounds = 0
    while _FIRST_WINDOW_PACKETS * (2 ** (rounds + 1) - 1) < packets:
        rounds += 1
    return rounds


def packets_of(octets: int) -> int:
    """Return how many packets so many octets fill."""
    return max(math.ceil(octets / PACKET_OCTETS), 1)


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

    def connecting_s(self) -> float:
        """Return what a new connection takes before it carries anything, in seconds."""
        return self.round_trip_s() + self.retransmissions_s(CONNECTING_PACKETS)

    def own_time_s(self, values_s: Sequence[float]) -> float:
        """Return one of the values that were measured, in seconds; 0: none were."""
        return self._numbers.choice(values_s) if values_s else 0.0

    def line(
        self, clock: Callable[[], float], own_time_s: Callable[[], float] = lambda: 0.0
    ) -> Callable[[int], float]:
        """Return one way of one connection: what so many octets take on it, in seconds.

        What is sent right behind something that is still on its way belongs to the same flight, and
        has its round trip. On an empty line each begins anew, however fast the one before it was:
        else short times would be drawn more often than long ones; and a later one begins anew,
        however slow the one before it is: else long ones would be. Order is whose line it is to
        keep.

        Args:
            clock: seconds of the case.
            own_time_s: draws what the software at both ends takes, once for each flight.
        """
        trip_s = software_s = began_at = empty_at = 0.0
        flight_octets = 0

        def takes_s(octets: int) -> float:
            nonlocal trip_s, software_s, began_at, empty_at, flight_octets
            now = clock()
            if now >= empty_at or now - began_at > _FLIGHT_S:
                trip_s, software_s, flight_octets = self.round_trip_s(), own_time_s(), 0
                began_at = now
            flight_octets += octets
            rounds = 0.5 + window_rounds(packets_of(flight_octets))
            way_s = rounds * trip_s + self.retransmissions_s(packets_of(octets))
            empty_at = max(empty_at, now + way_s)
            return way_s + software_s

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


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are exact to some microseconds.

    The usual one, by epoll, wakes up to a millisecond late: too late for what stands for a line.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


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

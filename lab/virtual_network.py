"""What carries octets between the parties of a simulation: function calls instead of sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from cem.errors import LinkError, LinkRefused
from cem.ports import Connector, HubConnection
from dcc_sim import DccSimError, LocalLink, LocalSimulator, MessageDropped
from dcc_sim.core.services import Service as DccService
from dcc_sim.errors import DeviceMessageRefused
from dsrsp.errors import DccUnreachable
from dsrsp.gateway import Gateway as DsrspGateway
from dsrsp.ports import Service
from dsrsp.posted import take_posted
from gbcs.device_link import NONCE_OCTETS, Challenge, build_welcome, parse_untrusted_path
from gbcs.entity_id import EntityId
from gbcs.ports import Randomness
from lab.virtual_process import Life, VirtualProcess
from lab.virtual_tape import Tape


class VirtualDcc:
    """The DCC as one life of the DSRSP's process reaches it; a dsrsp.ports.DccClient.

    Args:
        simulator: the DCC.
        life: of the DSRSP's process.
        tape: gets what is said.
        timeout_s: one exchange, in seconds.
    """

    def __init__(
        self, simulator: LocalSimulator, life: Life, tape: Tape, *, timeout_s: float
    ) -> None:
        self._simulator = simulator
        self._life = life
        self._tape = tape
        self._timeout_s = timeout_s

    async def post(self, service: Service, request: bytes) -> bytes:
        """Post one request and return the answer.

        Raises:
            DccUnreachable: no answer, or not in time.
        """
        if not self._life.alive:
            raise DccUnreachable("the process has ended")
        self._tape.write(f"request to {service.value}", request)
        # The DCC goes on with a request whose sender waits no longer.
        exchange = asyncio.ensure_future(self._exchange(DccService(service.value), request))
        # How it ends is then of interest to nobody.
        exchange.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await asyncio.shield(exchange)
        except TimeoutError:
            raise DccUnreachable(f"no answer in {self._timeout_s} s") from None
        except (MessageDropped, DccSimError) as error:
            raise DccUnreachable(str(error)) from None
        self._tape.write(f"answer of {service.value}", answer)
        return answer

    async def _exchange(self, service: DccService, request: bytes) -> bytes:
        return (await self._simulator.request(service, request)).xml


class ReceiveAddress:
    """Where the DCC posts to: the DSRSP's process, if it runs.

    Args:
        process: the DSRSP's.
        tape: gets what is said.
    """

    def __init__(self, process: VirtualProcess[DsrspGateway], tape: Tape) -> None:
        self._process = process
        self._tape = tape

    async def post(self, url: str, octets: bytes) -> int:
        """Bring a message there; returns the HTTP status.

        Raises:
            OSError: nobody is there, or the process died before it answered.
        """
        living = self._process.living()
        if living is None:
            raise ConnectionRefusedError("connection refused")
        gateway, life = living
        self._tape.write(f"post to {url}", octets)
        answer = take_posted(gateway.receive_untrusted, octets, sender="the DCC")
        if not life.alive:
            raise ConnectionResetError("connection reset by peer")
        self._tape.write(f"answer of {url}", f"{answer.status:d} {answer.text}".encode())
        return answer.status


class VirtualHub:
    """A device's connection to its communications hub; implements cem.ports.HubConnection.

    Args:
        simulator: what lies behind the hub.
        device: whose connection it is.
        tape: gets what is said.
        random_octets: makes the challenge.
    """

    def __init__(
        self, simulator: LocalSimulator, device: EntityId, tape: Tape, random_octets: Randomness
    ) -> None:
        self._simulator = simulator
        self._device = device
        self._tape = tape
        self._from_hub, self._to_hub = f"hub to {device}", f"{device} to hub"
        self._waiting: asyncio.Queue[str | bytes | LinkError] = asyncio.Queue()
        self._link: LocalLink | None = None
        self._broken: LinkError | None = None
        self._challenge = Challenge(random_octets(NONCE_OCTETS))
        self._say(self._challenge.build())

    async def receive(self) -> str | bytes:
        """Return the next message."""
        said = await self._waiting.get()
        if isinstance(said, LinkError):
            raise said
        return said

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        if self._broken is not None:
            raise self._broken
        octets = message.encode() if isinstance(message, str) else message
        self._tape.write(self._to_hub, octets)
        if self._link is None:
            self._prove(message)
        else:
            self._link.send(octets)

    async def confirm(self) -> None:
        """Return when the hub has received all that was sent: at once."""
        if self._broken is not None:
            raise self._broken

    def cut(self) -> None:
        """End the connection from the device's side."""
        self._break(LinkError("the connection to the hub broke"))
        if self._link is not None:
            self._link.close()

    def _prove(self, message: str | bytes) -> None:
        text = message if isinstance(message, str) else ""
        try:
            self._simulator.check_untrusted_proof(self._device, self._challenge, text)
            self._link = self._simulator.connect(self._device, self._say, self._closed)
        except DeviceMessageRefused as error:
            self._break(LinkRefused(f"the hub refused this device: {error}"))
        except DccSimError as error:
            self._break(LinkError(f"the hub closed the connection: {error}"))
        else:
            self._say(build_welcome())

    def _closed(self) -> None:
        self._break(LinkError("the hub closed the connection"))

    def _break(self, error: LinkError) -> None:
        if self._broken is None:
            self._broken = error
            self._waiting.put_nowait(error)

    def _say(self, message: str | bytes) -> None:
        if self._broken is None:
            octets = message.encode() if isinstance(message, str) else message
            self._tape.write(self._from_hub, octets)
            self._waiting.put_nowait(message)


def hub_connector(
    simulator: LocalSimulator, life: Life, tape: Tape, random_octets: Randomness
) -> Connector:
    """Return what connects one life of a CEM's process to its hub.

    Args:
        simulator: what lies behind the hub.
        life: of the CEM's process.
        tape: gets what is said.
        random_octets: makes challenges.
    """

    @contextlib.asynccontextmanager
    async def connector(url: str) -> AsyncIterator[HubConnection]:
        device = parse_untrusted_path(urlsplit(url).path)
        if not life.alive:
            raise LinkError("the process has ended")
        if not simulator.is_running:
            raise LinkError(f"cannot connect to the hub at {url}: connection refused")
        hub = VirtualHub(simulator, device, tape, random_octets)
        life.at_end(hub.cut)
        try:
            yield hub
        finally:
            hub.cut()
            life.not_at_end(hub.cut)

    return connector

"""Users and devices that cost next to nothing: they send what was made beforehand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from gbcs import EcdsaSigner
from gbcs.device_link import (
    NONCE_OCTETS,
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_welcome,
)
from lab.cast import Device
from lab.errors import DemoError

_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _take_message(buffer: bytearray) -> bytes | None:
    """Take one HTTP message with its body out of a buffer; None when it is not all there."""
    head = buffer.find(_HEAD_END)
    if head < 0:
        return None
    length = _CONTENT_LENGTH.search(buffer, 0, head)
    end = head + len(_HEAD_END) + (int(length[1]) if length else 0)
    if len(buffer) < end:
        return None
    message = bytes(buffer[:end])
    del buffer[:end]
    return message


class UserConnection(asyncio.Protocol):
    """A user's HTTP connection to the DCC: one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, port: int) -> UserConnection:
        """Connect to the DUIS services."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def post(self, service: str, xml: bytes) -> bytes:
        """Send a request to a service; returns the whole HTTP answer."""
        if self._transport is None:
            raise DemoError("the connection to the DCC is closed")
        self._answer = asyncio.get_running_loop().create_future()
        head = (
            f"POST /api/v1/{service} HTTP/1.1\r\nHost: dcc\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(xml)}\r\n\r\n"
        )
        self._transport.write(head.encode() + xml)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(DemoError("the DCC closed the connection"))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        message = _take_message(self._buffer)
        if message is not None and self._answer is not None:
            self._answer.set_result(message)


class ReceiveAddress(asyncio.Protocol):
    """A user's receive address: takes everything with 204.

    Args:
        receive: is called with each HTTP message.
    """

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._buffer += data
        while (message := _take_message(self._buffer)) is not None:
            self._receive(message)
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


class DeviceConnection(asyncio.Protocol):
    """A device that proves its key, and then gives its answers without a look at the commands.

    Args:
        device: who it is.
        answer: returns the octets that answer a command, or None.
    """

    def __init__(self, device: Device, answer: Callable[[bytes], bytes | None]) -> None:
        path = device_path(device.entity_id)
        self._device = device
        self._answer = answer
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1{path}"))
        self._transport: asyncio.WriteTransport | None = None
        self._proven = False
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if not self.welcomed.done():
            self.welcomed.set_exception(DemoError("the simulator closed a device's connection"))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._prove(bytes(event.data).decode())
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                answer = self._answer(bytes(event.data))
                if answer is not None:
                    self._protocol.send_binary(answer)
        self._flush()

    @property
    def is_open(self) -> bool:
        """Whether the connection is there."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def _prove(self, text: str) -> None:
        if self._proven:
            parse_untrusted_welcome(text)
            self.welcomed.set_result(None)
            return
        self._proven = True
        signer = EcdsaSigner(self._device.signing.private_key)
        challenge = parse_untrusted_challenge(text)
        # Nobody but this machine's simulator sees it.
        proof = make_proof(challenge, self._device.entity_id, signer, bytes(NONCE_OCTETS))
        self._protocol.send_text(proof.build().encode())

    def _flush(self) -> None:
        if self._transport is not None:
            for octets in self._protocol.data_to_send():
                if octets:
                    self._transport.write(octets)


async def connect_devices(
    devices: list[Device],
    port: int,
    answer: Callable[[bytes], bytes | None],
    *,
    at_once: int = 32,
) -> list[DeviceConnection]:
    """Connect devices, some at a time; returns when all are welcome."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(at_once)

    async def connect(device: Device) -> DeviceConnection:
        async with gate:
            _, connection = await loop.create_connection(
                lambda: DeviceConnection(device, answer), "127.0.0.1", port
            )
            await connection.welcomed
            return connection

    return list(await asyncio.gather(*map(connect, devices)))

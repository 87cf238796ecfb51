"""Pushes the VTN's messages to a VEN of the PUSH model, which serves HTTP itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import aiohttp

from cem.errors import CemError
from cem.openadr.core.face import Answer
from openadr_xml import MAX_PAYLOAD_OCTETS, SERVICES, PayloadRefused, parse_untrusted_payload

if TYPE_CHECKING:
    from cem.openadr.server import OpenAdrVtn

logger = logging.getLogger("cem.openadr")

_RETRY_MIN_S: Final = 1.0
_RETRY_MAX_S: Final = 60.0
_TIMEOUT_S: Final = 10.0


class VenPusher:
    """Sends what is queued, oldest first, until the VEN has taken it.

    Args:
        face: the VTN whose messages they are.
    """

    def __init__(self, face: OpenAdrVtn) -> None:
        self._face = face

    async def run(self) -> None:
        """Push until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            pause_s = _RETRY_MIN_S
            while True:
                url, answer, kind = await self._face.wait_for_push()
                if await self._push(session, url, answer, kind):
                    await self._face.written(answer)
                    pause_s = _RETRY_MIN_S
                    continue
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_MAX_S)

    async def _push(
        self, session: aiohttp.ClientSession, url: str, push: Answer, kind: str
    ) -> bool:
        address = f"{url.rstrip('/')}/{SERVICES[kind]}"
        try:
            async with session.post(
                address,
                data=push.octets,
                headers={"Content-Type": "application/xml"},
                allow_redirects=False,
            ) as response:
                body = await response.content.read(MAX_PAYLOAD_OCTETS + 1)
                if response.status != 200:
                    logger.warning("the VEN answered a push of %s: %d", kind, response.status)
                    return False
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.warning("cannot push %s to the VEN: %r", kind, error)
            return False
        if body.strip():
            await self._take_answer(body, kind)
        return True

    async def _take_answer(self, body: bytes, kind: str) -> None:
        """Take what the VEN said to a push: what a polling VEN would have posted."""
        try:
            payload = parse_untrusted_payload(body)
            certificate = self._face.face.bound_fingerprint
            await self._face.ask(payload, payload.service, certificate)
        except (PayloadRefused, CemError) as error:
            logger.warning("the VEN's answer to a push of %s is lost: %s", kind, error)

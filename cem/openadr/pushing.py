"""Pushes the VTN's messages to a VEN of the PUSH model, which serves HTTP itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp

from cem.errors import CemError
from cem.openadr.core.face import Answer
from cem.openadr.desk import Desk
from openadr_xml import (
    MAX_PAYLOAD_OCTETS,
    SERVICES,
    PayloadRefused,
    building,
    parse_untrusted_payload,
)
from runner_io.http_listening import read_some

logger = logging.getLogger("cem.openadr")

_RETRY_MIN_S: Final = 1.0
_RETRY_MAX_S: Final = 60.0
_TIMEOUT_S: Final = 10.0


class VenPusher:
    """Sends what is queued, oldest first, until the VEN has taken it.

    Args:
        desk: keeps the messages.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def run(self) -> None:
        """Push until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=jar) as session:
            pause_s = _RETRY_MIN_S
            while True:
                url, answer, kind = await self._desk.wait_for_push()
                if await self._push(session, url, answer, kind):
                    await self._desk.written(answer)
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
                body = await read_some(response, MAX_PAYLOAD_OCTETS)
                if response.status != 200:
                    logger.warning("the VEN answered a push of %s: %d", kind, response.status)
                    return False
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.warning("cannot push %s to the VEN: %r", kind, error)
            return False
        return not body.strip() or await self._take_answer(body, kind)

    async def _take_answer(self, body: bytes, kind: str) -> bool:
        """Take what the VEN said to a push: what a polling VEN would have posted.

        Returns:
            Whether that is done with; if not, it has to be pushed again to have another answer.
        """
        try:
            payload = parse_untrusted_payload(body)
            certificate = self._desk.face.bound_fingerprint
            answer = await self._desk.ask(payload, payload.service, certificate)
            told = parse_untrusted_payload(answer.octets) if answer.octets else None
        except PayloadRefused as error:
            logger.warning("the VEN's answer to a push of %s is of no use: %s", kind, error)
            return True
        except CemError as error:
            logger.warning("cannot keep the VEN's answer to a push of %s: %s", kind, error)
            return False
        if told is not None and told.response_code >= 300:
            logger.warning(
                "the VEN's answer to a push of %s does not cross: %d %r",
                kind,
                told.response_code,
                told.response_description,
            )
            return told.response_code != building.OTHER_ERROR
        return True

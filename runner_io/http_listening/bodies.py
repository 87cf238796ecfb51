"""What comes in one request or answer: its body, and whose certificate came with it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import aiohttp
from aiohttp import web

_PIECE_OCTETS: Final = 16_384


async def read_body(request: web.Request, timeout_s: float) -> bytes:
    """Return a request's body, not longer than ``client_max_size`` of the application.

    Raises:
        aiohttp.web.HTTPException: it is too long, or did not come in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        refusal = web.HTTPRequestTimeout(text=f"the body did not come in {timeout_s:g} s\n")
        refusal.force_close()  # the rest of the body would be waited for
        raise refusal from None


async def read_some(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return an answer's body, or more than the first ``limit`` octets where it is longer."""
    body = b""
    async for piece in response.content.iter_chunked(_PIECE_OCTETS):
        body += piece
        if len(body) > limit:
            break
    return body


def fingerprint(request: web.Request) -> str:
    """Return SHA-256 of the caller's certificate in hexadecimal; "" if it showed none."""
    tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
    certificate = None if tls is None else tls.getpeercert(binary_form=True)
    return "" if not certificate else hashlib.sha256(certificate).hexdigest()

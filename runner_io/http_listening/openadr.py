"""What OpenADR 2.0b posts."""

from __future__ import annotations

from aiohttp import web

from openadr_xml import Payload, PayloadRefused, parse_untrusted_payload

_XML_TYPES = ("application/xml", "text/xml")


async def read_payload(request: web.Request) -> Payload:
    """Return the payload in a request.

    Raises:
        aiohttp.web.HTTPException: it holds none.
    """
    if request.content_type not in _XML_TYPES:
        raise web.HTTPUnsupportedMediaType(
            text="OpenADR 2.0b is posted as Content-Type: application/xml\n"
        )
    try:
        return parse_untrusted_payload(await request.read())
    except PayloadRefused as error:
        raise web.HTTPBadRequest(text=f"no OpenADR 2.0b payload: {error}\n") from None

"""Posts DUIS requests to the DCC's services over HTTP; one attempt a call.

Repeating is the business of the caller, who knows what may be repeated.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

import aiohttp

from dsrsp.connecting import connect_reason
from dsrsp.errors import DccUnreachable
from dsrsp.ports import Service
from gbcs.duis import MAX_DUIS_OCTETS

_PATHS = {Service.TRANSFORM: "/api/v1/serviceT", Service.SEND: "/api/v1/serviceS"}


class HttpDccClient:
    """The DCC behind a URL.

    Args:
        url: scheme, host and port; the services' paths are appended.
        attempt_timeout_s: one exchange, in seconds.
    """

    def __init__(self, url: str, *, attempt_timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=attempt_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpDccClient:
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, service: Service, request: bytes) -> bytes:
        """Post one request and return the body of the answer.

        The body is returned whatever the HTTP status is, if there is one: an error code
        in a DUIS answer says more than the status.

        Raises:
            DccUnreachable: no answer, an empty one, or one that is too long.
        """
        if self._session is None:
            raise DccUnreachable("the HTTP client is not open")
        url = self._url + _PATHS[service]
        try:
            async with self._session.post(
                url,
                data=request,
                headers={"Content-Type": "application/xml"},
                allow_redirects=False,
            ) as answer:
                body = await _read_limited(answer)
                if not body or (answer.status >= 300 and not body.lstrip().startswith(b"<")):
                    raise DccUnreachable(
                        f"{url}: HTTP {answer.status} {answer.reason}, no DUIS message in it"
                    )
                return body
        except TimeoutError:
            raise DccUnreachable(f"{url}: no answer in {self._timeout.total} s") from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
            raise DccUnreachable(f"{url}: {connect_reason(error)}") from None


async def _read_limited(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(16384):
        body += chunk
        if len(body) > MAX_DUIS_OCTETS:
            raise DccUnreachable(
                f"{answer.url}: an answer of more than {MAX_DUIS_OCTETS} octets, dropped"
            )
    return bytes(body)

"""Stream 1: OpenADR without a tunnel, over HTTPS with mutual TLS, to compare the routes with.

The applications are those of lab.openadr_demo (`Application` with ``--tls``); `lab.three_ways`
runs them. Here is the transport alone: a server that answers each POST, and a client that posts on
a connection that it keeps, each with a certificate of `lab.tls_files`, without openleadr.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import aiohttp
from aiohttp import web

from lab.errors import DemoError, KeyFolderError
from runner_io.http_listening import listen_reason

SERVER_NAME: Final = "vtn"
CLIENT_NAME: Final = "ven"
PATH: Final = "/OpenADR2/Simple/2.0b/EiEvent"

_MAX_OCTETS: Final = 1 << 20
_TIMEOUT_S: Final = 30.0
_KEPT_S: Final = 3600.0
_HEADERS: Final = {"Content-Type": "application/xml"}


def server_tls(folder: Path) -> ssl.SSLContext:
    """Return a server's side of mutual TLS, 1.2 or newer.

    Args:
        folder: has ca.pem, vtn.pem and vtn.key.

    Raises:
        KeyFolderError: a file is missing or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, folder, SERVER_NAME)


def client_tls(folder: Path) -> ssl.SSLContext:
    """Return a client's side of mutual TLS, 1.2 or newer; it checks the server's name too.

    Args:
        folder: has ca.pem, ven.pem and ven.key.

    Raises:
        KeyFolderError: a file is missing or is no certificate or key.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), folder, CLIENT_NAME)


def _load(context: ssl.SSLContext, folder: Path, name: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(folder / "ca.pem")
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    except (OSError, ssl.SSLError) as error:
        raise KeyFolderError(
            f"{folder}: cannot be used for mutual TLS as {name}: {error}; "
            "`smtunnel stream-1 keys FOLDER` makes what is needed"
        ) from None
    return context


class Answerer:
    """Answers every POST with the same octets, as an async context manager.

    Args:
        tls: of the server's side.
        answer: the body of each answer.
        host: where it listens.
        port: 0 takes any free one.
        heard: is told the octets of each request as soon as it is whole, before the answer.

    ``asked`` counts the requests.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        answer: bytes,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        heard: Callable[[int], None] = lambda octets: None,
    ) -> None:
        self.asked = 0
        self._tls = tls
        self._answer = answer
        self._host = host
        self._port = port
        self._heard = heard

    async def __aenter__(self) -> Answerer:
        app = web.Application(client_max_size=_MAX_OCTETS)
        app.router.add_post(PATH, self._post)
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=_KEPT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise DemoError(
                f"cannot listen on {self._host}:{self._port}: {listen_reason(error)}"
            ) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it is to be asked."""
        return f"https://{self._host}:{self._runner.addresses[0][1]}{PATH}"

    async def _post(self, request: web.Request) -> web.Response:
        octets = await request.read()
        self.asked += 1
        self._heard(len(octets))
        return web.Response(body=self._answer, headers=_HEADERS)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        seconds: from the first octet given out until the whole answer was there; where the
            connection was new, with TCP and TLS.
        connected: whether the connection was made for it.
        answer: the body.
    """

    seconds: float
    connected: bool
    answer: bytes


class Asker:
    """Posts to a server, on one connection that it keeps, as an async context manager.

    Args:
        url: as `Answerer.url`, or any other that takes POST.
        tls: of the client's side.
        keep: False makes a new connection for each request.
    """

    def __init__(self, url: str, tls: ssl.SSLContext, *, keep: bool = True) -> None:
        self._url = url
        self._tls = tls
        self._keep = keep
        self._connections = 0

    async def __aenter__(self) -> Asker:
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_end.append(self._count)
        self._session = aiohttp.ClientSession(
            connector=self._connector(),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            trace_configs=[tracing],
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def ask(self, request: bytes) -> Exchange:
        """Post a request and wait for the answer.

        Raises:
            DemoError: it cannot be reached, does not trust us or is not trusted, or refused.
        """
        before, began = self._connections, time.perf_counter()
        try:
            async with self._session.post(self._url, data=request, headers=_HEADERS) as answer:
                octets = await answer.read()
                seconds = time.perf_counter() - began
                if answer.status != web.HTTPOk.status_code:
                    raise DemoError(f"{self._url} answers with HTTP status {answer.status}")
        except TimeoutError:
            raise DemoError(f"{self._url}: no answer in {_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise DemoError(f"{self._url}: {error or type(error).__name__}") from None
        return Exchange(seconds, self._connections > before, octets)

    def _connector(self) -> aiohttp.TCPConnector:
        if self._keep:
            return aiohttp.TCPConnector(ssl=self._tls, limit=1, keepalive_timeout=_KEPT_S)
        return aiohttp.TCPConnector(ssl=self._tls, limit=1, force_close=True)

    async def _count(self, *_: object) -> None:
        self._connections += 1

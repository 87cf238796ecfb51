"""Reaches the VTN over HTTP, as each CEM with a certificate of its own."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType

import aiohttp
from yarl import URL

from dsrsp.errors import ConfigurationError, DsrspError
from dsrsp.openadr.config import OpenAdrConfig
from gbcs.entity_id import EntityId
from openadr_xml import MAX_PAYLOAD_OCTETS, Payload, PayloadRefused, parse_untrusted_payload
from runner_io.http_listening import read_some


class VtnError(DsrspError):
    """The VTN gave no answer that can be used."""


class VtnUnreachable(VtnError):
    """The VTN was not reached: it has not seen the request."""


class VtnRefused(VtnError):
    """The VTN refused the request over HTTP, with this status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class NoCertificate(VtnRefused):
    """There is no client certificate for the CEM."""


class VtnClient:
    """Posts payloads to the VTN; use it with ``async with``.

    ``shown`` is the VTN's address without what it may hold of a user's name and password.

    Args:
        config: the settings.
    """

    def __init__(self, config: OpenAdrConfig) -> None:
        self._config = config
        self._base = config.vtn_url.rstrip("/")
        try:
            self.shown = str(URL(self._base).with_user(None))
        except ValueError as error:
            raise ConfigurationError(f"openadr: vtn_url is no address: {error}") from None
        self._sessions: dict[EntityId | None, aiohttp.ClientSession] = {}
        self._trust(None)  # what is wrong with the files is told at the start

    async def __aenter__(self) -> VtnClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def post(self, device: EntityId, service: str, octets: bytes) -> Payload | None:
        """Post a payload and return the answer; None: status 200 or 204 with nothing in it.

        Raises:
            VtnUnreachable: the VTN has not seen it.
            VtnRefused: it answered with a status of 400 to 499.
            VtnError: it answered with anything else, with garbage, or not in time.
        """
        url = f"{self.shown}/{service}"
        try:
            async with self._session(device).post(
                f"{self._base}/{service}",
                data=octets,
                headers={"Content-Type": "application/xml"},
                allow_redirects=False,
            ) as response:
                body = await read_some(response, MAX_PAYLOAD_OCTETS)
                status = response.status
        except ConfigurationError as error:
            raise VtnUnreachable(str(error)) from None  # a file has gone since the start
        except aiohttp.ClientConnectorError as error:
            raise VtnUnreachable(f"{url}: cannot be reached: {error}") from None
        except TimeoutError:
            raise VtnError(f"{url}: no answer in {self._config.vtn_timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise VtnError(f"{url}: {type(error).__name__}: {error}") from None
        if len(body) > MAX_PAYLOAD_OCTETS:
            raise VtnError(f"{url}: the answer has more than {MAX_PAYLOAD_OCTETS} octets")
        if 400 <= status < 500:
            raise VtnRefused(f"{url}: HTTP {status}: {body[:200]!r}", status)
        if status != 200 and not (status == 204 and not body):
            raise VtnError(f"{url}: HTTP {status}: {body[:200]!r}")
        if not body.strip():
            return None
        try:
            return parse_untrusted_payload(body)
        except PayloadRefused as error:
            raise VtnError(f"{url}: no OpenADR 2.0b answer: {error}") from None

    def _session(self, device: EntityId) -> aiohttp.ClientSession:
        # Who shows no certificate can share connections.
        key = None if self._config.certificates is None else device
        session = self._sessions.get(key)
        if session is None:
            timeout = aiohttp.ClientTimeout(total=self._config.vtn_timeout_s)
            connector = aiohttp.TCPConnector(ssl=self._trust(key))
            # A cookie of one CEM must not speak for another.
            jar = aiohttp.DummyCookieJar()
            session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar)
            self._sessions[key] = session
        return session

    def _trust(self, device: EntityId | None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        try:
            if self._config.vtn_ca is not None:
                context = ssl.create_default_context(cafile=self._config.vtn_ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"openadr: vtn_ca = {self._config.vtn_ca!r}: not a PEM file of certificates: "
                f"{error}"
            ) from None
        if device is not None and self._config.certificates is not None:
            stem = Path(self._config.certificates) / device.hex
            try:
                context.load_cert_chain(f"{stem}.pem", f"{stem}.key")
            except (OSError, ssl.SSLError) as error:
                raise NoCertificate(
                    f"no client certificate for {device}: {stem}.pem and {stem}.key: {error}", 403
                ) from None
        return context

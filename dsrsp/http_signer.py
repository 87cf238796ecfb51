"""Asks an HTTP service for the supplier's signatures: ``specs/signing-service.md``.

The key never comes here. What is to be signed goes whole, with a label that says what it is for,
so that the service can look at it and refuse.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp

from dsrsp.config import SigningServiceConfig
from dsrsp.connecting import connect_reason
from dsrsp.errors import ConfigurationError, SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.signing import Signable
from gbcs.entity_id import EntityId
from gbcs.messages import PreCommand
from gbcs.route_2b_transcript import Transcript

USE_ECS46A: Final = "ECS46a pre-command"
USE_ROUTE_2B_MESSAGE: Final = "route 2b message"
USE_ROUTE_2B_PROOF: Final = "route 2b server proof"
PATH: Final = "/v1/signatures"
_MAX_ANSWER_OCTETS: Final = 16_384
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same may be asked again. All others stand."""


class HttpSigner:
    """An external signing service, as an async context manager.

    Args:
        config: where it is and how it is met.
        base: what relative paths in it are relative to.
        supplier_id: whose key is to sign.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it must be.
    """

    def __init__(self, config: SigningServiceConfig, base: Path, *, supplier_id: EntityId) -> None:
        self._url = config.url.rstrip("/") + PATH
        self._supplier_id = supplier_id
        self._timeout = aiohttp.ClientTimeout(total=config.timeout_s)
        self._headers = {}
        if config.token_file is not None:
            token = _read(base / config.token_file).strip()
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = _tls(config, base)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpSigner:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(ssl=self._tls),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def sign(self, what: Signable) -> bytes:
        """Ask for a signature; see `dsrsp.signing.SupplierSigner`."""
        if self._session is None:
            raise SignerUnavailable("the signing service's client is not open")
        use, octets = _asked(what)
        asked = {
            "use": use,
            "signer": str(self._supplier_id),
            "octets": base64.b64encode(octets).decode("ascii"),
        }
        try:
            async with self._session.post(self._url, json=asked, allow_redirects=False) as answer:
                said = await answer.content.read(_MAX_ANSWER_OCTETS + 1)
                return self._read_untrusted(answer.status, said)
        except TimeoutError:
            raise SignerUnavailable(f"{self._url}: no answer in {self._timeout.total} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise SignerUnavailable(f"{self._url}: {connect_reason(error)}") from None

    def _read_untrusted(self, status: int, octets: bytes) -> bytes:
        if status == 200:
            try:
                text = _object(octets)["signature"]
                return base64.b64decode(text.encode("ascii"), validate=True)
            except (ValueError, KeyError, AttributeError, binascii.Error):
                raise SigningFailed(
                    f"{self._url}: the answer has no signature in base64: is this a signing "
                    "service (specs/signing-service.md)?"
                ) from None
        try:
            said = str(_object(octets)["error"])
        except (ValueError, KeyError):
            said = "no reason in it"
        text = f"{self._url}: HTTP {status}: {said}"
        raise SignerUnavailable(text) if status in _RETRIED else SigningRefused(text)


def _asked(what: Signable) -> tuple[str, bytes]:
    """Return what a signature is for, and all that it is to cover."""
    if isinstance(what, Transcript):
        return USE_ROUTE_2B_PROOF, what.server_octets()
    use = USE_ECS46A if isinstance(what, PreCommand) else USE_ROUTE_2B_MESSAGE
    return use, what.to_bytes()


def _object(octets: bytes) -> dict[str, Any]:
    if len(octets) > _MAX_ANSWER_OCTETS:
        raise ValueError("too long")
    try:
        found = json.loads(octets)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"{path}: cannot read it for the signing service: {reason}; "
            "the service makes its token when it first starts"
        ) from None


def _tls(config: SigningServiceConfig, base: Path) -> ssl.SSLContext | bool:
    if not config.url.startswith("https://"):
        return True
    try:
        cafile = None if config.ca_file is None else str(base / config.ca_file)
        context = ssl.create_default_context(cafile=cafile)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate_file is not None:
            key = None if config.key_file is None else str(base / config.key_file)
            context.load_cert_chain(str(base / config.certificate_file), key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"signing: ca_file, certificate_file or key_file cannot be used: {error}"
        ) from None
    return context

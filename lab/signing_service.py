"""A reference signing service: ``specs/signing-service.md``, with a policy of its own.

It signs pre-commands of one supplier's 6.14.1 (ECS46a) and nothing else, no more than so many in
a minute, and writes a line for each that was asked for, with what became of it. Never a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from dsrsp.http_signer import PATH, USE_ECS46A
from gbcs import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.messages import PreCommand, parse_untrusted
from gbcs.ports import Clock, Journal, Signer
from lab.errors import ConfigError
from smtunnel.pacing import Pace

logger = logging.getLogger("signing")

_MAX_BODY_OCTETS: Final = 16_384
_WINDOW_S: Final = 60.0


class SigningConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of ``smtunnel signing-service``. Paths are relative to its folder."""

    supplier_id: EntityId
    """Whose key signs; commands of any other originator are refused."""
    keys: list[str]
    """Folders with the supplier's certificate and key."""
    listen: str
    """host:port, or fd:N. Other hosts than this machine only with TLS."""
    token_file: str
    """The secret of the callers; made, readable by its owner alone, when it is missing."""
    audit: str
    """A JSON line is appended for each signature that was asked for."""
    signatures_per_minute: int = 600
    """More are refused until later."""
    certificate_file: str | None = None
    """PEM: the service's TLS certificate."""
    key_file: str | None = None
    """PEM: its key."""
    client_ca_file: str | None = None
    """PEM: who issued the callers' TLS certificates; with it a caller must show one."""
    test_mode: bool = False
    """True admits publicly known test keys."""

    def tls(self, base: Path) -> ssl.SSLContext | None:
        """Return what TLS needs; None without it.

        Raises:
            ConfigError: a file cannot be used.
        """
        if self.certificate_file is None:
            if self.client_ca_file is not None:
                raise ConfigError("client_ca_file needs certificate_file and key_file")
            return None
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            key = None if self.key_file is None else str(base / self.key_file)
            context.load_cert_chain(str(base / self.certificate_file), key)
            if self.client_ca_file is not None:
                context.load_verify_locations(str(base / self.client_ca_file))
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"TLS of the signing service: a file cannot be used: {error}"
            ) from None
        return context


class RequestRefused(Exception):
    """A request for a signature is not granted; says why, with the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class SigningService:
    """The web application.

    Args:
        supplier_id: whose key it is.
        signer: has the key.
        token: the secret of the callers.
        per_minute: the most signatures in a minute.
        clock: seconds since 1970.
        audit: gets a line for each signature that was asked for.
    """

    def __init__(
        self,
        supplier_id: EntityId,
        signer: Signer,
        token: str,
        *,
        per_minute: int,
        clock: Clock,
        audit: Journal,
    ) -> None:
        self._supplier_id = supplier_id
        self._signer = signer
        self._token = token.encode()
        self._pace = Pace(per_minute, _WINDOW_S)
        self._clock = clock
        self._audit = audit
        self.app = web.Application(middlewares=[self._authorise], client_max_size=_MAX_BODY_OCTETS)
        self.app.router.add_post(PATH, self._post)

    @web.middleware
    async def _authorise(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not known:
            logger.warning("refused %s: wrong or no token", request.remote)
            return _error(401, "wrong or no token: send 'Authorization: Bearer TOKEN'")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.text or error.reason)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        octets = b""
        told: dict[str, Any] = {"caller": request.remote}
        try:
            octets, use = self._read_untrusted(await request.read())
            told |= {"use": use, "octets_sha256": hashlib.sha256(octets).hexdigest()}
            pre_command = self._allowed(use, octets, told)
            self._check_rate()
        except RequestRefused as error:
            logger.warning("not signed: %s", error)
            self._audit.record("signature", outcome="refused", reason=str(error), **told)
            return _error(error.status, str(error))
        # Written down first: there is no signature that the audit does not know.
        self._audit.record("signature", outcome="signed", **told)
        signature = self._signer.sign(pre_command.signed_part())
        return web.json_response({"signature": base64.b64encode(signature).decode("ascii")})

    def _read_untrusted(self, body: bytes) -> tuple[bytes, str]:
        try:
            asked = json.loads(body)
            use, signer = asked["use"], EntityId.parse(asked["signer"])
            octets = base64.b64decode(asked["octets"].encode("ascii"), validate=True)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            BuildError,
            binascii.Error,
        ) as error:
            raise RequestRefused(400, f"not a request for a signature: {error!r}") from None
        if signer != self._supplier_id:
            raise RequestRefused(404, f"no key of {signer} here, only of {self._supplier_id}")
        return octets, str(use)

    def _allowed(self, use: str, octets: bytes, told: dict[str, Any]) -> PreCommand:
        if use != USE_ECS46A:
            raise RequestRefused(
                403, f"signatures for {use!r} are not given, only for {USE_ECS46A!r}"
            )
        try:
            message = parse_untrusted(octets)
        except FormatError as error:
            raise RequestRefused(403, f"the octets are no GBCS message: {error}") from None
        if not isinstance(message, PreCommand) or message.use_case != "ECS46a":
            raise RequestRefused(
                403, f"a {type(message).__name__} is not signed, only an ECS46a pre-command"
            )
        told |= {
            "originator": str(message.originator_id),
            "target": str(message.target_id),
            "originator_counter": message.originator_counter,
        }
        if message.originator_id != self._supplier_id:
            raise RequestRefused(
                403, f"its originator is {message.originator_id}, this key is {self._supplier_id}'s"
            )
        return message

    def _check_rate(self) -> None:
        now = self._clock()
        if self._pace.free_at(now) is not None:
            raise RequestRefused(429, "too many signatures in the last minute: ask again later")
        self._pace.count(now)


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)

"""A reference signing service: ``specs/signing-service.md``, with a policy of its own.

It signs what `lab.signing_policy` grants, in the name of one supplier, and writes a line for each
signature that was asked for, with what became of it. Never a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from dsrsp.http_signer import PATH, USE_ECS46A, USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF
from gbcs import EntityId
from gbcs.errors import BuildError
from gbcs.ports import Clock, Journal, Signer
from gbcs.route_2b import DEFAULT_MESSAGE_OCTETS, MAX_MESSAGE_OCTETS
from gbcs.route_2b_texts import MIN_MESSAGE_OCTETS
from lab.errors import ConfigError
from lab.signing_policy import RequestRefused, SigningPolicy

logger = logging.getLogger("signing")

_AROUND_OCTETS: Final = 16_384
"""What a request may have beside a message of route 2b; all others are shorter than this."""
_PIN: Final = re.compile(r"[0-9a-f]{64}")


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
    """Commands to meters: more are refused until later."""
    route_2b_messages_per_minute: int = 60_000
    """The same for messages of route 2b; 0: none is ever signed. A bound of its own, so that what
    comes from the internet cannot use up what commands may."""
    route_2b_proofs_per_minute: int = 60_000
    """The same for the proofs of route 2b's handshakes: one for each connection of a CEM."""
    route_2b_message_octets: int = DEFAULT_MESSAGE_OCTETS
    """The longest message of route 2b that is signed, in octets, at most 64 MiB."""
    route_2b_pins: list[str] = []
    """SHA-256 of the TLS certificates (DER, 64 lower-case hexadecimal digits) for which proofs are
    signed: those of route 2b's servers. Empty: any."""
    certificate_file: str | None = None
    """PEM: the service's TLS certificate."""
    key_file: str | None = None
    """PEM: its key."""
    client_ca_file: str | None = None
    """PEM: who issued the callers' TLS certificates; with it a caller must show one."""
    test_mode: bool = False
    """True admits publicly known test keys."""

    def policy(self) -> SigningPolicy:
        """Return what is signed.

        Raises:
            ConfigError: a setting cannot be.
        """
        per_minute = {
            USE_ECS46A: self.signatures_per_minute,
            USE_ROUTE_2B_MESSAGE: self.route_2b_messages_per_minute,
            USE_ROUTE_2B_PROOF: self.route_2b_proofs_per_minute,
        }
        if min(per_minute.values()) < 0:
            raise ConfigError("signatures in a minute: 0 or more")
        octets = self.route_2b_message_octets
        if not MIN_MESSAGE_OCTETS <= octets <= MAX_MESSAGE_OCTETS:
            raise ConfigError(
                f"route_2b_message_octets = {octets}: {MIN_MESSAGE_OCTETS} to {MAX_MESSAGE_OCTETS}"
            )
        for pin in self.route_2b_pins:
            if not _PIN.fullmatch(pin):
                raise ConfigError(
                    f"route_2b_pins: {pin[:70]!r} is no SHA-256: 64 lower-case hexadecimal digits"
                )
        return SigningPolicy(
            self.supplier_id,
            per_minute=per_minute,
            message_octets=octets,
            pins=frozenset(map(bytes.fromhex, self.route_2b_pins)),
        )

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


class SigningService:
    """The web application.

    Args:
        supplier_id: whose key it is.
        signer: has the key.
        token: the secret of the callers.
        policy: what is signed.
        message_octets: the longest message of route 2b.
        clock: seconds since 1970.
        audit: gets a line for each signature that was asked for.
    """

    def __init__(
        self,
        supplier_id: EntityId,
        signer: Signer,
        token: str,
        *,
        policy: SigningPolicy,
        message_octets: int,
        clock: Clock,
        audit: Journal,
    ) -> None:
        self._supplier_id = supplier_id
        self._signer = signer
        self._token = token.encode()
        self._policy = policy
        self._clock = clock
        self._audit = audit
        self.app = web.Application(
            middlewares=[self._authorise],
            client_max_size=message_octets * 4 // 3 + _AROUND_OCTETS,
        )
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
        told: dict[str, Any] = {"caller": request.remote}
        try:
            octets, use = self._read_untrusted(await request.read())
            told |= {"use": use, "octets_sha256": hashlib.sha256(octets).hexdigest()}
            granted = self._policy.grant_untrusted(use, octets, self._clock())
        except RequestRefused as error:
            logger.warning("not signed: %s", error)
            told |= error.told
            self._audit.record("signature", outcome="refused", reason=str(error), **told)
            return _error(error.status, str(error))
        # Written down first: there is no signature that the audit does not know.
        self._audit.record("signature", outcome="signed", **told | granted.told)
        signature = self._signer.sign(granted.octets)
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


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)

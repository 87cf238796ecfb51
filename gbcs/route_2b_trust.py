"""Whether a party of route 2b may be trusted, and the connection that both ends speak over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from gbcs.certificates import Certificate, KeyUsage, Role
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, CertificateRefused, Route2bRefused
from gbcs.keystore import KeyStore
from gbcs.route_2b_texts import CloseCode

_USAGE = KeyUsage.DIGITAL_SIGNATURE


class Connection(Protocol):
    """A WebSocket after TLS and HTTP, or whatever stands for one in a simulation.

    ``certificate_sha256`` is the SHA-256 of the DER of the server's TLS certificate as this end
    knows it: the server its own, the client the one that it was shown.
    """

    @property
    def certificate_sha256(self) -> bytes:
        """SHA-256 of the server's certificate, 32 octets."""
        ...

    async def receive(self) -> str | bytes:
        """Return the next text or binary message.

        Raises:
            gbcs.errors.Route2bClosed: there will be none.
        """
        ...

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message; waits where the other end does not read.

        Raises:
            gbcs.errors.Route2bClosed: the connection has ended.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the connection; the other end is told why."""
        ...


def find_trusted(
    keystore: KeyStore, entity_id: EntityId, role: Role | None, at: datetime
) -> Certificate:
    """Find the certificate with which a party proves itself; its revocation is not asked for.

    It is the newest of those that `find_all_trusted` returns.

    Raises:
        Route2bRefused: as `find_all_trusted`.
    """
    return find_all_trusted(keystore, entity_id, role, at)[0]


def find_all_trusted(
    keystore: KeyStore, entity_id: EntityId, role: Role | None, at: datetime
) -> tuple[Certificate, ...]:
    """Find all certificates with which a party may prove itself; not asking for revocation.

    One that is stored ahead of its date, or has no trusted path, harms no other.

    Args:
        keystore: what is trusted.
        entity_id: the party.
        role: SUPPLIER for a DSRSP, None for a device.
        at: now, aware.

    Returns:
        At least one, that whose validity begins last first.

    Raises:
        Route2bRefused: there is none; with a code for each reason: unknown, wrong role or usage,
            not valid now, no trusted path. Of several reasons the one nearest to success.
    """
    try:
        found = keystore.certificates_of(entity_id)
    except CertificateError as error:
        raise Route2bRefused(CloseCode.UNTRUSTED, str(error)) from None
    if not found:
        raise Route2bRefused(CloseCode.UNKNOWN_DEVICE, f"no certificate of {entity_id}")
    fitting = [one for one in found if one.role is role and one.usage is _USAGE]
    if not fitting:
        needed = "a device's" if role is None else f"a {role.label}'s"
        has = "; ".join(sorted(_described(found)))
        raise Route2bRefused(
            CloseCode.WRONG_ROLE,
            f"{entity_id} has no {needed} {_USAGE.value} certificate, but {has}",
        )
    trusted: list[Certificate] = []
    refusals: list[Route2bRefused] = []
    for certificate in sorted(fitting, key=lambda one: one.not_before, reverse=True):
        try:
            check_trusted(keystore, certificate, entity_id, role, at)
        except Route2bRefused as refused:
            refusals.append(refused)
        else:
            trusted.append(certificate)
    if not trusted:
        # One that is out of date has at least a path; of equals the newest speaks.
        raise min(refusals, key=lambda refused: refused.code != CloseCode.EXPIRED)
    return tuple(trusted)


def check_trusted(
    keystore: KeyStore,
    certificate: Certificate,
    entity_id: EntityId,
    role: Role | None,
    at: datetime,
) -> None:
    """Check a certificate that was found, at another moment for instance.

    Raises:
        Route2bRefused: as `find_trusted`.
    """
    if certificate.entity_id != entity_id:
        raise Route2bRefused(
            CloseCode.WRONG_ENTITY, f"the certificate is of {certificate.entity_id}"
        )
    try:
        keystore.verify(certificate, at=at, usage=_USAGE, role=role, entity_id=entity_id)
    except CertificateRefused as error:
        raise _refused(keystore, certificate, at, str(error)) from None


def _refused(
    keystore: KeyStore, certificate: Certificate, at: datetime, why: str
) -> Route2bRefused:
    try:
        begin, end = keystore.validity(certificate)
    except CertificateRefused as error:
        return Route2bRefused(CloseCode.UNTRUSTED, str(error))
    if begin <= at <= end:
        return Route2bRefused(CloseCode.UNTRUSTED, why)
    return Route2bRefused(
        CloseCode.EXPIRED,
        f"the certificate of {certificate.entity_id}, or one above it, is valid from "
        f"{begin:%Y-%m-%d} to {end:%Y-%m-%d} only",
    )


def _described(certificates: Iterable[Certificate]) -> set[str]:
    return {
        f"{'a device' if one.role is None else one.role.label}'s {one.usage.value}"
        for one in certificates
    }

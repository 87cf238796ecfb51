"""What we know of our own certificates, to say what is wrong with them when the DCC refuses."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from gbcs.certificates import KeyUsage, Role
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError
from gbcs.keystore import KeyStore

_CONCERNS: Final = {
    "E1": Role.SUPPLIER,
    "E2": Role.SUPPLIER,
    "E4": Role.SUPPLIER,
    "E43": Role.SUPPLIER,
    "E63": Role.XML_SIGNING_USER,
    "E64": Role.XML_SIGNING_USER,
}
"""Codes that a certificate of ours may be the cause of, and which of them."""


def what_we_have(code: str, keystore: KeyStore, supplier: EntityId, at: datetime) -> str | None:
    """Say what our certificate that a code concerns is; None where the code concerns none.

    Args:
        code: as the DCC sent it.
        keystore: has our certificates.
        supplier: our identity in the request.
        at: now, aware.
    """
    role = _CONCERNS.get(code)
    if role is None:
        return None
    usage = KeyUsage.DIGITAL_SIGNATURE
    try:
        certificate = keystore.certificate(supplier, usage, role=role)
    except CertificateError:
        others = [one for one in keystore.certificates_of(supplier) if one.usage is usage]
        roles = sorted({one.role.label for one in others if one.role is not None})
        found = f"its certificates here are a {' and a '.join(roles)}'s" if roles else "none here"
        return f"{supplier} has no {role.label} certificate for signatures, {found}"
    begin, end = keystore.validity(certificate)
    what = (
        f"our {role.label} certificate, serial {certificate.serial:X} by {certificate.issuer_name},"
    )
    if at < begin:
        return f"{what} is not valid before {begin:%Y-%m-%d %H:%M}Z"
    if at > end:
        return f"{what} expired on {end:%Y-%m-%d %H:%M}Z"
    return f"{what} is valid until {end:%Y-%m-%d}"

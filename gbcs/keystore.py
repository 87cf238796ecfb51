"""The certificates and private keys that a party holds, and whether one may be trusted for a use.

The store does no I/O: whoever makes it reads the files. What is in the store is what the
operator put there; what a message names is looked up in it and then verified for its use.
Certificates of very many devices need not be in memory: a source gives them when they are asked
for, and the store keeps those that were asked for last.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs.certificates import (
    Certificate,
    CertificateKind,
    KeyUsage,
    Role,
    parse_certificate,
)
from gbcs.crypto import EcdsaSigner
from gbcs.entity_id import EntityId
from gbcs.errors import (
    BuildError,
    CertificateFormatError,
    CertificateNotFound,
    CertificateRefused,
    PrivateKeyNotFound,
    TestKeysRefused,
)

TEST_NAME_PREFIX = "SMTUNNEL TEST"
"""How the names of the CAs of a test PKI begin."""

# Key identifiers of the published test PKI: issuing CA "Z1", its root "ZA", device CA "E357".
_PUBLIC_TEST_ISSUERS = frozenset(
    bytes.fromhex(key_id) for key_id in ("4f5688d7ec933be2", "48cf1b32697c4669", "47d40af3412904a0")
)

DeviceCertificates: TypeAlias = Callable[[EntityId, KeyUsage], bytes | None]
"""Returns the PEM of a device's certificate for a usage, or None when there is none."""

MAX_KEPT_CERTIFICATES = 16_384
"""How many certificates of a source a store keeps: those of 8,192 devices, about 100 MB."""


class KeyStore:
    """Certificates and private keys, found by EUI-64, usage and role.

    Make one with :meth:`from_pems`. Its representation shows counts, never keys.
    """

    def __init__(
        self,
        certificates: tuple[Certificate, ...],
        private_keys: Mapping[Certificate, ec.EllipticCurvePrivateKey],
        *,
        test_mode: bool = False,
        device_certificates: DeviceCertificates | None = None,
        deterministic_signatures: bool = False,
    ) -> None:
        self._deterministic_signatures = deterministic_signatures
        self._certificates = certificates
        self._source = device_certificates
        # Those of the source, the one that was asked for last at the end.
        self._kept: OrderedDict[tuple[EntityId, KeyUsage], Certificate] = OrderedDict()
        self._kept_by_serial: dict[int, Certificate] = {}
        self._private_keys = dict(private_keys)
        self._test_mode = test_mode
        self._by_issuer_and_serial: dict[tuple[str, int], Certificate] = {}
        self._by_entity: dict[tuple[EntityId, KeyUsage], list[Certificate]] = {}
        self._by_serial: dict[int, Certificate] = {}
        self._by_key_id: dict[bytes, list[Certificate]] = {}
        for certificate in certificates:
            other = self._by_issuer_and_serial.setdefault(_place(certificate), certificate)
            if other != certificate:
                raise CertificateFormatError(
                    f"two different certificates of {certificate.issuer_name} with serial number "
                    f"{certificate.serial}: remove the one that is not genuine"
                )
            self._by_serial.setdefault(certificate.serial, certificate)
            self._by_key_id.setdefault(certificate.key_id, []).append(certificate)
            if certificate.entity_id is not None:
                key = (certificate.entity_id, certificate.usage)
                self._by_entity.setdefault(key, []).append(certificate)
        self._paths: dict[Certificate, tuple[Certificate, ...]] = {}

    def __repr__(self) -> str:
        mode = ", test mode" if self._test_mode else ""
        return (
            f"<KeyStore of {len(self._certificates)} certificates and "
            f"{len(self._private_keys)} private keys{mode}>"
        )

    @classmethod
    def from_pems(
        cls,
        pems: Mapping[str, bytes],
        *,
        test_mode: bool = False,
        device_certificates: DeviceCertificates | None = None,
        deterministic_signatures: bool = False,
    ) -> KeyStore:
        """Make a store from the contents of certificate and key files.

        A private key belongs to the certificate with the same public key; the names serve
        error messages alone.

        Args:
            pems: for each name, a PEM with one certificate or one unencrypted private key.
            test_mode: allow keys that are publicly known or made by ``smtunnel pki init``.
            device_certificates: gives certificates of devices that are not among the pems, when
                they are first asked for.
            deterministic_signatures: make the signers of this store sign as RFC 6979 says, the
                same octets for the same data: for simulations that are to come out the same.

        Returns:
            The store.

        Raises:
            CertificateFormatError: something is neither, or a key has no certificate.
            TestKeysRefused: there are test keys and test_mode is off.
        """
        certificates: dict[Certificate, str] = {}
        keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        for name, pem in pems.items():
            if b"PRIVATE KEY-----" in pem:
                keys[name] = load_private_key(pem, name)
                continue
            try:
                certificates.setdefault(parse_certificate(pem), name)
            except CertificateFormatError as error:
                raise CertificateFormatError(f"{name}: {error}") from error
        if not test_mode:
            _refuse_test_keys(certificates)
        by_point = {_point(certificate.public_key): certificate for certificate in certificates}
        private_keys = {}
        for name, key in keys.items():
            owner = by_point.get(_point(key.public_key()))
            if owner is None:
                raise CertificateFormatError(
                    f"{name}: no certificate here has this private key's public key; put the "
                    "certificate beside it or take the key away"
                )
            private_keys[owner] = key
        return cls(
            tuple(certificates),
            private_keys,
            test_mode=test_mode,
            device_certificates=device_certificates,
            deterministic_signatures=deterministic_signatures,
        )

    @property
    def test_mode(self) -> bool:
        """Whether test keys are allowed and chains may end at a pinned certificate."""
        return self._test_mode

    def certificates(self) -> tuple[Certificate, ...]:
        """Return all certificates but those of the source, in the order they were given in."""
        return self._certificates

    def certificates_of(self, entity_id: EntityId) -> list[Certificate]:
        """Return all certificates of a party, those of the source included.

        Raises:
            CertificateFormatError: the source has something else under its name.
            TestKeysRefused: the source has a test key and test mode is off.
        """
        found = []
        for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT):
            own = self._by_entity.get((entity_id, usage), [])
            kept = None if own else self._from_source(entity_id, usage)
            found += own if kept is None else [kept]
        return found

    def certificate(
        self, entity_id: EntityId, usage: KeyUsage, *, role: Role | None = None
    ) -> Certificate:
        """Find the certificate of a party.

        Args:
            entity_id: whose.
            usage: what for.
            role: in which role; None for devices, and for organisations that have one role
                beside XML signing.

        Returns:
            The certificate; of several that fit, the one that began last.

        Raises:
            CertificateNotFound: none fits, or several of different roles.
            CertificateFormatError: the source has something else under this name.
            TestKeysRefused: the source has a test key and test mode is off.
        """
        found = self._by_entity.get((entity_id, usage), [])
        if not found and role is None:
            kept = self._from_source(entity_id, usage)
            found = [] if kept is None else [kept]
        if role is None:
            found = [item for item in found if item.kind is not CertificateKind.XML_SIGNING]
        else:
            found = [item for item in found if item.role is role]
        as_role = f" in the role {role.label}" if role is not None else ""
        if not found:
            raise CertificateNotFound(
                f"no {usage.value} certificate of {entity_id}{as_role}: add its PEM file to the "
                "folder of certificates"
            )
        roles = {item.role for item in found}
        if len(roles) > 1:
            raise CertificateNotFound(
                f"{entity_id} has {usage.value} certificates in several roles: say which role"
            )
        return max(found, key=lambda item: item.not_before)

    def access_control_broker(self, usage: KeyUsage = KeyUsage.KEY_AGREEMENT) -> Certificate:
        """Find the access control broker's certificate: messages do not name it, its role does.

        Args:
            usage: key agreement for the MAC on commands, or digital signature.

        Raises:
            CertificateNotFound: there is none, or there are several brokers.
        """
        found = [
            item
            for item in self._certificates
            if item.role is Role.ACCESS_CONTROL_BROKER and item.usage is usage
        ]
        if len({item.entity_id for item in found}) != 1:
            raise CertificateNotFound(
                f"{len(found)} {usage.value} certificates of an access control broker (OU=04): "
                "expected those of exactly one"
            )
        return max(found, key=lambda item: item.not_before)

    def private_key(
        self, entity_id: EntityId, usage: KeyUsage, *, role: Role | None = None
    ) -> ec.EllipticCurvePrivateKey:
        """Find the private key that belongs to ``certificate(entity_id, usage, role=role)``.

        Raises:
            CertificateNotFound: there is no such certificate.
            PrivateKeyNotFound: the certificate is here without its private key.
        """
        certificate = self.certificate(entity_id, usage, role=role)
        key = self._private_keys.get(certificate)
        if key is None:
            raise PrivateKeyNotFound(
                f"no private key for the {certificate}: add its .key file (PEM, unencrypted)"
            )
        return key

    def signer(self, entity_id: EntityId, *, role: Role | None = None) -> EcdsaSigner:
        """Make a signer with a party's digital-signature key.

        Args:
            entity_id: whose.
            role: as with `certificate`; XML signing has roles of its own.

        Raises:
            CertificateNotFound: there is no such certificate.
            PrivateKeyNotFound: the certificate is here without its private key.
        """
        key = self.private_key(entity_id, KeyUsage.DIGITAL_SIGNATURE, role=role)
        return EcdsaSigner(key, deterministic=self._deterministic_signatures)

    def xml_signing_certificate(self, entity_id: EntityId, role: Role) -> Certificate:
        """Find the XML-signing certificate of a user (role 87) or of the DCC (role 89).

        Raises:
            CertificateNotFound: there is none.
        """
        return self.certificate(entity_id, KeyUsage.DIGITAL_SIGNATURE, role=role)

    def by_issuer_and_serial(self, issuer_name: str, serial: int) -> Certificate | None:
        """Find a certificate as an XML signature names it.

        Args:
            issuer_name: for example "CN=Z1,OU=07"; blanks after commas do not matter.
            serial: the serial number.

        Returns:
            The certificate, or None; one of the source only if it was asked for before.
        """
        place = (_normal_name(issuer_name), serial)
        found = self._by_issuer_and_serial.get(place)
        if found is None and (kept := self._kept_by_serial.get(serial)) is not None:
            found = kept if _place(kept) == place else None
        return found

    def by_serial(self, serial: int) -> Certificate | None:
        """Find a certificate by its serial number alone, as users of the SMKI repository do.

        Returns:
            The certificate, or None; one of the source only if it was asked for before.
        """
        return self._by_serial.get(serial) or self._kept_by_serial.get(serial)

    def verify(
        self,
        certificate: Certificate,
        *,
        at: datetime,
        usage: KeyUsage,
        role: Role | None,
        entity_id: EntityId | None,
    ) -> None:
        """Check that a certificate may be trusted for one use.

        Checked are usage, role, EUI-64, and the chain to a root in the store with the validity of
        every certificate on it. An XML-signing certificate that names no issuing key is trusted
        when it is itself in the store (pinned). In test mode a chain may also end at a pinned
        certificate whose issuer the store does not have, as the published test set needs.
        Revocation is not checked: the store is the operator's list of who is trusted.

        Args:
            certificate: what to check.
            at: the moment for which it must be valid, aware.
            usage: what its key is to be used for.
            role: the role it must carry; None: it must be a device's.
            entity_id: whose it must be; None: anybody's.

        Raises:
            CertificateRefused: a check failed; the message says which.
        """
        if certificate.usage is not usage:
            raise CertificateRefused(f"the {certificate} is not for {usage.value}")
        if certificate.role is not role:
            needed = "a device" if role is None else f"role {role.label} (OU={role:02X})"
            raise CertificateRefused(f"the {certificate} is not of {needed}")
        if entity_id is not None and certificate.entity_id != entity_id:
            raise CertificateRefused(f"the {certificate} is not of {entity_id}")
        path = self._paths.get(certificate)
        if path is None:
            path = self._path(certificate)
            if self._has(certificate):
                # Signatures do not change with time: checked once for what is in the store.
                self._paths[certificate] = path
        for item in path:
            _check_validity(item, at)

    def validity(self, certificate: Certificate) -> tuple[datetime, datetime]:
        """Return from when until when a certificate and all those above it are valid.

        Raises:
            CertificateRefused: it has no path to what is trusted.
        """
        path = self._paths.get(certificate) or self._path(certificate)
        return max(item.not_before for item in path), min(item.not_after for item in path)

    def _path(self, certificate: Certificate) -> tuple[Certificate, ...]:
        """Return the certificate and those above it, signatures checked."""
        path = [certificate]
        while path[-1].kind is not CertificateKind.ROOT:
            issuer = self._issuer(path[-1])
            if issuer is None:
                if self._is_pinned(path[-1]):
                    return tuple(path)
                raise CertificateRefused(
                    f"the issuer {path[-1].issuer_name!r} of the {path[-1]} is not among the "
                    "trusted certificates: add the issuing CA's and the root's PEM files"
                )
            # Ends: above a leaf only issuing CAs are taken, above those only roots.
            path.append(issuer)
        if not self._has(path[-1]):
            raise CertificateRefused(f"the {path[-1]} is not one of the trusted roots")
        return tuple(path)

    def _issuer(self, certificate: Certificate) -> Certificate | None:
        if certificate.issuer_key_id is None:
            return None
        is_authority = certificate.kind is CertificateKind.ISSUING_CA
        kind = CertificateKind.ROOT if is_authority else CertificateKind.ISSUING_CA
        named = self._by_key_id.get(certificate.issuer_key_id, ())
        for candidate in named:
            if candidate.kind is kind and _issued(candidate, certificate):
                return candidate
        if named:
            raise CertificateRefused(
                f"the {certificate} names the {named[0]} as its issuer, but that did not sign it"
            )
        return None

    def _has(self, certificate: Certificate) -> bool:
        if certificate in self._by_key_id.get(certificate.key_id, ()):
            return True
        if certificate.entity_id is None:
            return False
        return self._kept.get((certificate.entity_id, certificate.usage)) == certificate

    def _from_source(self, entity_id: EntityId, usage: KeyUsage) -> Certificate | None:
        if self._source is None:
            return None
        place = (entity_id, usage)
        kept = self._kept.get(place)
        if kept is not None:
            self._kept.move_to_end(place)
            return kept
        pem = self._source(entity_id, usage)
        if pem is None:
            return None
        certificate = parse_certificate(pem)
        if (
            certificate.kind is not CertificateKind.DEVICE
            or certificate.entity_id != entity_id
            or certificate.usage is not usage
        ):
            raise CertificateFormatError(
                f"expected the {usage.value} certificate of the device {entity_id}, found the "
                f"{certificate}: put each file under the name of its device"
            )
        if not self._test_mode:
            _refuse_test_keys({certificate: str(entity_id)})
        self._keep(place, certificate)
        return certificate

    def _keep(self, place: tuple[EntityId, KeyUsage], certificate: Certificate) -> None:
        self._kept[place] = certificate
        self._kept_by_serial[certificate.serial] = certificate
        if len(self._kept) > MAX_KEPT_CERTIFICATES:
            _, old = self._kept.popitem(last=False)
            self._kept_by_serial.pop(old.serial, None)
            self._paths.pop(old, None)

    def _is_pinned(self, certificate: Certificate) -> bool:
        names_no_issuer = (
            certificate.kind is CertificateKind.XML_SIGNING and certificate.issuer_key_id is None
        )
        return self._has(certificate) and (self._test_mode or names_no_issuer)


def load_private_key(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """Read one unencrypted P-256 private key.

    Args:
        pem: the key as PEM.
        name: where it comes from, for the error message.

    Raises:
        CertificateFormatError: it is something else.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's own text stays out of it: it may quote what it could not read.
        raise CertificateFormatError(
            f"{name}: not an unencrypted private key in PEM (PKCS #8)"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateFormatError(f"{name}: the private key is not on the curve P-256")
    return key


def _refuse_test_keys(certificates: Mapping[Certificate, str]) -> None:
    for certificate, name in certificates.items():
        if _is_test_certificate(certificate):
            raise TestKeysRefused(
                f"{name}: the {certificate} belongs to a test PKI, whose keys are no secret; "
                "outside a test take it away, in a test switch on test mode"
            )


def _is_test_certificate(certificate: Certificate) -> bool:
    named = certificate.issuer_name + "," + certificate.subject_name
    if f"CN={TEST_NAME_PREFIX}" in named:
        return True
    if {certificate.key_id, certificate.issuer_key_id} & _PUBLIC_TEST_ISSUERS:
        return True
    # The XML-signing certificates of the published set name an issuer but signed themselves.
    return certificate.kind is CertificateKind.XML_SIGNING and _signed_itself(certificate)


def _signed_itself(certificate: Certificate) -> bool:
    try:
        certificate.public_key.verify(
            certificate.x509.signature,
            certificate.x509.tbs_certificate_bytes,
            ec.ECDSA(hashes.SHA256()),
        )
    except InvalidSignature:
        return False
    return True


def _issued(issuer: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.x509.verify_directly_issued_by(issuer.x509)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _check_validity(certificate: Certificate, at: datetime) -> None:
    if at.tzinfo is None:
        raise BuildError("the moment of a certificate check needs a time zone")
    if not certificate.not_before <= at <= certificate.not_after:
        raise CertificateRefused(
            f"the {certificate} is not valid at {at.isoformat()}: it is from "
            f"{certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
        )


def _point(public_key: ec.EllipticCurvePublicKey) -> bytes:
    return public_key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _place(certificate: Certificate) -> tuple[str, int]:
    return _normal_name(certificate.issuer_name), certificate.serial


@functools.lru_cache(maxsize=256)
def _normal_name(name: str) -> str:
    return ",".join(part.strip() for part in name.split(","))

"""SMKI certificates: reading them strictly to the profiles in use, and what they say.

The profiles are X.509 v3, P-256, ecdsa-with-SHA256, an 8-octet subject key identifier and one
key usage a certificate. Roots and issuing CAs sign certificates of organisations (EUI-64 in the
subject's x500UniqueIdentifier, role as two hexadecimal digits in its OU), of devices (empty
subject, EUI-64 as serial number of the hardwareModuleName) and of XML signing.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from gbcs.entity_id import EntityId
from gbcs.errors import CertificateFormatError

HARDWARE_MODULE_NAME = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4")
"""otherName type that carries a device's EUI-64. Source: RFC 4108 section 5."""

# What is checked here; a critical extension that is not must refuse the certificate.
# Source: RFC 5280 section 4.2.
_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
_MAX_CERTIFICATE_OCTETS = 16_384
_KEY_ID_OCTETS = 8
_MAX_SERIAL_BITS = 128


class Role(enum.IntEnum):
    """What a remote party is, as the OU of its certificates says in two hexadecimal digits."""

    ROOT = 0x00
    RECOVERY = 0x01
    SUPPLIER = 0x02
    NETWORK_OPERATOR = 0x03
    ACCESS_CONTROL_BROKER = 0x04
    TRANSITIONAL_COS = 0x05
    WAN_PROVIDER = 0x06
    ISSUING_AUTHORITY = 0x07
    LOAD_CONTROLLER = 0x08
    OTHER_USER = 0x7F
    XML_SIGNING_USER = 0x87
    XML_SIGNING_DCC = 0x89

    @property
    def label(self) -> str:
        """The role in lower case with hyphens: "load-controller"."""
        return self.name.lower().replace("_", "-")


class KeyUsage(enum.Enum):
    """The one thing that a certificate's key is for."""

    DIGITAL_SIGNATURE = "digitalSignature"
    KEY_AGREEMENT = "keyAgreement"
    CERT_SIGN = "keyCertSign"


class CertificateKind(enum.Enum):
    """Which certificate profile a certificate follows."""

    ROOT = "root"
    ISSUING_CA = "issuing CA"
    ORGANISATION = "organisation"
    DEVICE = "device"
    XML_SIGNING = "XML signing"


@dataclass(frozen=True, slots=True)
class Certificate:
    """One SMKI certificate; equal to another when their octets are equal.

    Attributes:
        kind: the profile it follows.
        entity_id: the EUI-64 it is for; None for roots and issuing CAs.
        role: the role in its OU; None for devices and for CAs without an OU.
        usage: what its key is for.
        serial: the serial number, up to 128 bits.
        issuer_name: the issuer as XML signatures name it, "CN=Z1,OU=07".
        subject_name: the subject written the same way; empty for devices.
        not_before: first moment of validity, aware.
        not_after: last moment of validity, aware.
        public_key: the P-256 public key.
        key_id: the subject key identifier, 8 octets.
        issuer_key_id: the authority key identifier; None where the certificate has none.
        pem: the certificate as PEM.
        x509: the parsed certificate of the library cryptography.
    """

    kind: CertificateKind = field(compare=False)
    entity_id: EntityId | None = field(compare=False)
    role: Role | None = field(compare=False)
    usage: KeyUsage = field(compare=False)
    serial: int = field(compare=False)
    issuer_name: str = field(compare=False)
    subject_name: str = field(compare=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    public_key: ec.EllipticCurvePublicKey = field(compare=False, repr=False)
    key_id: bytes = field(compare=False)
    issuer_key_id: bytes | None = field(compare=False)
    pem: bytes = field(repr=False)
    x509: x509.Certificate = field(compare=False, repr=False)

    def __str__(self) -> str:
        role = self.role.label if self.role is not None else self.kind.value
        whose = str(self.entity_id) if self.entity_id is not None else self.subject_name
        return f"{role} {self.usage.value} certificate of {whose} (serial {self.serial})"


def key_identifier(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the 8-octet key identifier of a public key.

    Args:
        public_key: a P-256 key.

    Returns:
        The bits 0100, then the low 60 bits of the SHA-1 of the uncompressed point.

    Source: RFC 5280 section 4.2.1.2, method (2).
    """
    point = public_key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    # The profile fixes SHA-1 as a name for the key; nothing rests on its strength.
    digest = hashlib.sha1(point, usedforsecurity=False).digest()[-_KEY_ID_OCTETS:]
    return bytes([0x40 | digest[0] & 0x0F]) + digest[1:]


_NOT_READ = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    # A warning that is an error where warnings are: a serial number that is not positive.
    CryptographyDeprecationWarning,
)


def parse_certificate(pem_or_der: bytes) -> Certificate:
    """Read one certificate and check it against the SMKI profiles.

    Nothing is said yet about whom to trust: see ``KeyStore.verify``.

    Args:
        pem_or_der: one certificate, as PEM or DER.

    Returns:
        The certificate with its profile, EUI-64, role and usage.

    Raises:
        CertificateFormatError: it is no certificate, or of no SMKI profile.
    """
    if len(pem_or_der) > _MAX_CERTIFICATE_OCTETS:
        raise CertificateFormatError(
            f"a certificate of {len(pem_or_der)} octets: expected at most {_MAX_CERTIFICATE_OCTETS}"
        )
    try:
        if b"-----BEGIN" in pem_or_der:
            parsed = x509.load_pem_x509_certificate(pem_or_der)
        else:
            parsed = x509.load_der_x509_certificate(pem_or_der)
        return _read(parsed)
    except _NOT_READ as error:
        raise CertificateFormatError(
            f"not a certificate ({error}): expected one X.509 certificate as PEM or DER"
        ) from error
    except (x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise CertificateFormatError(f"the certificate is of no SMKI profile: {error}") from error


def _read(parsed: x509.Certificate) -> Certificate:
    public_key = _checked_public_key(parsed)
    for extension in parsed.extensions:
        if extension.critical and extension.oid not in _KNOWN_EXTENSIONS:
            raise CertificateFormatError(
                f"a critical extension of no SMKI profile: {extension.oid.dotted_string}"
            )
    usage, kind, entity_id, role = _classify(parsed)
    key_id = parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    if len(key_id) != _KEY_ID_OCTETS:
        raise CertificateFormatError(
            f"the subject key identifier has {len(key_id)} octets: expected {_KEY_ID_OCTETS}"
        )
    return Certificate(
        kind=kind,
        entity_id=entity_id,
        role=role,
        usage=usage,
        serial=parsed.serial_number,
        issuer_name=parsed.issuer.rfc4514_string(),
        subject_name=parsed.subject.rfc4514_string(),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        public_key=public_key,
        key_id=key_id,
        issuer_key_id=_issuer_key_id(parsed),
        pem=parsed.public_bytes(serialization.Encoding.PEM),
        x509=parsed,
    )


def _checked_public_key(parsed: x509.Certificate) -> ec.EllipticCurvePublicKey:
    if parsed.version is not x509.Version.v3:
        raise CertificateFormatError(f"certificate version {parsed.version.name}: expected v3")
    if parsed.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise CertificateFormatError(
            f"signature algorithm {parsed.signature_algorithm_oid.dotted_string}: "
            "expected ecdsa-with-SHA256"
        )
    if not 0 < parsed.serial_number < 1 << _MAX_SERIAL_BITS:
        raise CertificateFormatError(
            "the serial number is not a positive number of at most 128 bits"
        )
    public_key = parsed.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise CertificateFormatError("the certificate's key is not on the curve P-256")
    return public_key


def _issuer_key_id(parsed: x509.Certificate) -> bytes | None:
    try:
        extension = parsed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.key_identifier


def _classify(
    parsed: x509.Certificate,
) -> tuple[KeyUsage, CertificateKind, EntityId | None, Role | None]:
    usage = _usage(parsed)
    role = _role(parsed)
    if usage is KeyUsage.CERT_SIGN:
        kind = (
            CertificateKind.ROOT if parsed.issuer == parsed.subject else CertificateKind.ISSUING_CA
        )
        return usage, kind, None, role
    device_id = _device_id(parsed)
    if device_id is not None:
        return usage, CertificateKind.DEVICE, device_id, None
    entity_id = _organisation_id(parsed)
    if role is None:
        raise CertificateFormatError(
            "an organisation's certificate without an OU: expected its role there, as two "
            "hexadecimal digits"
        )
    if role in (Role.XML_SIGNING_USER, Role.XML_SIGNING_DCC):
        return usage, CertificateKind.XML_SIGNING, entity_id, role
    return usage, CertificateKind.ORGANISATION, entity_id, role


def _usage(parsed: x509.Certificate) -> KeyUsage:
    extension = parsed.extensions.get_extension_for_class(x509.KeyUsage)
    value = extension.value
    named = {
        KeyUsage.DIGITAL_SIGNATURE: value.digital_signature,
        KeyUsage.KEY_AGREEMENT: value.key_agreement,
        KeyUsage.CERT_SIGN: value.key_cert_sign,
    }
    usages = [usage for usage, is_set in named.items() if is_set]
    is_authority = _is_authority(parsed)
    if (
        len(usages) != 1
        or not extension.critical
        or is_authority != (usages[0] is KeyUsage.CERT_SIGN)
    ):
        raise CertificateFormatError(
            "expected exactly one key usage, marked critical: digitalSignature, keyAgreement or, "
            f"for a CA, keyCertSign; found {[usage.value for usage in usages]}"
        )
    return usages[0]


def _is_authority(parsed: x509.Certificate) -> bool:
    try:
        return parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _role(parsed: x509.Certificate) -> Role | None:
    units = parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not units:
        return None
    text = str(units[0].value)
    if len(units) == 1 and len(text) == 2:
        try:
            return Role(int(text, 16))
        except ValueError:
            pass
    raise CertificateFormatError(
        f"the subject's OU {text!r} is no role: expected two hexadecimal digits, one of "
        + ", ".join(f"{role:02X}" for role in Role)
    )


def _organisation_id(parsed: x509.Certificate) -> EntityId:
    attributes = parsed.subject.get_attributes_for_oid(NameOID.X500_UNIQUE_IDENTIFIER)
    value = attributes[0].value if len(attributes) == 1 else b""
    # A BIT STRING: its first octet says that no bit of the last one is unused.
    if not isinstance(value, bytes) or len(value) != 9 or value[0] != 0:
        raise CertificateFormatError(
            "expected one x500UniqueIdentifier in the subject, a bit string of 64 bits (the "
            "EUI-64), or a hardwareModuleName as alternative name"
        )
    return EntityId(value[1:])


def _device_id(parsed: x509.Certificate) -> EntityId | None:
    try:
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return None
    names = list(extension.value)
    if len(names) != 1 or not isinstance(names[0], x509.OtherName):
        raise CertificateFormatError(
            "the alternative name of a device is exactly one hardwareModuleName"
        )
    if names[0].type_id != HARDWARE_MODULE_NAME:
        raise CertificateFormatError(
            f"alternative name of type {names[0].type_id.dotted_string}: expected "
            f"hardwareModuleName, {HARDWARE_MODULE_NAME.dotted_string}"
        )
    return EntityId(_hardware_serial(names[0].value))


def _hardware_serial(der: bytes) -> bytes:
    """Return hwSerialNum of HardwareModuleName ::= SEQUENCE { hwType OID, hwSerialNum OCTETS }."""
    # All lengths are below 128: a hwType of over 100 octets is nobody's.
    if len(der) < 4 or der[0] != 0x30 or der[1] != len(der) - 2 or der[2] != 0x06:
        raise CertificateFormatError("the hardwareModuleName is not a sequence of OID and octets")
    serial = der[4 + der[3] :]
    if len(serial) != 10 or serial[:2] != b"\x04\x08":
        raise CertificateFormatError("hwSerialNum is not an octet string of 8 octets (the EUI-64)")
    return serial[2:]


def fingerprint(certificate: Certificate) -> bytes:
    """Return the SHA-256 of the certificate's DER, 32 octets."""
    return certificate.x509.fingerprint(hashes.SHA256())

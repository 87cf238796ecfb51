"""A test PKI to the SMKI profiles: root, issuing CAs, organisations, devices, XML signing.

Its certificates chain fully, unlike those of the published test set. Every CA's name begins with
"SMTUNNEL TEST", and a key store takes such certificates in test mode only. Randomness and the
moment of issue are arguments: the same arguments give the same octets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type  # the only way to ask for a BIT STRING
from cryptography.x509.oid import NameOID

from gbcs.certificates import (
    HARDWARE_MODULE_NAME,
    Certificate,
    CertificateKind,
    KeyUsage,
    Role,
    key_identifier,
    parse_certificate,
)
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError
from gbcs.keystore import TEST_NAME_PREFIX, load_private_key
from gbcs.ports import Clock, Randomness

DEFAULT_SUPPLIER = EntityId(bytes.fromhex("90b3d51f30010000"))
DEFAULT_LOAD_CONTROLLER = EntityId(bytes.fromhex("90b3d51f30010008"))
DEFAULT_ACCESS_CONTROL_BROKER = EntityId(bytes.fromhex("90b3d51f30000002"))
# "Locally administered" (second bit of the first octet): no manufacturer has this range.
DEFAULT_DEVICE = EntityId(bytes.fromhex("02534d5400000001"))

ORGANISATION_POLICY = "1.2.826.0.1.8641679.1.2.1.4"
DEVICE_POLICY = "1.2.826.0.1.1800000.1.2.1.4"
# The arc for examples (ITU-T X.660): our devices are of no manufacturer's hardware type.
HARDWARE_TYPE_DER = bytes.fromhex("0603883701")

_ORGANISATION_CA_NAME = f"{TEST_NAME_PREFIX} Z1"
_DEVICE_CA_NAME = f"{TEST_NAME_PREFIX} DEVICES"
_ROOT_NAME = f"{TEST_NAME_PREFIX} ROOT"

_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_YEAR = timedelta(days=365)
_CA_YEARS = 25
_ORGANISATION_YEARS = 10
_XML_SIGNING_YEARS = 100
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, as one issue gives them."""

    certificate: Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def private_key_pem(self) -> bytes:
        """The private key as unencrypted PKCS #8 in PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def file_stem(self) -> str:
        """The name of its files without suffix: "90b3d51f30010000-supplier-ds"."""
        return file_stem(self.certificate)

    def __repr__(self) -> str:
        return f"<Issued {self.certificate}>"


def file_stem(certificate: Certificate) -> str:
    """Return the name that a certificate's files carry, without suffix.

    Returns:
        "{eui}-{role or device}-{ds|ka}", for XML signing "{eui}-user-xml" or "{eui}-dcc-xml";
        for CAs their kind.
    """
    if certificate.entity_id is None:
        if certificate.kind is CertificateKind.ROOT:
            return "root"
        which = "organisations" if certificate.role is Role.ISSUING_AUTHORITY else "devices"
        return f"issuing-ca-{which}"
    eui = certificate.entity_id.hex
    if certificate.role is Role.XML_SIGNING_USER:
        return f"{eui}-user-xml"
    if certificate.role is Role.XML_SIGNING_DCC:
        return f"{eui}-dcc-xml"
    who = "device" if certificate.role is None else certificate.role.label
    return f"{eui}-{who}-{'ds' if certificate.usage is KeyUsage.DIGITAL_SIGNATURE else 'ka'}"


class TestPki:
    """The CAs of a test PKI; issues certificates with freshly made keys.

    Args:
        root: the root.
        organisation_ca: issues for organisations and XML signing.
        device_ca: issues for devices.
        random_octets: gives the private keys and serial numbers.
        clock: the moment of issue, seconds since 1970.
    """

    __test__ = False  # pytest: not a test class

    def __init__(
        self,
        root: Issued,
        organisation_ca: Issued,
        device_ca: Issued,
        *,
        random_octets: Randomness,
        clock: Clock,
    ) -> None:
        self.root = root
        self.organisation_ca = organisation_ca
        self.device_ca = device_ca
        self._random_octets = random_octets
        self._clock = clock

    @classmethod
    def create(cls, *, random_octets: Randomness, clock: Clock) -> TestPki:
        """Make a new PKI: a root and the two issuing CAs.

        Args:
            random_octets: gives the private keys and serial numbers.
            clock: the moment of issue, seconds since 1970; validity begins a day earlier, so
                that no clock in a test laboratory is too slow.
        """
        begin = _begin(clock)
        end = begin + _CA_YEARS * _YEAR
        root_key = _new_key(random_octets)
        root_name = x509.Name([_unit(Role.ROOT), _common_name(_ROOT_NAME)])
        root = _sign_ca(root_name, root_key, None, None, begin, end, random_octets)
        authorities = []
        for name in (
            x509.Name([_unit(Role.ISSUING_AUTHORITY), _common_name(_ORGANISATION_CA_NAME)]),
            x509.Name([_common_name(_DEVICE_CA_NAME)]),
        ):
            key = _new_key(random_octets)
            authorities.append(_sign_ca(name, key, root, 0, begin, end, random_octets))
        return cls(root, *authorities, random_octets=random_octets, clock=clock)

    @classmethod
    def load(
        cls,
        certificate_pems: tuple[bytes, bytes, bytes],
        key_pems: tuple[bytes, bytes, bytes],
        *,
        random_octets: Randomness,
        clock: Clock,
    ) -> TestPki:
        """Take up a PKI made earlier.

        Args:
            certificate_pems: root, issuing CA of organisations, issuing CA of devices.
            key_pems: their private keys, in the same order.
            random_octets: gives the private keys and serial numbers of what is issued.
            clock: the moment of issue, seconds since 1970.

        Raises:
            CertificateFormatError: one of them is not what it should be.
            BuildError: a certificate and its key do not belong together, or it is no test PKI.
        """
        authorities = []
        for pem, key_pem in zip(certificate_pems, key_pems, strict=True):
            certificate = parse_certificate(pem)
            key = load_private_key(key_pem, f"key of {certificate.subject_name}")
            if key_identifier(key.public_key()) != certificate.key_id:
                raise BuildError(f"the private key is not that of the {certificate}")
            if TEST_NAME_PREFIX not in certificate.subject_name:
                raise BuildError(f"the {certificate} is not a CA of a test PKI made by smtunnel")
            authorities.append(Issued(certificate, key))
        return cls(*authorities, random_octets=random_octets, clock=clock)

    def authorities(self) -> tuple[Issued, Issued, Issued]:
        """Return root, issuing CA of organisations and issuing CA of devices."""
        return self.root, self.organisation_ca, self.device_ca

    def issue_organisation(self, entity_id: EntityId, role: Role, usage: KeyUsage) -> Issued:
        """Issue a certificate of an organisation, valid for ten years.

        Args:
            entity_id: whose.
            role: its role, written into the subject's OU.
            usage: digital signature or key agreement.
        """
        if role in (Role.ROOT, Role.ISSUING_AUTHORITY, Role.XML_SIGNING_USER, Role.XML_SIGNING_DCC):
            raise BuildError(f"{role.label} is not the role of an organisation's certificate")
        return self._issue(
            self.organisation_ca,
            _organisation_name(entity_id, role),
            usage,
            policy=ORGANISATION_POLICY,
            years=_ORGANISATION_YEARS,
        )

    def issue_xml_signing(self, entity_id: EntityId, role: Role) -> Issued:
        """Issue an XML-signing certificate of a user or of the DCC, valid for a hundred years."""
        if role not in (Role.XML_SIGNING_USER, Role.XML_SIGNING_DCC):
            raise BuildError(f"{role.label} is not a role of XML signing")
        return self._issue(
            self.organisation_ca,
            _organisation_name(entity_id, role),
            KeyUsage.DIGITAL_SIGNATURE,
            policy=ORGANISATION_POLICY,
            years=_XML_SIGNING_YEARS,
        )

    def issue_device(self, entity_id: EntityId, usage: KeyUsage) -> Issued:
        """Issue a certificate of a device, which never expires.

        Source: RFC 5280 section 4.1.2.5 (99991231235959Z), RFC 4108 section 5 (subject name).
        """
        body = HARDWARE_TYPE_DER + b"\x04\x08" + entity_id.octets
        name = x509.OtherName(HARDWARE_MODULE_NAME, bytes([0x30, len(body)]) + body)
        return self._issue(
            self.device_ca,
            x509.Name([]),
            usage,
            policy=DEVICE_POLICY,
            years=None,
            alternative_name=x509.SubjectAlternativeName([name]),
        )

    def _issue(
        self,
        issuer: Issued,
        subject: x509.Name,
        usage: KeyUsage,
        *,
        policy: str,
        years: int | None,
        alternative_name: x509.SubjectAlternativeName | None = None,
    ) -> Issued:
        if usage is KeyUsage.CERT_SIGN:
            raise BuildError("keyCertSign is for CAs: expected digitalSignature or keyAgreement")
        key = _new_key(self._random_octets)
        begin = _begin(self._clock)
        end = _NEVER if years is None else begin + years * _YEAR
        builder = _builder(
            subject, issuer.certificate.x509.subject, key, begin, end, self._random_octets
        )
        builder = builder.add_extension(_key_usage(usage), critical=True)
        builder = builder.add_extension(_policies(policy), critical=True)
        builder = builder.add_extension(_authority(issuer.private_key), critical=False)
        if alternative_name is not None:
            builder = builder.add_extension(alternative_name, critical=True)
        return _sign(builder, issuer.private_key, key)


def _begin(clock: Clock) -> datetime:
    now = datetime.fromtimestamp(int(clock()), tz=UTC)
    return now - timedelta(days=1)


def _new_key(random_octets: Randomness) -> ec.EllipticCurvePrivateKey:
    # Ten octets more than needed make the reduction's bias nothing.
    # Source: FIPS 186-5 appendix A.2.1, extra random bits.
    number = int.from_bytes(random_octets(42))
    return ec.derive_private_key(number % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def _new_serial(random_octets: Randomness) -> int:
    # Positive and exactly 16 octets long in DER.
    return int.from_bytes(random_octets(16)) & (1 << 127) - 1 | 1 << 126


def _unit(role: Role) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, f"{role:02X}")


def _common_name(name: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.COMMON_NAME, name)


def _organisation_name(entity_id: EntityId, role: Role) -> x509.Name:
    identifier = x509.NameAttribute(
        NameOID.X500_UNIQUE_IDENTIFIER, b"\x00" + entity_id.octets, _ASN1Type.BitString
    )
    return x509.Name([_unit(role), identifier])


def _policies(oid: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(oid), None)])


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(key_identifier(key.public_key()), None, None)


def _key_usage(usage: KeyUsage) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=usage is KeyUsage.DIGITAL_SIGNATURE,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=usage is KeyUsage.KEY_AGREEMENT,
        key_cert_sign=usage is KeyUsage.CERT_SIGN,
        crl_sign=usage is KeyUsage.CERT_SIGN,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
    random_octets: Randomness,
) -> x509.CertificateBuilder:
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(_new_serial(random_octets))
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier(key_identifier(public_key)), critical=False)
    )


def _sign_ca(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: Issued | None,
    path_length: int | None,
    begin: datetime,
    end: datetime,
    random_octets: Randomness,
) -> Issued:
    issuer_name = subject if issuer is None else issuer.certificate.x509.subject
    issuer_key = key if issuer is None else issuer.private_key
    builder = _builder(subject, issuer_name, key, begin, end, random_octets)
    builder = builder.add_extension(_key_usage(KeyUsage.CERT_SIGN), critical=True)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=True, path_length=path_length), critical=True
    )
    builder = builder.add_extension(_policies(ORGANISATION_POLICY), critical=True)
    if issuer is not None:
        builder = builder.add_extension(_authority(issuer_key), critical=False)
    return _sign(builder, issuer_key, key)


def _sign(
    builder: x509.CertificateBuilder,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
) -> Issued:
    signed = builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=True)
    return Issued(parse_certificate(signed.public_bytes(serialization.Encoding.PEM)), key)

"""XML signatures to exactly the DUIS profile; every other form is refused.

Enveloped signature as last child of the root. SignedInfo in exclusive C14N; one Reference to the
whole document (``URI=""``) whose only transform takes the signature out, so that the digest is
over inclusive C14N 1.0; SHA-256; ECDSA P-256 with SHA-256 as raw r || s; KeyInfo names issuer and
serial number of the certificate and carries no key.

Source: XML Signature Syntax and Processing 1.1, sections 4, 6.4.3 and 6.6.4; the profile as seen
in messages of the DCC and of its signing tool.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree

from gbcs.certificates import Role
from gbcs.crypto import verify_signature
from gbcs.duis.reading import SIGNATURE_BRACED, SIGNATURE_NAMESPACE, Cursor
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, DuisFormatError, SignatureInvalid, XmlSignatureInvalid
from gbcs.keystore import KeyStore
from gbcs.ports import Signer

EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
ENVELOPED_SIGNATURE = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

SIGNATURE_TAG = f"{SIGNATURE_BRACED}Signature"

_SIGNATURE_OCTETS = 64
_DIGEST_OCTETS = 32
# A comma separates the parts of the name and has no escaped form here, so that there is one way
# only to read a name, and long foreign ones cost no time.
_ISSUER_NAME = re.compile(r"[A-Za-z0-9.]+=[ -+\--~]+(?:, *[A-Za-z0-9.]+=[ -+\--~]+)*")
_SERIAL = re.compile(r"[1-9][0-9]{0,38}")

_DECLARATION = f' xmlns:ds="{SIGNATURE_NAMESPACE}"'
# In canonical form, but for the namespace declaration, which the enclosing element has already.
_SIGNED_INFO = (
    "<ds:SignedInfo%s>"
    f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}"></ds:CanonicalizationMethod>'
    f'<ds:SignatureMethod Algorithm="{ECDSA_SHA256}"></ds:SignatureMethod>'
    '<ds:Reference URI=""><ds:Transforms>'
    f'<ds:Transform Algorithm="{ENVELOPED_SIGNATURE}"></ds:Transform>'
    "</ds:Transforms>"
    f'<ds:DigestMethod Algorithm="{SHA256}"></ds:DigestMethod>'
    "<ds:DigestValue>%s</ds:DigestValue></ds:Reference></ds:SignedInfo>"
)

# The whole element as canonical XML has it when nothing in it is unusual. Canonical XML leaves
# nothing out but comments, which are refused before: what matches says exactly this.
_BASE64_32, _BASE64_64 = "([A-Za-z0-9+/]{43}=)", "([A-Za-z0-9+/]{86}==)"
_USUAL = re.compile(
    f'<ds:Signature xmlns:ds="{re.escape(SIGNATURE_NAMESPACE)}">'
    + _BASE64_32.join(map(re.escape, (_SIGNED_INFO % ("", "@")).split("@")))
    + f"<ds:SignatureValue>{_BASE64_64}</ds:SignatureValue>"
    "<ds:KeyInfo><ds:X509Data><ds:X509IssuerSerial>"
    r"<ds:X509IssuerName>([A-Za-z0-9.=, -]*[A-Za-z0-9])</ds:X509IssuerName>"
    r"<ds:X509SerialNumber>([0-9]+)</ds:X509SerialNumber>"
    "</ds:X509IssuerSerial></ds:X509Data></ds:KeyInfo></ds:Signature>"
)


def escape_text(text: str) -> str:
    """Write text as canonical XML does between tags.

    Source: Canonical XML 1.0 section 2.3, text nodes.
    """
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#xD;")
    )


@dataclass(frozen=True, slots=True)
class XmlSigner:
    """Signs DUIS messages in the name of one XML-signing certificate.

    Attributes:
        signer: signs with the certificate's key.
        issuer_name: the certificate's issuer, as in "CN=Z1,OU=07".
        serial: the certificate's serial number.
    """

    signer: Signer = field(repr=False)
    issuer_name: str
    serial: int

    def __post_init__(self) -> None:
        if not _ISSUER_NAME.fullmatch(self.issuer_name):
            raise BuildError(f"issuer name {self.issuer_name!r}: expected text like 'CN=Z1,OU=07'")

    @classmethod
    def from_keystore(cls, keystore: KeyStore, entity_id: EntityId, role: Role) -> XmlSigner:
        """Take certificate and private key from a key store.

        Args:
            keystore: has both.
            entity_id: who signs.
            role: XML_SIGNING_USER or XML_SIGNING_DCC.

        Raises:
            CertificateNotFound, PrivateKeyNotFound: one of them is not there.
        """
        certificate = keystore.xml_signing_certificate(entity_id, role)
        signer = keystore.signer(entity_id, role=role)
        return cls(signer, certificate.issuer_name, certificate.serial)

    def signature_over(self, canonical: str) -> str:
        """Return the Signature element for a document.

        Args:
            canonical: the document without signature, in canonical form.
        """
        digest = base64.b64encode(hashlib.sha256(canonical.encode()).digest()).decode()
        signed_info = _SIGNED_INFO % (_DECLARATION, digest)
        value = base64.b64encode(self.signer.sign(signed_info.encode())).decode()
        return (
            f"<ds:Signature{_DECLARATION}>{_SIGNED_INFO % ('', digest)}"
            f"<ds:SignatureValue>{value}</ds:SignatureValue>"
            "<ds:KeyInfo><ds:X509Data><ds:X509IssuerSerial>"
            f"<ds:X509IssuerName>{escape_text(self.issuer_name)}</ds:X509IssuerName>"
            f"<ds:X509SerialNumber>{self.serial}</ds:X509SerialNumber>"
            "</ds:X509IssuerSerial></ds:X509Data></ds:KeyInfo></ds:Signature>"
        )


@dataclass(frozen=True, slots=True)
class XmlSignature:
    """What a Signature element of the profile says.

    Attributes:
        digest: SHA-256 of the document without the signature, 32 octets.
        value: r || s, 64 octets.
        issuer_name: of the signer's certificate.
        serial: of the signer's certificate.
    """

    digest: bytes
    value: bytes
    issuer_name: str
    serial: int


@dataclass(frozen=True, slots=True)
class DetachedSignature:
    """A Signature element that has been taken out of its document.

    Attributes:
        element: the element; outside its document its prefixes may have changed.
        signed_info: the canonical octets of its SignedInfo, made while it was in its place.
        document_digest: SHA-256 of the canonical document without the signature, 32 octets.
        usual: what it says, if that could be told from its canonical form alone.
    """

    element: etree._Element
    signed_info: bytes
    document_digest: bytes
    usual: XmlSignature | None = None

    def read(self) -> XmlSignature:
        """Return what the signature says.

        Raises:
            XmlSignatureInvalid: it is of another profile.
        """
        return self.usual or read_signature(self.element)


def detach_signature(root: etree._Element) -> DetachedSignature | None:
    """Take the signature out of a document: the enveloped-signature transform.

    Args:
        root: the document's root; loses its last child if that is a Signature.

    Returns:
        The signature; None when the last child is none.

    Raises:
        DuisFormatError: the document has no canonical form.
    """
    if not len(root) or root[-1].tag != SIGNATURE_TAG:
        return None
    element = root[-1]
    # Before it is taken out: lxml then drops declarations that repeat a namespace under another
    # prefix, which would change what was signed.
    usual = _read_usual(_canonical(element, exclusive=True))
    if usual is None:
        octets = _canonical(element[0] if len(element) else element, exclusive=True)
    else:
        octets = (_SIGNED_INFO % (_DECLARATION, _base64(usual.digest))).encode()
    root.remove(element)
    digest = hashlib.sha256(_canonical(root, exclusive=False)).digest()
    return DetachedSignature(element, octets, digest, usual)


def _read_usual(canonical: bytes) -> XmlSignature | None:
    """Read a signature as most writers write it; None: it is to be read element by element."""
    found = _USUAL.fullmatch(canonical.decode())
    if found is None:
        return None
    digest_text, value_text, issuer_name, serial = found.groups()
    digest, value = base64.b64decode(digest_text), base64.b64decode(value_text)
    # The decoder takes tails that no encoder writes.
    if _base64(digest) != digest_text or _base64(value) != value_text:
        return None
    if not _ISSUER_NAME.fullmatch(issuer_name) or not _SERIAL.fullmatch(serial):
        return None
    return XmlSignature(digest, value, issuer_name, int(serial))


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def read_signature(element: etree._Element) -> XmlSignature:
    """Read a Signature element strictly to the profile.

    Raises:
        XmlSignatureInvalid: it is of another profile.
    """
    try:
        return _read_signature(element)
    except DuisFormatError as error:
        raise XmlSignatureInvalid(f"XML signature of another profile: {error}") from error


def _read_signature(element: etree._Element) -> XmlSignature:
    signature = Cursor(element, namespace=SIGNATURE_BRACED)
    signed = signature.inside("SignedInfo")
    _algorithm(signed, "CanonicalizationMethod", EXCLUSIVE_C14N)
    _algorithm(signed, "SignatureMethod", ECDSA_SHA256)
    reference = signed.inside("Reference", ("URI",))
    if reference.attribute("URI"):
        raise reference.error('the reference must be to the whole document: URI=""')
    transforms = reference.inside("Transforms")
    _algorithm(transforms, "Transform", ENVELOPED_SIGNATURE)
    transforms.end()
    _algorithm(reference, "DigestMethod", SHA256)
    digest = reference.base64("DigestValue")
    reference.end()
    signed.end()
    value = signature.base64("SignatureValue")
    if len(digest) != _DIGEST_OCTETS or len(value) != _SIGNATURE_OCTETS:
        raise signature.error("expected a digest of 32 octets and a signature of 64 (r, s)")
    key_info = signature.inside("KeyInfo")
    x509_data = key_info.inside("X509Data")
    issuer_serial = x509_data.inside("X509IssuerSerial")
    issuer_name = issuer_serial.token("X509IssuerName")
    serial = issuer_serial.token("X509SerialNumber")
    if not _ISSUER_NAME.fullmatch(issuer_name) or not _SERIAL.fullmatch(serial):
        raise issuer_serial.error("expected an issuer like CN=Z1,OU=07 and a decimal serial number")
    for cursor in (issuer_serial, x509_data, key_info, signature):
        cursor.end()
    return XmlSignature(digest, value, issuer_name, int(serial))


def _algorithm(cursor: Cursor, name: str, expected: str) -> None:
    inner = cursor.inside(name, ("Algorithm",))
    found = inner.attribute("Algorithm")
    if found != expected:
        raise inner.error(f"algorithm {found[:80]!r}, expected {expected!r}")
    inner.end()


def check_signature(
    detached: DetachedSignature, signature: XmlSignature, public_key: ec.EllipticCurvePublicKey
) -> None:
    """Check digest and signature of a document.

    Args:
        detached: what was taken out of the document.
        signature: what its element says.
        public_key: the signer's.

    Raises:
        XmlSignatureInvalid: the document is not what was signed, or not by this key.
    """
    if not hmac.compare_digest(detached.document_digest, signature.digest):
        raise XmlSignatureInvalid("the digest does not hold: the XML is not what was signed")
    try:
        verify_signature(public_key, signature.value, detached.signed_info)
    except SignatureInvalid as error:
        raise XmlSignatureInvalid(
            "the XML signature does not hold: it was not made by the key of the certificate named"
        ) from error


def _canonical(element: etree._Element, *, exclusive: bool) -> bytes:
    try:
        return etree.tostring(element, method="c14n", exclusive=exclusive, with_comments=False)
    except etree.C14NError as error:
        # Source: Canonical XML 1.0 section 1.3, relative namespace URIs.
        raise DuisFormatError(
            f"the XML has no canonical form ({error}): are its namespaces absolute URIs?"
        ) from error

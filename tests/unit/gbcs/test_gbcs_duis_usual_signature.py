"""A signature read from its canonical form says the same as one read element by element."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime

import pytest

from gbcs import EntityId, KeyStore, Label, Role
from gbcs.duis import (
    Request,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    parse_untrusted_request,
    signature,
)
from gbcs.errors import DuisError
from gbcs.pki import DEFAULT_SUPPLIER, TestPki

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def keystore() -> KeyStore:
    pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=NOW.timestamp)
    issued = [*pki.authorities(), pki.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)]
    pems = {f"{one.file_stem}.pem": one.certificate.pem for one in issued}
    pems |= {f"{one.file_stem}.key": one.private_key_pem for one in issued}
    return KeyStore.from_pems(pems, test_mode=True)


@pytest.fixture(scope="module")
def document(keystore: KeyStore) -> str:
    signer = XmlSigner.from_keystore(keystore, DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
    body = UpdateAlcDescriptions((Label(1, "a & b"),))
    return build_request(Request(DEFAULT_SUPPLIER, EntityId(bytes(8)), 7, 4, body), signer).decode()


def outcome(octets: bytes, keystore: KeyStore) -> object:
    try:
        parsed = parse_untrusted_request(octets)
        return parsed.signer, parsed.verify(keystore, role=Role.XML_SIGNING_USER, at=NOW)
    except DuisError as error:
        return type(error)


# From, to, and whether the form is still the usual one.
CHANGES = [
    ("", "", True),
    ("ds:", "sig:", False),
    ("<ds:SignedInfo>", "<ds:SignedInfo >", True),
    ("<ds:SignedInfo>", '<ds:SignedInfo Id="a">', False),
    ("<ds:KeyInfo>", "<ds:KeyInfo><!-- -->", False),
    ("<ds:KeyInfo>", "<ds:KeyInfo>\n ", True),
    ("</ds:X509IssuerName>", " </ds:X509IssuerName>", False),
    ("<ds:X509SerialNumber>", "<ds:X509SerialNumber>0", True),
    ("xml-exc-c14n#", "xml-exc-c14n#WithComments", False),
    ("#ecdsa-sha256", "#ecdsa-sha1", False),
    ("</ds:Transforms>", "<ds:Transform/></ds:Transforms>", False),
    ("=</ds:DigestValue>", "</ds:DigestValue>", False),
    ("==</ds:SignatureValue>", "&#13;\n==</ds:SignatureValue>", False),
    ("==</ds:SignatureValue>", "</ds:SignatureValue>", False),
    ("<ds:SignatureValue>", "<ds:SignatureValue>AAAA", False),
    ("sr:", "ds2:", True),
]


@pytest.mark.parametrize(("old", "new", "is_usual"), CHANGES)
def test_both_ways_of_reading_agree(
    document: str,
    keystore: KeyStore,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    is_usual: bool,
) -> None:
    changed = document.replace(old, new) if old else document
    if old.endswith(":"):
        changed = changed.replace(f"xmlns:{old[:-1]}=", f"xmlns:{new[:-1]}=")
    seen = []
    read_usual = signature._read_usual

    def watched(canonical: bytes) -> signature.XmlSignature | None:
        seen.append(read_usual(canonical))
        return seen[-1]

    monkeypatch.setattr(signature, "_read_usual", watched)
    fast = outcome(changed.encode(), keystore)
    monkeypatch.setattr(signature, "_read_usual", lambda _canonical: None)
    assert fast == outcome(changed.encode(), keystore)
    assert is_usual or not any(seen)


def test_a_base64_tail_that_no_encoder_writes_is_refused(document: str, keystore: KeyStore) -> None:
    tail = re.search(r"(.)=</ds:DigestValue>", document)
    assert tail is not None
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = alphabet[alphabet.index(tail[1]) ^ 1]
    changed = document.replace(tail[0], f"{other}=</ds:DigestValue>")
    assert outcome(document.encode(), keystore) != outcome(changed.encode(), keystore)
    assert isinstance(outcome(changed.encode(), keystore), type)

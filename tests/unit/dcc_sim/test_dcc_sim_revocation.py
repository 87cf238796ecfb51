"""Revoked certificates: refused wherever they count, and not in use for the SMKI repository."""

from __future__ import annotations

import re

import pytest

from dcc_sim import CHECKS, CertificateUnknown, Check
from dcc_sim.errors import DeviceMessageRefused
from gbcs.certificates import KeyUsage, Role
from gbcs.device_link import Challenge, make_proof


def revoke(core, certificate):
    core.dcc.revoke(certificate.issuer_name, certificate.serial)
    core.effects()
    core.restart()


@pytest.fixture
def search(names):
    def search_for(core, name="device"):
        eui = str(names[name]).lower()
        asked = (
            "<CertificateSearchRequest><CertificateSubjectAltName>"
            f"{eui}</CertificateSubjectAltName></CertificateSearchRequest>"
        )
        found = core.dcc.search_untrusted(asked.encode(), core.now).decode()
        serials = re.findall("<CertificateSerial>(.*?)<", found)
        statuses = re.findall("<CertificateStatus>(.*?)<", found)
        return {int(serial, 16): status for serial, status in zip(serials, statuses, strict=True)}

    return search_for


def test_an_xml_signing_certificate(make_core, requests, pki, names):
    core = make_core()
    octets = requests.octets(requests.transform())
    assert core.code("serviceT", octets) == "I0"
    revoke(core, pki.keystore.xml_signing_certificate(names["supplier"], Role.XML_SIGNING_USER))
    assert core.code("serviceT", octets) == CHECKS[Check.CERTIFICATE].code
    core.effects()
    assert "revoked" in core.notes[-1]


def test_a_suppliers_certificate(make_core, requests, pki, names):
    core = make_core()
    assert core.code("serviceT", requests.octets(requests.transform())) == "I0"
    certificate = pki.keystore.certificate(
        names["supplier"], KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
    )
    revoke(core, certificate)
    octets = requests.octets(requests.signed())
    assert core.code("serviceS", octets) == CHECKS[Check.GBCS_SIGNATURE].code


def test_a_devices_key_agreement_certificate(make_core, requests, pki, names):
    core = make_core()
    assert core.code("serviceT", requests.octets(requests.transform())) == "I0"
    revoke(core, pki.keystore.certificate(names["device"], KeyUsage.KEY_AGREEMENT))
    assert core.code("serviceS", requests.octets(requests.signed())) == CHECKS[Check.MAC].code


def test_a_devices_signature_certificate(make_core, requests, pki, names):
    core = make_core()
    device = names["device"]
    revoke(core, pki.keystore.certificate(device, KeyUsage.DIGITAL_SIGNATURE))
    challenge = Challenge(bytes(32))
    proof = make_proof(challenge, device, pki.device_signer(), bytes(32))
    with pytest.raises(DeviceMessageRefused, match="revoked"):
        core.dcc.check_untrusted_proof(device, challenge, proof.build(), core.now)
    core.message(requests.alert().to_bytes())
    assert core.posts() == []
    assert "revoked" in core.notes[-1]


def test_the_repository_says_so(make_core, pki, names, search):
    core = make_core()
    certificates = [
        pki.keystore.certificate(names["device"], usage)
        for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)
    ]
    assert search(core) == {one.serial: "I" for one in certificates}
    revoke(core, certificates[0])
    assert search(core) == {certificates[0].serial: "R", certificates[1].serial: "I"}
    core.now += 200 * 365 * 86400.0
    # A device's certificate has no end; an organisation's has.
    assert set(search(core, "supplier").values()) == {"E"}


def test_revoking_twice_changes_nothing(make_core, pki, names):
    core = make_core()
    certificate = pki.keystore.certificate(names["device"], KeyUsage.KEY_AGREEMENT)
    for _ in range(2):
        revoke(core, certificate)
    assert core.dcc.revoked() == [(certificate.issuer_name, certificate.serial)]


def test_no_such_certificate(make_core):
    core = make_core()
    with pytest.raises(CertificateUnknown):
        core.dcc.revoke("CN=nobody", 1)

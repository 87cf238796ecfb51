"""Every code that the simulator can give for a command is explained, with what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dcc_sim.core.checks import CHECKS, Told
from dsrsp.core.own_identity import what_we_have
from dsrsp.core.refusals import explain_code
from gbcs.certificates import KeyUsage, Role
from gbcs.entity_id import EntityId
from gbcs.keystore import KeyStore
from gbcs.pki import TestPki

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DEVICE = EntityId.parse("02-53-4D-54-00-00-00-01")
NOW = 1_800_000_000.0
AT = datetime.fromtimestamp(NOW, UTC)

# Those of services that the gateway does not send, and the alert that it takes as a quarantine.
NOT_OURS = {
    row.code
    for check, row in CHECKS.items()
    if check.name.startswith(("INVENTORY", "LOCAL")) or row.told is Told.ALERT
}
CODES = sorted({row.code for row in CHECKS.values()} - NOT_OURS)

# What the explanation must name: our identity, the device, or the setting to change.
NAMES = {
    "E1": "supplier_id",
    "E2": "supplier_id",
    "E4": str(DEVICE),
    "E5": str(DEVICE),
    "E11": str(DEVICE),
    "E12": "schema_version",
    "E13": "dcc_url",
    "E19": str(DEVICE),
    "E20": str(DEVICE),
    "E21": str(DEVICE),
    "E40": "counter_floor",
    "E41": "dcc_url",
    "E42": "another system",
    "E43": str(SUPPLIER),
    "E44": "schema_version",
    "E47": "counter_floor",
    "E48": "counter_floor",
    "E50": "fragments_per_window",
    "E63": str(SUPPLIER),
    "E64": str(SUPPLIER),
    "E65": "schema_version",
    "E100": "again later",
}


def test_the_table_has_every_code() -> None:
    assert set(CODES) == set(NAMES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained(code: str) -> None:
    text = explain_code(code, supplier=SUPPLIER, device=DEVICE)
    assert f"refused with {code}, " in text
    assert NAMES[code] in text
    assert "look the code up" not in text
    assert "{" not in text


def keystore(role: Role | None, *, days: int = 3650) -> KeyStore:
    """A key store in which the supplier has one certificate of a role."""
    count = iter(range(1, 1000))
    pki = TestPki.create(
        random_octets=lambda size: next(count).to_bytes(size, "big"), clock=lambda: NOW
    )
    pems = {f"{one.file_stem}.pem": one.certificate.pem for one in pki.authorities()}
    if role is not None:
        issued = pki.issue_organisation(SUPPLIER, role, KeyUsage.DIGITAL_SIGNATURE)
        pems["own.pem"] = issued.certificate.pem
    return KeyStore.from_pems(pems, test_mode=True)


def test_a_certificate_of_another_role_is_named() -> None:
    have = what_we_have("E2", keystore(Role.LOAD_CONTROLLER), SUPPLIER, AT)
    text = explain_code("E2", supplier=SUPPLIER, device=DEVICE, have=have)
    assert "6.14.1 needs an electricity import supplier" in text
    assert f"its certificates here are a {Role.LOAD_CONTROLLER.label}'s" in text


def test_an_expired_certificate_is_told_with_its_time() -> None:
    store = keystore(Role.SUPPLIER)
    certificate = store.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
    begin, end = store.validity(certificate)
    day = timedelta(days=1)
    late = what_we_have("E43", store, SUPPLIER, end + day)
    assert late is not None
    assert f"expired on {end:%Y-%m-%d %H:%M}Z" in late
    early = what_we_have("E43", store, SUPPLIER, begin - day)
    assert early is not None
    assert "not valid before" in early
    valid = what_we_have("E43", store, SUPPLIER, begin + day)
    assert valid is not None
    assert "is valid until" in valid


def test_no_certificate_and_no_concern() -> None:
    have = what_we_have("E63", keystore(None), SUPPLIER, AT)
    assert have is not None
    assert "none here" in have
    assert what_we_have("E19", keystore(None), SUPPLIER, AT) is None

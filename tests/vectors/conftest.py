"""The published test keys and the official DUIS schema, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gbcs import KeyStore
from gbcs.duis import SCHEMA_FILES, Schema


@pytest.fixture(scope="session")
def reference_keystore(reference_vectors: Path) -> KeyStore:
    files = [p for p in (reference_vectors / "keys").iterdir() if p.suffix in (".pem", ".key")]
    return KeyStore.from_pems({p.name: p.read_bytes() for p in files}, test_mode=True)


@pytest.fixture(scope="session")
def schema_octets(reference_vectors: Path) -> dict[str, bytes]:
    return {name: (reference_vectors / "duis" / name).read_bytes() for name in SCHEMA_FILES}


@pytest.fixture(scope="session")
def duis_schema(schema_octets: dict[str, bytes]) -> Schema:
    return Schema(schema_octets, SCHEMA_FILES[0])

"""A whole system of real processes for the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.local_system import LocalSystem
from lab.pki_files import write_test_pki


@pytest.fixture(scope="session")
def test_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "pki"
    write_test_pki(folder, now=None, random_octets=os.urandom)
    return folder


@pytest.fixture
def new_system(tmp_path: Path, test_pki: Path) -> Callable[..., LocalSystem]:
    """Make a system in the test's own folder; the test enters it."""

    def make(**options: object) -> LocalSystem:
        return LocalSystem(tmp_path, test_pki, **options)

    return make

"""Software that is not ours: found, fetched, run as separate programs.

The DCC's own packages come from npm when the tests run. They are under the GPL: nothing of them is
part of this project, they are only executed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs import KeyStore

PACKAGES = ("@smartdcc/duis-sign-wrap@0.1.2", "@smartdcc/dccboxed-keystore@0.4.2")
TEMPLATES = "@smartdcc/duis-templates@0.7.0"
TIMEOUT_S = 300


def program(name: str) -> str:
    """Find a program; in CI its absence is a failure."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: the interoperability tests need it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    code: int
    output: bytes
    log: str


def run(*arguments: str | Path, cwd: Path) -> Outcome:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


@dataclass(frozen=True)
class DccTool:
    """The DCC's signing tool, a Java program."""

    java: str
    jar: Path
    folder: Path

    def _run(self, class_name: str, document: bytes, *arguments: str | Path) -> Outcome:
        path = self.folder / "message.xml"
        path.write_bytes(document)
        full_name = f"uk.co.smartdcc.boxed.xmldsig.{class_name}"
        return run(self.java, "-cp", self.jar, full_name, path, *arguments, cwd=self.folder)

    def sign(self, document: bytes, certificate: Path, key: Path) -> bytes:
        """Sign; the originator counter stays as it is."""
        outcome = self._run("Sign", document, "--preserveCounter", certificate, key)
        assert outcome.code == 0, outcome.log
        return outcome.output

    def validate(self, document: bytes) -> Outcome:
        """Check schema and signature; it finds the certificate by its serial number."""
        return self._run("Validate", document)

    def accepts(self, document: bytes) -> bool:
        outcome = self.validate(document)
        accepted = "passed xsd validation" in outcome.log and "passed signature" in outcome.log
        assert accepted is (outcome.code == 0), outcome.log
        return accepted


@pytest.fixture(scope="session")
def npm_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the DCC's npm packages, fetched for this run."""
    npm = program("npm")
    program("node")
    folder = tmp_path_factory.mktemp("npm")
    fetched = run(
        npm,
        "install",
        "--prefix",
        folder,
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        *PACKAGES,
        cwd=folder,
    )
    assert fetched.code == 0, fetched.log
    return folder / "node_modules" / "@smartdcc"


@pytest.fixture(scope="session")
def duis_templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the DCC's request templates: data, fetched for this run."""
    folder = tmp_path_factory.mktemp("templates")
    fetched = run(program("npm"), "pack", TEMPLATES, cwd=folder)
    assert fetched.code == 0, fetched.log
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package" / "templates"


@pytest.fixture(scope="session")
def dcc_tool(npm_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> DccTool:
    jar = npm_packages / "duis-sign-wrap" / "dist" / "tool.jar"
    return DccTool(program("java"), jar, tmp_path_factory.mktemp("dcc-tool"))


@dataclass(frozen=True)
class XmlSec:
    """The XML Security Library's program."""

    program: str
    folder: Path

    def _run(self, document: bytes, *arguments: str | Path) -> Outcome:
        path = self.folder / "message.xml"
        path.write_bytes(document)
        return run(self.program, *arguments, path, cwd=self.folder)

    def verifies(self, document: bytes, public_key: ec.EllipticCurvePublicKey) -> bool:
        pem = self.folder / "public.pem"
        pem.write_bytes(
            public_key.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return self._run(document, "--verify", "--pubkey-pem", pem).code == 0

    def sign(self, template: bytes, key: Path) -> bytes:
        outcome = self._run(template, "--sign", "--privkey-pem", key)
        assert outcome.code == 0, outcome.log
        return outcome.output


@pytest.fixture(scope="session")
def xmlsec(tmp_path_factory: pytest.TempPathFactory) -> XmlSec:
    return XmlSec(program("xmlsec1"), tmp_path_factory.mktemp("xmlsec"))


@pytest.fixture(scope="session")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run OpenSSL's program; it must succeed."""
    name = program("openssl")
    folder = tmp_path_factory.mktemp("openssl")

    def run_openssl(*arguments: str | Path) -> str:
        outcome = run(name, *arguments, cwd=folder)
        assert outcome.code == 0, outcome.log
        return outcome.output.decode()

    return run_openssl


@pytest.fixture(scope="session")
def reference_keystore(reference_vectors: Path) -> KeyStore:
    files = [p for p in (reference_vectors / "keys").iterdir() if p.suffix in (".pem", ".key")]
    return KeyStore.from_pems({p.name: p.read_bytes() for p in files}, test_mode=True)

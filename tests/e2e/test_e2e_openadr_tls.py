"""openleadr with mutual TLS at both ends: each sees the certificate that it was told to expect."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openleadr.utils import certificate_fingerprint

from lab.local_system import LocalSystem
from lab.openadr_demo import DemoVen, DemoVtn, ReportWish
from openadr_xml import building, parse_untrusted_payload


class Tls:
    """A CA and certificates from it, as PEM files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
        self._write("ca", self._name, self._key, ca=True)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def issue(self, name: str, stem: str = "") -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(stem or name, subject, ec.generate_private_key(ec.SECP256R1()))

    def fingerprint(self, stem: str) -> str:
        return str(certificate_fingerprint((self.folder / f"{stem}.pem").read_text()))

    def _write(
        self, stem: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool = False
    ) -> None:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.folder / f"{stem}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{stem}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


async def test_mutual_tls_at_both_ends(
    new_system: Callable[..., LocalSystem], tmp_path: Path
) -> None:
    tls = Tls(tmp_path / "tls")
    device = "02534d5400000001"
    for name in ("vtn", "cem", "ven", "stranger"):
        tls.issue(name)
    tls.issue("ven of the CEM at the DSRSP", device)
    vtn = DemoVtn(
        0,
        poll_interval=timedelta(seconds=1),
        report_wish=ReportWish(timedelta(minutes=5), timedelta(minutes=5)),
        http_cert=tls.path("vtn.pem"),
        http_key=tls.path("vtn.key"),
        http_ca_file=tls.path("ca.pem"),
        verify_message_signatures=False,
    )
    async with asyncio.timeout(60), vtn:
        settings = {
            "cem": f"""[openadr]
                listen = "127.0.0.1:0"
                certificate = "{tls.path("cem.pem")}"
                key = "{tls.path("cem.key")}"
                ven_ca = "{tls.path("ca.pem")}"
                """,
            "dsrsp": f"""[openadr]
                vtn_url = "https://127.0.0.1:{vtn.port}/OpenADR2/Simple/2.0b"
                vtn_ca = "{tls.path("ca.pem")}"
                certificates = "{tls.folder}"
                """,
        }
        async with (
            new_system(settings=settings) as system,
            DemoVen(
                system.ready("cem")["openadr"],
                cert=tls.path("ven.pem"),
                key=tls.path("ven.key"),
                ca_file=tls.path("ca.pem"),
                disable_signature=True,
                check_hostname=False,
                show_fingerprint=False,
            ) as ven,
        ):
            await ven.register()
            # The VTN saw the certificate that the DSRSP holds for this CEM, and goes on to.
            (known,) = vtn.vens.values()
            assert known.fingerprint == tls.fingerprint(device)
            await vtn.seen.wait_for("created")
            event_id = vtn.send_event(
                ven.client.ven_id, [(datetime.now(UTC), timedelta(hours=1), 1000.0)]
            )
            await ven.seen.wait_for("event", event_id)
            await vtn.seen.wait_for("event answered", ven.client.ven_id, event_id, "optIn")
            # Another certificate of the same CA is not the VEN; without one there is no TLS.
            code = await _poll_as(tls, "stranger", system, ven.client.ven_id)
            assert code == 463
            assert await _poll_as(tls, "ven", system, ven.client.ven_id) == 200
            assert await _poll_as(tls, None, system, ven.client.ven_id) is None


async def _poll_as(tls: Tls, who: str | None, system: LocalSystem, ven_id: str) -> int | None:
    context = ssl.create_default_context(cafile=tls.path("ca.pem"))
    if who is not None:
        context.load_cert_chain(tls.path(f"{who}.pem"), tls.path(f"{who}.key"))
    url = f"{system.ready('cem')['openadr']}/OadrPoll"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        try:
            async with http.post(
                url, data=building.poll(ven_id), headers={"Content-Type": "application/xml"}
            ) as answer:
                return parse_untrusted_payload(await answer.read()).response_code
        except aiohttp.ClientError:
            return None

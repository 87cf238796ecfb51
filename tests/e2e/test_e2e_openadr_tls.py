"""openleadr with mutual TLS at both ends: each sees the certificate that it was told to expect."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from openleadr.utils import certificate_fingerprint

from lab.local_system import LocalSystem
from lab.openadr_demo import DemoVen, DemoVtn, ReportWish
from lab.openadr_demo.tls import ven_options, vtn_options
from lab.tls_files import write_tls_files
from openadr_xml import building, parse_untrusted_payload

DEVICE = "02534d5400000001"


def fingerprint(folder: Path, name: str) -> str:
    return str(certificate_fingerprint((folder / f"{name}.pem").read_text()))


async def test_mutual_tls_at_both_ends(
    new_system: Callable[..., LocalSystem], tmp_path: Path
) -> None:
    tls = tmp_path / "tls"
    write_tls_files(tls, ("vtn", "cem", "ven", "stranger", DEVICE))
    vtn = DemoVtn(
        0,
        poll_interval=timedelta(seconds=1),
        report_wish=ReportWish(timedelta(minutes=5), timedelta(minutes=5)),
        **vtn_options(tls),
    )
    async with asyncio.timeout(60), vtn:
        settings = {
            "cem": f"""[openadr]
                listen = "127.0.0.1:0"
                certificate = "{tls}/cem.pem"
                key = "{tls}/cem.key"
                ven_ca = "{tls}/ca.pem"
                """,
            "dsrsp": f"""[openadr]
                vtn_url = "https://127.0.0.1:{vtn.port}/OpenADR2/Simple/2.0b"
                vtn_ca = "{tls}/ca.pem"
                certificates = "{tls}"
                """,
        }
        async with (
            new_system(settings=settings) as system,
            DemoVen(system.ready("cem")["openadr"], **ven_options(tls)) as ven,
        ):
            await ven.register()
            # The VTN saw the certificate that the DSRSP holds for this CEM, and goes on to.
            (known,) = vtn.vens.values()
            assert known.fingerprint == fingerprint(tls, DEVICE)
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


async def _poll_as(tls: Path, who: str | None, system: LocalSystem, ven_id: str) -> int | None:
    context = ssl.create_default_context(cafile=tls / "ca.pem")
    if who is not None:
        context.load_cert_chain(tls / f"{who}.pem", tls / f"{who}.key")
    url = f"{system.ready('cem')['openadr']}/OadrPoll"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        try:
            async with http.post(
                url, data=building.poll(ven_id), headers={"Content-Type": "application/xml"}
            ) as answer:
                return parse_untrusted_payload(await answer.read()).response_code
        except aiohttp.ClientError:
            return None

"""The admin interface and the SMKI repository, over HTTP."""

from __future__ import annotations

import base64
import re

import pytest

from dcc_sim import (
    ConfigError,
    DccSimError,
    NotInQuarantine,
    ResponseBehaviour,
    Simulator,
    ThresholdConfig,
    UserConfig,
)
from gbcs.certificates import KeyUsage, Role, parse_certificate
from gbcs.duis import DccAlertBody, ErrorBody

TOKEN = "a token for the tests"


@pytest.fixture
def admin(start_world, receiver, names):
    """Start a simulator with the admin interface; nothing passes anomaly detection."""

    def start(**changes):
        threshold = ThresholdConfig(service_reference_variant="6.14.1", limit=0, period_s=1e9)
        user = UserConfig(
            entity_id=names["supplier"],
            role="supplier",
            receive_url=f"http://127.0.0.1:{receiver.port}/supplier",
            thresholds=[threshold],
        )
        return start_world(admin_token=TOKEN, users=[user], **changes)

    return start


async def call(world, method, path, *, token=TOKEN, **more):
    url = f"{world.client.base}/admin/v1{path}"
    headers = {"Authorization": f"Bearer {token}"}
    async with world.client.session.request(method, url, headers=headers, **more) as response:
        return response.status, None if response.status == 204 else await response.json()


@pytest.mark.parametrize("end", ["release", "discard"])
async def test_quarantine(admin, receiver, requests, end):
    async with admin() as world, world.device() as device:
        await world.send()
        _, posted = await receiver.next()
        assert isinstance(posted.message.body, DccAlertBody)
        reference = posted.message.body.alert.event_reference
        status, shown = await call(world, "GET", "/quarantine")
        assert status == 200
        (held,) = shown["quarantine"]
        assert held["event_reference"] == reference
        assert held["request_id"] == str(requests.transform().request_id)
        assert (await call(world, "POST", f"/quarantine/{reference}/{end}"))[0] == 204
        if end == "release":
            command = await device.next_command()
            await device.connection.send(device.response(command).to_bytes())
        _, posted = await receiver.next()
        assert isinstance(posted.message.body, ErrorBody) == (end == "discard")
        assert (await call(world, "GET", "/quarantine"))[1] == {"quarantine": []}
        status, told = await call(world, "POST", f"/quarantine/{reference}/{end}")
        assert status == 404
        assert "reference" in told["error"]


@pytest.mark.parametrize("end", ["release", "discard"])
async def test_quarantine_from_python(admin, receiver, end):
    async with admin() as world:
        await world.send()
        await receiver.next()
        (held,) = await world.simulator.quarantined()
        await getattr(world.simulator, end)(held.event_reference)
        assert await world.simulator.quarantined() == []
        with pytest.raises(NotInQuarantine):
            await getattr(world.simulator, end)(held.event_reference)
    with pytest.raises(DccSimError, match="not running"):
        await world.simulator.quarantined()


async def test_revocation(admin, requests, pki, names):
    certificate = pki.keystore.xml_signing_certificate(names["supplier"], Role.XML_SIGNING_USER)
    name = {"issuer": certificate.issuer_name, "serial": str(certificate.serial)}
    async with admin() as world:
        assert (await call(world, "GET", "/revocations"))[1] == {"revoked": []}
        assert (await call(world, "POST", "/revocations", json=name))[0] == 204
        assert (await call(world, "GET", "/revocations"))[1] == {"revoked": [name]}
        answer = await world.client.send("serviceT", requests.octets(requests.transform()))
        assert answer.message.response_code == "E63"
        unknown = {"issuer": "CN=nobody", "serial": "1"}
        assert (await call(world, "POST", "/revocations", json=unknown))[0] == 404


async def test_duplicates_on_order(admin, receiver):
    async with admin() as world, world.device() as device:
        assert (await call(world, "GET", "/behaviour"))[1] == {"copies": 1, "delay_s": 0.0}
        wanted = {"copies": 3, "delay_s": 0.05}
        assert (await call(world, "PUT", "/behaviour", json=wanted))[0] == 204
        assert (await call(world, "GET", "/behaviour"))[1] == wanted
        await device.connection.send(device.alert(supplementary_remote_party_id=None).to_bytes())
        seen = [await receiver.next() for _ in range(3)]
        assert len({str(posted.message.response_id) for _, posted in seen}) == 1
        await world.simulator.change_behaviour(ResponseBehaviour())
        assert (await call(world, "GET", "/behaviour"))[1] == {"copies": 1, "delay_s": 0.0}


def test_late_and_doubled_by_configuration(make_core, requests):
    core = make_core(response_copies=2, response_delay_s=5.0)
    core.message(requests.alert().to_bytes())
    assert core.posts() == []
    core.timer()
    # Two copies to each of two users.
    assert len(core.posts()) == 4
    core.dcc.change_behaviour(ResponseBehaviour(copies=1, delay_s=0.0))
    core.effects()
    core.restart()
    core.posts()
    core.message(requests.alert(2).to_bytes())
    assert len(core.posts()) == 2


@pytest.mark.parametrize("behaviour", [(0, 0.0), (11, 0.0), (1, -1.0), (1, 1e9)])
def test_impossible_behaviour(make_core, make_config, behaviour):
    copies, delay_s = behaviour
    with pytest.raises(ConfigError):
        make_config(response_copies=copies, response_delay_s=delay_s)
    with pytest.raises(ConfigError):
        make_core().dcc.change_behaviour(ResponseBehaviour(copies, delay_s))


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", "ä"])
async def test_wrong_token(admin, token):
    async with admin() as world:
        for path in ("/quarantine", "/nothing"):
            url = f"{world.client.base}/admin/v1{path}"
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with world.client.session.get(url, headers=headers) as response:
                assert response.status == 401
                assert "token" in (await response.json())["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("POST", "/quarantine/x/release", b"", 400),
        ("POST", "/quarantine/²/release", b"", 400),
        ("POST", f"/quarantine/{'9' * 19}/release", b"", 400),
        ("POST", "/quarantine/1/release", b"", 404),
        ("DELETE", "/quarantine", b"", 405),
        ("POST", "/revocations", b"{", 400),
        ("POST", "/revocations", b"[]", 400),
        ("POST", "/revocations", b'{"issuer": "CN=x", "serial": 5}', 400),
        ("POST", "/revocations", b'{"issuer": "CN=x", "serial": "-5"}', 400),
        ("POST", "/revocations", b"\xff" * 10, 400),
        ("POST", "/revocations", b" " * 70_000, 413),
        ("PUT", "/behaviour", b'{"copies": 0}', 400),
        ("PUT", "/behaviour", b'{"copies": "many"}', 400),
        ("PUT", "/behaviour", b'{"delay_s": 1e400}', 400),
    ],
)
async def test_what_cannot_be_done_is_told(admin, method, path, body, status):
    async with admin() as world:
        found, told = await call(world, method, path, data=body)
        assert (found, bool(told["error"])) == (status, True)


async def test_no_token_no_admin_interface(world):
    assert (
        await world.client.session.get(f"{world.client.base}/admin/v1/quarantine")
    ).status == 404


async def test_a_token_must_be_long(make_config, pki):
    with pytest.raises(ConfigError, match="token"):
        async with Simulator(make_config(), pki.keystore, admin_token="short"):
            pass


async def smki(world, path, xml, content_type="application/xml"):
    url = f"http://127.0.0.1:{world.simulator.smki_port}/services/{path}?apikey=anything"
    headers = {"Content-Type": content_type}
    async with world.client.session.post(url, data=xml, headers=headers) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("change", [str, str.lower, lambda text: text.replace("-", "").lower()])
async def test_certificates_by_search_and_serial(world, pki, names, change):
    asked = (
        "<CertificateSearchRequest><CertificateSubjectAltName>"
        f"{change(str(names['device']))}"
        "</CertificateSubjectAltName></CertificateSearchRequest>"
    )
    status, found = await smki(world, "certificatesearch", asked)
    assert status == 200
    got = set()
    for serial in re.findall("<CertificateSerial>(.*?)<", found):
        asked = (
            f"<CertificateDataRequest><CertificateSerial>{serial.upper()}</CertificateSerial>"
            "</CertificateDataRequest>"
        )
        status, data = await smki(world, "retrievecertificate", asked)
        assert status == 200
        (body,) = re.findall("<CertificateBody>(.*?)<", data)
        got.add(parse_certificate(base64.b64decode(body)))
    assert got == {
        pki.keystore.certificate(names["device"], usage)
        for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)
    }


async def test_no_such_certificates(world):
    asked = (
        "<CertificateSearchRequest><CertificateSubjectAltName>FF-FF-FF-FF-FF-FF-FF-FF"
        "</CertificateSubjectAltName></CertificateSearchRequest>"
    )
    status, found = await smki(world, "certificatesearch", asked)
    assert (status, "<Result>" in found) == (200, False)
    asked = (
        "<CertificateDataRequest><CertificateSerial>1</CertificateSerial></CertificateDataRequest>"
    )
    status, found = await smki(world, "retrievecertificate", asked)
    assert (status, "<CertificateBody>" in found) == (200, False)


@pytest.mark.parametrize("path", ["certificatesearch", "retrievecertificate"])
async def test_no_request_to_the_repository(world, path):
    assert (await smki(world, path, "garbage"))[0] == 400
    assert (await smki(world, path, "<x/>", "text/plain"))[0] == 415
    assert (await smki(world, path, "x" * 5000))[0] == 413
    assert (await smki(world, "nothing", "<x/>"))[0] == 404

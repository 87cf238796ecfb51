"""The last journeys: how events become steps, what is kept, and what is told over HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.journeys import Journeys
from dcc_sim.core.steps import Lane, step_of
from gbcs.ports import NullJournal

USER = "90-B3-D5-1F-30-01-00-00"
OTHER = "90-B3-D5-1F-30-01-00-08"
DEVICE = "02-53-4D-54-00-00-00-01"
REQUEST = f"{USER}:{DEVICE}:7"
TOKEN = "a token for the tests"


class Kept:
    def __init__(self):
        self.rows = []

    def record(self, event, /, **fields):
        self.rows.append((event, fields))


@pytest.fixture
def journeys():
    times = iter(range(1_000_000))
    return Journeys(NullJournal(), lambda: float(next(times)))


def duis(journeys, kind, *, service="serviceT", direction="out", reference=REQUEST, **more):
    journeys.record(
        "duis",
        hop="response",
        direction=direction,
        service=service,
        request_id=reference,
        kind=kind,
        xml=b"<x/>",
        **more,
    )


def gbcs(journeys, hop, originator=USER, target=DEVICE, counter=7, **more):
    journeys.record(
        "gbcs",
        hop=hop,
        originator=originator,
        target=target,
        originator_counter=counter,
        octets=b"\x01\x02",
        **more,
    )


def post(journeys, kind, outcome, reference=REQUEST):
    journeys.record("post", reference=reference, user=USER, kind=kind, outcome=outcome, octets=4)


def test_a_request_from_beginning_to_end(journeys):
    duis(journeys, "UpdateAlcDescriptions", direction="in")
    gbcs(journeys, "pre_command")
    duis(journeys, "PreCommandBody", code="I0")
    journey = journeys.find(REQUEST)
    assert journey.state == "pre-command with the user"
    duis(journeys, "SignedPreCommandBody", direction="in", service="serviceS")
    gbcs(journeys, "signed_pre_command")
    gbcs(journeys, "command")
    duis(journeys, "AcknowledgementBody", service="serviceS", code="I99")
    assert journey.state == "on its way to the device"
    journeys.record("network", hop="command", outcome="arrived", reference=REQUEST, total_s=1.5)
    assert journey.state == "with the device"
    journeys.record("network", hop="response", outcome="arrived", reference=f"{DEVICE}:{USER}:7")
    gbcs(journeys, "response", DEVICE, USER, results=b"\0\0")
    duis(journeys, "ServiceResponseBody", service="http://user/duis", code="I0")
    assert not journey.finished
    assert journeys.under_way == 1
    post(journeys, "ServiceResponseBody", "taken")
    assert journey.finished
    assert not journey.failed
    assert journeys.under_way == 0
    assert len(journeys) == 1
    assert not journey.is_alert
    assert [kept.number for kept in journey.steps] == list(range(1, 13))
    assert journeys.counters["DUIS requests"] == 2
    assert journeys.counters["network: arrived"] == 2


def test_both_copies_of_an_alert_are_one_journey(journeys):
    up = f"{DEVICE}:{USER}:3"
    journeys.record("network", hop="alert", outcome="arrived", reference=up)
    gbcs(journeys, "alert", DEVICE, USER, 3, alert_code="8F88")
    for user in (USER, OTHER):
        duis(journeys, "DeviceAlertBody", service="http://u", reference=f"{DEVICE}:{user}:3")
    (journey,) = journeys.changed_since(0)
    assert journey.reference == f"{DEVICE}:3"
    assert journey.is_alert
    post(journeys, "DeviceAlertBody", "failed", f"{DEVICE}:{USER}:3")
    post(journeys, "DeviceAlertBody", "taken", f"{DEVICE}:{OTHER}:3")
    assert not journey.finished
    post(journeys, "DeviceAlertBody", "taken", f"{DEVICE}:{USER}:3")
    assert journey.finished


@pytest.mark.parametrize(
    ("events", "state", "finished", "failed"),
    [
        (["refused"], "refused E20", True, True),
        (["held"], "in quarantine", False, False),
        (["held", "released"], "released", False, False),
        (["held", "discarded"], "discarded", True, True),
        (["lost"], "command lost", False, True),
        (["given up"], "failed", True, True),
        (["alert of the DCC"], "told by an alert of the DCC", True, True),
    ],
)
def test_what_goes_wrong(journeys, events, state, finished, failed):
    duis(journeys, "SignedPreCommandBody", direction="in", service="serviceS")
    for event in events:
        if event == "refused":
            journeys.record("refused", reference=REQUEST, code="E20", check="ROLE", reason="no")
            duis(journeys, "ErrorBody", service="serviceS", code="E20")
        elif event == "lost":
            journeys.record("network", hop="command", outcome="lost", reference=REQUEST)
        elif event in ("given up", "alert of the DCC"):
            kind = "ErrorBody" if event == "given up" else "DccAlertBody"
            duis(journeys, kind, service="http://user")
            post(journeys, kind, "taken")
        else:
            if event != "released":
                duis(journeys, "DccAlertBody", service="http://user", alert_code="N38")
            journeys.record(
                "quarantine", reference=REQUEST, outcome=event, event_reference=1, reason=None
            )
            if event != "released":
                post(journeys, "DccAlertBody", "taken")
    journey = journeys.find(REQUEST)
    assert (journey.state, journey.finished, journey.failed) == (state, finished, failed)


def test_everything_is_passed_on():
    kept = Kept()
    journeys = Journeys(kept, lambda: 0.0)
    journeys.record("fault", kind="drop", hop="command", hub=None)
    duis(journeys, "ErrorBody")
    assert [event for event, _ in kept.rows] == ["fault", "duis"]
    assert kept.rows[1][1]["xml"] == b"<x/>"
    (other,) = journeys.others_since(0)
    assert other.facts == {"kind": "drop", "hop": "command"}
    assert journeys.others_since(other.number) == []


def test_memory_is_bounded():
    journeys = Journeys(NullJournal(), lambda: 0.0, limit=3, steps=4, octets=1000)
    for counter in range(10):
        gbcs(journeys, "command", counter=counter)
    assert [j.reference.rpartition(":")[2] for j in journeys.changed_since(0)] == ["9", "8", "7"]
    for _ in range(10):
        gbcs(journeys, "command", counter=8)
    journey = journeys.find(f"{USER}:{DEVICE}:8")
    assert len(journey.steps) == 4
    assert journey.omitted == 7
    for counter in (20, 21):
        journeys.record("duis", direction="in", request_id=f"a:b:{counter}", xml=bytes(700))
    assert [j.reference for j in journeys.changed_since(0)] == ["a:b:21"]
    for _ in range(1000):
        journeys.record("something new", note="x" * 5000)
    assert sum(len(o.facts["note"]) for o in journeys.others_since(0)) <= 100 * 300


_values = st.none() | st.text(max_size=8) | st.integers() | st.floats() | st.binary(max_size=8)
_names = st.sampled_from(["hop", "kind", "outcome", "reference", "request_id", "direction"])
_facts = st.sampled_from(["results", "service", "total_s", "octets", "xml", "copy", "reason"])


@given(
    event=st.sampled_from(["duis", "gbcs", "network", "post", "refused", "quarantine", "x"]),
    fields=st.dictionaries(
        _names | _facts, _values | st.sampled_from(["command", "alert", "response"])
    ),
)
def test_no_event_is_too_strange(event, fields):
    step = step_of(event, fields)
    if step is not None:
        assert step.reference
        assert isinstance(step.source, Lane)
    journeys = Journeys(NullJournal(), lambda: 0.0)
    journeys.record(event, **fields)
    assert journeys.number == 1


async def get(world, path, token=TOKEN):
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{world.client.base}{path}"
    async with world.client.session.get(url, headers=headers) as response:
        is_json = response.content_type == "application/json"
        return response, await (response.json() if is_json else response.text())


async def test_journeys_over_http(start_world, requests):
    async with start_world(admin_token=TOKEN) as world, world.device():
        await world.send()
        response, news = await get(world, "/admin/v1/journeys?since=0")
        assert response.status == 200
        (journey,) = news["journeys"]
        assert journey["reference"] == str(requests.transform().request_id)
        _, later = await get(world, f"/admin/v1/journeys?since={news['number']}")
        assert later["began"] == news["began"]
        response, whole = await get(world, f"/admin/v1/journeys/{journey['reference']}")
        first = whole["steps"][0]
        assert (first["from"], first["to"]) == ("user", "dcc")
        assert first["content"].startswith("<?xml")
        assert first["octets"] == len(first["content"].encode())
        assert (await get(world, "/admin/v1/journeys/nothing"))[0].status == 404
        assert (await get(world, "/admin/v1/journeys?since=x"))[0].status == 400
        assert (await get(world, "/admin/v1/journeys", token="no"))[0].status == 401


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/page.js", "text/javascript"),
        ("/page/diagram.js", "text/javascript"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
async def test_the_page_is_served_with_a_strict_policy(start_world, path, content_type):
    async with start_world() as world:
        response, text = await get(world, path)
        assert response.status == 200
        assert response.content_type == content_type
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        # Text from outside is never made HTML, and nothing comes from elsewhere.
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text
        assert "https://" not in text
        assert "onclick" not in text
        assert " style=" not in text

"""The journey of one message: what is joined from journals, and how it is written down."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli.app import run
from lab.errors import ExplainError, LabError
from lab.explain import (
    Party,
    as_json_object,
    as_mermaid,
    as_svg,
    explain,
    list_messages,
    read_events,
)
from smtunnel import ECS46A, ECS200, Compression, FragmentHeader, Originator, encode_message
from smtunnel.control import build_control
from smtunnel.fragments import cut_stream
from smtunnel.records import Abort, AbortCode, IndexRange, MessageName, Missing, Receipt

SUPPLIER = "90-B3-D5-1F-30-01-00-00"
OTHER_SUPPLIER = "90-B3-D5-1F-30-01-00-77"
DEVICE = "02-53-4D-54-00-00-00-01"
OTHER_DEVICE = "02-53-4D-54-00-00-00-02"
MESSAGE = random.Random(1).randbytes(130)  # two fragments down


class Journals:
    """Makes events, a millisecond apart."""

    def __init__(self):
        self.events = []

    def tell(self, component, event, **fields):
        t = 1000 + len(self.events) / 1000
        self.events.append({"t": t, "component": component, "event": event} | fields)

    def message(self, component, state, ref, **more):
        peer = DEVICE if component == "dsrsp" else SUPPLIER
        self.tell(component, "message", state=state, message_ref=ref, peer=peer, **more)

    def carrier(self, component, ref, payload, counter, index=0, number=4, **more):
        down = component == "dsrsp"
        self.tell(
            component,
            "carrier",
            direction="down" if down else "up",
            peer=DEVICE if down else SUPPLIER,
            message_ref=ref,
            tunnel_message_id=number,
            index=index,
            originator_counter=counter,
            payload=payload,
            **more,
        )

    def command(self, counter, outcome="arrived", device=DEVICE, **more):
        """Let dcc-sim tell of one ECS46a, as far as the device."""
        reference = f"{SUPPLIER}:{device}:{counter}"
        duis = {"service": "serviceS", "request_id": reference, "xml": "3c782f3e"}
        self.tell("dcc-sim", "duis", direction="in", kind="SignedPreCommandBody", **duis)
        gbcs = {"originator": SUPPLIER, "target": device, "originator_counter": counter}
        self.tell("dcc-sim", "gbcs", hop="command", octets="dd" * 300, **gbcs)
        self.tell(
            "dcc-sim", "duis", direction="out", kind="AcknowledgementBody", code="I99", **duis
        )
        hop = {"reference": reference, "octets": 300, "total_s": 1.25, "wan_s": 1.0, "han_s": 0.25}
        self.tell("dcc-sim", "network", hop="command", outcome=outcome, **hop, **more)

    def response(self, counter, results="0000"):
        reference = f"{DEVICE}:{SUPPLIER}:{counter}"
        hop = {"reference": reference, "octets": 120}
        self.tell("dcc-sim", "network", hop="response", outcome="arrived", **hop)
        gbcs = {"originator": DEVICE, "target": SUPPLIER, "originator_counter": counter}
        self.tell("dcc-sim", "gbcs", hop="response", octets="df", results=results, **gbcs)
        post = {"reference": f"{SUPPLIER}:{DEVICE}:{counter}", "user": SUPPLIER, "octets": 1800}
        self.tell("dcc-sim", "post", kind="ServiceResponseBody", outcome="taken", **post)

    def write(self, folder: Path):
        for component in ("dcc-sim", "dsrsp", "cem"):
            lines = [json.dumps(e) for e in self.events if e["component"] == component]
            (folder / f"{component}.journal").write_text("\n".join([*lines, '{"cut']))


@pytest.fixture
def journals():
    return Journals()


def send_down(journals):
    """A message of two fragments, of which the second is lost and sent again."""
    sent = encode_message(MESSAGE, carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=4)
    assert len(sent.payloads) == 2
    known = {"message_octets": len(MESSAGE), "fragments_total": 2}
    journals.message("dsrsp", "queued", "abc", tunnel_message_id=None, **known)
    for index, payload in enumerate(sent.payloads):
        counter = 70_000 + index
        journals.carrier("dsrsp", "abc", payload, counter, index, attempt=1)
        journals.command(counter, "lost" if index else "arrived")
        journals.command(counter, device=OTHER_DEVICE)
    journals.response(70_000)
    # Sent again, with a counter whose key is the same modulo 65536.
    counter = 70_001 + 65_536
    journals.carrier("dsrsp", "abc", sent.payloads[1], counter, 1, attempt=2)
    journals.command(counter, reason="fault 1")
    journals.message("cem", "reassembled", "90b3d51f30010000-4-70000", message_octets=130)
    journals.message("cem", "reassembled", "90b3d51f30010000-5-70000", message_octets=99)
    journals.response(counter)
    journals.message("dsrsp", "delivered", "abc", tunnel_message_id=4, **known)
    journals.message("dsrsp", "delivered", "abc", tunnel_message_id=4, **known)
    return journals.events


def test_down(journals):
    journey = explain(send_down(journals), "abc")
    assert journey.downlink
    assert journey.device == DEVICE
    assert (journey.tunnel_message_id, journey.message_octets, journey.fragments_total) == (
        4,
        130,
        2,
    )
    assert journey.state == "delivered"
    tries = [(d.index, d.attempt, d.originator_counter) for d in journey.deliveries]
    assert tries == [(0, 1, 70_000), (1, 1, 70_001), (1, 2, 135_537)]
    lost = [step for step in journey.steps if step.failed]
    assert [step.title for step in lost] == ["command lost"]
    assert lost[0].delivery == journey.deliveries[1]
    assert dict(lost[0].facts)["wan_s"] == "1"
    # Three commands and two responses crossed the SM WAN; the other device's are not counted.
    assert journey.octets_of("network") == (5, 3 * 300 + 2 * 120)
    assert journey.octets_of("duis")[0] == 6
    assert journey.octets_of("post") == (2, 3600)
    assert [s.title for s in journey.steps].count("delivered") == 1
    assert [s.octets for s in journey.steps if s.title == "reassembled"] == [130]
    assert journey.arrived_s is not None
    assert journey.arrived_s > 0


def test_the_name_at_the_receiver_is_good_too(journals):
    events = send_down(journals)
    assert explain(events, "90b3d51f30010000-4-70000").ref == "abc"


def send_up(journals, *, arrives=True):
    sent = encode_message(b"up", carrier=ECS200, originator=Originator.CEM, tunnel_message_id=9)
    (payload,) = sent.payloads
    journals.message("cem", "queued", "up1", message_octets=2, fragments_total=1)
    journals.carrier("cem", "up1", payload, 5, number=9)
    for device, octets in ((OTHER_DEVICE, "df"), (DEVICE, f"df{payload.encode().hex()}00")):
        if device == DEVICE and not arrives:
            reference = f"{DEVICE}:{SUPPLIER}:5"
            journals.tell("dcc-sim", "network", hop="alert", outcome="lost", reference=reference)
            break
        gbcs = {"originator": device, "target": SUPPLIER, "originator_counter": 5}
        if arrives:
            journals.tell("dcc-sim", "gbcs", hop="alert", octets=octets, alert_code="8F88", **gbcs)
        for user in (SUPPLIER, OTHER_SUPPLIER):
            fields = {"reference": f"{device}:{user}:5", "user": user, "octets": 2000}
            if arrives:
                journals.tell("dcc-sim", "post", kind="DeviceAlertBody", outcome="taken", **fields)
    return journals.events


def test_up(journals):
    send_up(journals)
    journals.message("dsrsp", "reassembled", "02534d5400000001-5-9", message_octets=2)
    journals.message("cem", "sent", "up1", tunnel_message_id=9)
    control = [
        (Receipt((MessageName(9, 5),)), "receipt sent"),
        (Missing(MessageName(9, 5), (IndexRange(1, 2),)), "told what is missing: 1+2"),
        (Abort(MessageName(9, 5), AbortCode.EXPIRED), "aborted: expired"),
        (Receipt((MessageName(8, 5),)), None),
    ]
    for n, (record, _) in enumerate(control):
        octets = build_control([record])
        header = FragmentHeader(Originator.DSRSP, Compression.CONTROL, True, False, 0, n)
        cut = cut_stream(octets, carrier=ECS46A, header=header, message_octets=len(octets))
        (payload,) = cut.payloads
        journals.carrier("dsrsp", f"~{n}c", payload, 200 + n, number=n, control=True)
    journey = explain(journals.events, "up1")
    assert not journey.downlink
    assert journey.device == DEVICE
    assert [s.title for s in journey.steps if s.kind == "control"] == [
        title for _, title in control if title
    ]
    assert all(s.source is Party.DSRSP for s in journey.steps if s.kind == "control")
    assert journey.octets_of("post") == (2, 4000)
    assert journey.arrived_s is not None


def test_an_alert_that_was_lost_still_names_its_device(journals):
    journey = explain(send_up(journals, arrives=False), "up1")
    assert journey.device == DEVICE
    assert [step.title for step in journey.steps if step.failed] == ["alert lost"]
    assert journey.arrived_s is None


def test_messages_of_one_name(journals):
    journals.carrier("dsrsp", "~1c", "GAAA", 1, control=True)
    journals.carrier("cem", "~1c", "GAAA", 1, control=True)
    assert [m.state for m in list_messages(journals.events)] == ["control", "control"]
    with pytest.raises(ExplainError, match="dsrsp:~1c or cem:~1c"):
        explain(journals.events, "~1c")
    assert explain(journals.events, "cem:~1c").downlink is False
    with pytest.raises(ExplainError, match="no journal tells"):
        explain(journals.events, "other")


def test_drawings_hold_foreign_text_still(journals):
    journals.message("dsrsp", "queued", "abc", message_octets=1)
    evil = 'a</text><script>alert(1)</script>; end\n%%{init}%% "x" \x1b[31m\x00'
    journals.message("dsrsp", "failed", "abc", reason=evil)
    journey = explain(journals.events, "abc")
    svg = as_svg(journey)
    root = ET.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "title", "style", "rect", "text", "line", "g", "path")
    }
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    mermaid = as_mermaid(journey)
    assert "<script" not in mermaid
    body = mermaid.split("sequenceDiagram\n")[1]
    for line in body.splitlines():
        assert line.startswith(
            ("    participant ", "    Note over ", "    DSRSP", "    DCC", "    CEM")
        )
        assert "%%" not in line


@pytest.mark.parametrize("form", ["text", "json", "mermaid", "svg"])
def test_command_line(journals, tmp_path, capsys, form):
    send_down(journals)
    journals.write(tmp_path)
    assert run(["explain", "--folder", str(tmp_path), "abc", "--format", form]) == 0
    out = capsys.readouterr().out
    assert "command lost" in out
    assert "\x1b[" not in out
    if form == "json":
        journey = json.loads(out)
        assert journey == as_json_object(explain(journals.events, "abc"))
        assert {"fragment", "attempt", "after_s"} <= journey["steps"][0].keys()
    if form == "text":
        assert "fragments handed on: 3, of them again: 1, lost: 1" in out
        assert "SM WAN: 5 messages, 1140 octets" in out


def test_command_line_lists(journals, tmp_path, capsys):
    send_down(journals)
    journals.write(tmp_path)
    files = [f"--journal={tmp_path / name}.journal" for name in ("dsrsp", "cem")]
    assert run(["explain", *files]) == 0
    assert "abc" in capsys.readouterr().out
    assert run(["explain", *files, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["ref"] == "abc"
    assert row["message_octets"] == 130


@pytest.mark.parametrize("content", ["x\n", "[]\n", '{"t": 1}\n', b"\xff\n", "[" * 100_000 + "\n"])
def test_what_is_no_journal(tmp_path, capsys, content):
    path = tmp_path / "x.journal"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run(["explain", "--journal", str(path)]) == 3
    assert "x.journal" in capsys.readouterr().err
    assert run(["explain", "--journal", str(tmp_path / "none")]) == 3
    assert run(["explain", "--folder", str(tmp_path / "none")]) == 3
    assert "no file *.journal" in capsys.readouterr().err


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(data=st.data())
def test_any_journal_is_read_or_refused(data):
    """Fields of any kind, in any event: an answer or an error of ours."""
    journals = Journals()
    events = [dict(event) for event in send_down(journals)]
    for event in data.draw(st.lists(st.sampled_from(events), max_size=8)):
        name = data.draw(st.sampled_from(sorted(event.keys() - {"t", "component", "event"})))
        event[name] = data.draw(_json)
    try:
        journey = explain(events, "abc")
    except LabError:
        return
    ET.fromstring(as_svg(journey))
    json.dumps(as_json_object(journey))
    as_mermaid(journey)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(ExplainError, match="cannot read"):
        read_events([tmp_path / "none.journal"])


def by_2b(number: int, body: bytes = MESSAGE, *, control: bool = False) -> str:
    """Return what route 2b carries, as the journals write it: header and body."""
    compression = Compression.CONTROL if control else Compression.NONE
    header = FragmentHeader(Originator.CEM, compression, False, True, 0, number)
    return (header.to_bytes() + body).hex()


def test_up_by_route_2b(journals):
    journals.message("cem", "queued", "up2", message_octets=len(MESSAGE))
    more = {"tunnel_message_id": 6, "routes": "2b"}
    journals.carrier("cem", "up2", by_2b(6), 31, number=6, route="2b", octets=250)
    journals.message("dsrsp", "reassembled", "x-31-6", message_octets=len(MESSAGE))
    receipt = build_control([Receipt((MessageName(6, 31),))])
    for route, payload in (("2b", by_2b(1, receipt, control=True)), ("2b", "not hexadecimal")):
        journals.carrier("dsrsp", f"~{payload[:3]}", payload, 77, control=True, route=route)
    journals.message("cem", "reassembled", "up2", message_octets=len(MESSAGE), **more)
    journey = explain(journals.events, "up2")
    assert journey.device == DEVICE
    assert [(d.route, d.chars) for d in journey.deliveries] == [("2b", 250)]
    (step,) = (s for s in journey.steps if s.kind == "carrier")
    assert (step.source, step.target, step.octets) == (Party.CEM, Party.DSRSP, 250)
    assert step.title == "signed and sent by route 2b"
    assert [s.title for s in journey.steps if s.kind == "control"] == ["receipt sent"]
    assert journey.arrived_s == pytest.approx(0.002)
    assert journey.octets_of("carrier") == (1, 250)
    assert journey.octets_of("network") == (0, 0)
    assert as_json_object(journey)["steps"][1]["route"] == "2b"


def test_begun_by_route_2b_and_gone_on_by_2a(journals):
    journals.message("dsrsp", "queued", "fell", message_octets=len(MESSAGE))
    journals.carrier("dsrsp", "fell", by_2b(4), 60_000, route="2b", octets=250, attempt=1)
    for event in send_down(journals):
        if event.get("message_ref") == "abc":
            event["message_ref"] = "fell"
    journey = explain(journals.events, "fell")
    assert [d.route for d in journey.deliveries] == ["2b", "2a", "2a", "2a"]
    titles = [s.title for s in journey.steps if s.kind == "carrier"]
    assert titles[:2] == ["signed and sent by route 2b", "fragment 0 handed on"]
    assert journey.arrived_s is not None

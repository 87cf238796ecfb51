"""The numbers, codes and names in the specifications beside the tunnel's are those of the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from cem import CemConfig
from cem.openadr import OpenAdrConfig as CemFace
from cem.openadr.core import arrivals, ordering
from cem.route_2b import Route2bClientConfig, client, way
from dsrsp import DsrspConfig, http_signer, tunnel_inputs
from dsrsp.config import SigningServiceConfig
from dsrsp.openadr import OpenAdrConfig as DsrspFace
from dsrsp.openadr import cem_ven, push_server
from dsrsp.route_2b import Route2bServerConfig, door, session
from gbcs import route_2b, route_2b_texts
from gbcs.route_2b_texts import FINAL_CODES, CloseCode
from lab.config import CemFile, DccSimFile, DsrspFile, parse_config
from lab.signing_service import SigningConfig
from openadr_xml import MAX_PAYLOAD_OCTETS, building
from openadr_xml.payloads import MAX_DEPTH
from runner_io.http_listening import connections, logs
from runner_io.http_listening import server as http_server

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "lab" / "examples"


def text_of(name: str) -> str:
    """Return a specification with every run of white space as one blank."""
    return " ".join((ROOT / "specs" / name).read_text(encoding="utf-8").split())


def default(kind: type[msgspec.Struct], name: str) -> float:
    (field,) = [one for one in msgspec.structs.fields(kind) if one.name == name]
    assert isinstance(field.default, int | float)
    return field.default


def test_the_close_codes_are_those_of_route_2b() -> None:
    section = (ROOT / "specs/route-2b.md").read_text(encoding="utf-8").partition("## 6.")[2]
    rows = re.findall(r"^\| (4\d{3}) \| ([a-z ]+) \|.*\| ([^|]+) \|$", section, re.M)
    written = {int(code): name.replace(" ", "_").upper() for code, name, _ in rows}
    known = {code.value: code.name for code in CloseCode if code is not CloseCode.TOO_LONG}
    assert written == known
    assert {int(code) for code, _, then in rows if then == "waits for a newer offer"} == FINAL_CODES


def test_the_numbers_of_route_2b() -> None:
    text = text_of("route-2b.md")

    def server(name: str) -> str:
        return f"{default(Route2bServerConfig, name):g}"

    def cem(name: str) -> str:
        return f"{default(Route2bClientConfig, name):g}"

    rate = default(Route2bServerConfig, "messages_per_s")
    queued = int(default(Route2bServerConfig, "queued_octets"))
    assert client._CLOCK_CHECK_S == 60
    assert default(Route2bClientConfig, "connect_timeout_s") == 15
    assert default(Route2bClientConfig, "try_later_max_s") == 3600
    assert default(Route2bClientConfig, "refused_retry_s") == 6 * 3600
    assert default(Route2bClientConfig, "send_timeout_s") == 30
    assert default(Route2bClientConfig, "message_octets") == route_2b.DEFAULT_MESSAGE_OCTETS
    assert default(Route2bServerConfig, "message_octets") == route_2b.DEFAULT_MESSAGE_OCTETS
    for sentence in (
        f"subprotocol `{route_2b_texts.SUBPROTOCOL}`",
        f"appends `{route_2b_texts.PATH_PREFIX}`",
        f"takes a message of more than {route_2b_texts.MAX_TEXT_OCTETS:,} octets",
        f"over which more than {door.UNPROVEN_OCTETS:,} octets have come",
        f"SHOULD send one every {cem('keepalive_s')} s",
        f"It gives the pong {cem('keepalive_timeout_s')} s",
        f"a DSRSP pings every {server('keepalive_s')} s and gives it "
        f"{server('keepalive_timeout_s')} s",
        f"at most {route_2b_texts.MAX_TEXT_OCTETS:,} characters",
        f"integer, {route_2b_texts.MIN_MESSAGE_OCTETS} to 2^32-1",
        f"An offer of less than {route_2b_texts.MIN_MESSAGE_OCTETS} octets",
        f"a DSRSP after {server('handshake_timeout_s')} s each",
        f"a CEM after {cem('connect_timeout_s')} s for TCP, TLS and HTTP together, and "
        f"{cem('handshake_timeout_s')} s for the handshake",
        f"by default {route_2b.DEFAULT_MESSAGE_OCTETS:,}; at most "
        f"{route_2b.MAX_MESSAGE_OCTETS:,} may be configured",
        f"more than {server('queued_messages')} messages or {queued >> 20} MiB would wait",
        f"not taken one message in {server('send_timeout_s')} s",
        f"reads {rate:g} messages a second of one CEM, after {rate * session._AT_ONCE_S:,.0f} ",
        f"at most {route_2b_texts.MAX_REASON_OCTETS} octets",
        f"checked again every {server('revocation_check_s')} s",
        f"at first about {cem('reconnect_min_s')} s",
    ):
        assert sentence in text, sentence
    assert default(Route2bClientConfig, "reconnect_max_s") == 60
    assert "up to 1 minute" in text


def test_the_numbers_of_the_signing_service() -> None:
    text = text_of("signing-service.md")
    statuses = ", ".join(map(str, sorted(http_signer._RETRIED)))
    for sentence in (
        f"| {statuses}; no connection; no answer in time | not now |",
        f"`POST {http_signer.PATH}`",
        f"| `{http_signer.USE_ECS46A}` |",
        f"| `{http_signer.USE_ROUTE_2B_MESSAGE}` |",
        f"| `{http_signer.USE_ROUTE_2B_PROOF}` |",
        f"`signatures_in_flight` ({default(DsrspConfig, 'signatures_in_flight')})",
        f"`messages_to_sign` ({default(DsrspConfig, 'messages_to_sign'):,}) or `octets_to_sign` "
        f"({int(default(DsrspConfig, 'octets_to_sign')) >> 20} MiB)",
        f"comes again after {session._SIGNER_AWAY_S:g} s where the service is away, after "
        f"`try_later_max_s` ({default(Route2bServerConfig, 'try_later_max_s'):g} s)",
    ):
        assert sentence in text, sentence


def test_the_numbers_of_the_openadr_faces() -> None:
    text = text_of("openadr-faces.md")

    def cem(name: str) -> str:
        return f"{default(CemFace, name):g}"

    def dsrsp(name: str) -> str:
        return f"{default(DsrspFace, name):g}"

    assert default(DsrspFace, "repeat_after_s") == arrivals._RESYNC_PAUSE_S == 3600
    assert default(DsrspFace, "poll_interval_max_s") == 3600
    assert default(DsrspFace, "poll_pause_max_s") == 300
    assert default(DsrspFace, "give_up_s") == 86_400
    assert default(DsrspFace, "vtn_attempts") == 4
    assert default(CemFace, "keep_answers_s") == 15 * 60
    assert default(CemFace, "unanswered_s") == 2 * 3600
    assert connections._UNASKED_OCTETS == 256 * 1024
    assert (
        building.INVALID_ID,
        building.COMPLIANCE_ERROR,
        building.NOT_AUTHORIZED,
        building.OTHER_ERROR,
    ) == (452, 459, 463, 469)
    for sentence in (
        f"({dsrsp('poll_interval_s')} s unless the VTN says; not below `poll_interval_min_s`, "
        f"{dsrsp('poll_interval_min_s')} s, nor above `poll_interval_max_s`, 1 h",
        "not within an hour (`repeat_after_s`)",
        f"for `patience_s` ({cem('patience_s')} s;",
        "kept for `keep_answers_s` (15 minutes)",
        "after `unanswered_s` (2 hours)",
        f"within `refusal_grace_s` ({cem('refusal_grace_s')} s)",
        f"at most {MAX_PAYLOAD_OCTETS >> 10} KiB and {MAX_DEPTH} levels",
        f"posted again, {dsrsp('retry_first_s')} s to {dsrsp('retry_max_s')} s apart, for a day "
        "(`give_up_s`)",
        f"or not in {dsrsp('vtn_timeout_s')} s | four tries (`vtn_attempts`)",
        f"the work goes on after {cem_ven._RESTART_S:g} s",
        f"At most {ordering.MAX_HELD} messages are held, and {ordering.MAX_UNCONFIRMED} of these",
        f"`connections` ({cem('connections')}), `push_connections` ({dsrsp('push_connections')})",
        f"`idle_timeout_s`, `push_idle_timeout_s` ({cem('idle_timeout_s')} s)",
        f"`body_timeout_s` ({cem('body_timeout_s')} s)",
        f"{http_server._LINE_OCTETS:,} octets; 256 KiB in all",
        f"does not take | {push_server.MAX_OUTBOX} | 503",
        f"{logs._LINES} a minute of each",
    ):
        assert sentence in text, sentence
    assert logs._PERIOD_S == 60
    for name in ("body_timeout_s", "idle_timeout_s"):
        pushed = name if name == "body_timeout_s" else f"push_{name}"
        assert default(CemFace, name) == default(DsrspFace, pushed)


def test_receipts_by_2b_go_within_the_time_of_the_specification() -> None:
    assert "at once or at most 50 ms later" in text_of("tunnel-protocol.md")
    assert max(way.SETTLE_S, tunnel_inputs._SETTLE_S) <= 0.05


def _recorded() -> dict[str, set[str]]:
    """Return the events that the code writes into journals, each with its fields."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("cem", "dsrsp", "dcc_sim"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr == "record" and node.args:
                    event = node.args[0]
                    if isinstance(event, ast.Constant):
                        names = {word.arg for word in node.keywords if word.arg is not None}
                        found[str(event.value)] |= names
    return found


def test_every_event_and_field_of_the_journals_is_described() -> None:
    text = (ROOT / "specs/journal.md").read_text(encoding="utf-8").partition("| event |")[2]
    rows = dict(re.findall(r"^\| `([a-z_]+)` \|(.*)\|$", text, re.M))
    recorded = _recorded()
    assert set(rows) == set(recorded)
    # What is known of a message stands there with "...".
    for event in set(rows) - {"message"}:
        missing = {name for name in recorded[event] if f"`{name}`" not in rows[event]}
        assert not missing, event


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dcc-sim", DccSimFile),
        ("dsrsp", DsrspFile),
        ("cem", CemFile),
        ("signing-service", SigningConfig),
    ],
)
def test_what_the_examples_have_commented_out_can_be_set(name: str, kind: type) -> None:
    lines = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    setting = re.compile(r"# (?=(\w+ = |\[[\w.\[]))")
    whole = "\n".join(setting.sub("", line, count=1) for line in lines)
    whole = whole.replace('route_2b_pins = ["..."]', f'route_2b_pins = ["{"0" * 64}"]')
    assert len(tomllib.loads(whole)) >= len(tomllib.loads("\n".join(lines)))
    assert whole.count("\n# ") < "\n".join(lines).count("\n# ")
    assert parse_config(whole, kind, where=name)


def test_the_numbers_that_the_examples_give_are_the_defaults() -> None:
    text = (EXAMPLES / "signing-service.toml").read_text(encoding="utf-8")
    given = re.findall(r"^(?:# )?(\w+) = (\d+) ", text, re.M)
    assert len(given) >= 4
    for name, value in given:
        assert default(SigningConfig, name) == int(value), name
    cem = (EXAMPLES / "cem.toml").read_text(encoding="utf-8")
    assert f"# patience_s = {default(CemFace, 'patience_s')} " in cem
    assert "# use_route_2b = false             # True unless" in cem
    assert default(CemConfig, "use_route_2b") is True


@pytest.mark.parametrize(
    "kind",
    [
        CemConfig,
        CemFace,
        Route2bClientConfig,
        DsrspConfig,
        DsrspFace,
        SigningServiceConfig,
        Route2bServerConfig,
        SigningConfig,
    ],
)
def test_every_setting_is_explained_where_the_examples_say(kind: type[msgspec.Struct]) -> None:
    (file,) = [ROOT / f"{kind.__module__.replace('.', '/')}.py"]
    (found,) = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    listed = set(re.findall(r"^    (\w+): ", ast.get_docstring(found) or "", re.M))
    for statement, after in zip(found.body, found.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert said or statement.target.id in listed, statement.target.id
    assert listed <= set(kind.__struct_fields__)

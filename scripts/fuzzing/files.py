"""The decoders of files and bodies: OpenADR XML, configurations, journals, faults, networks."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dcc_sim.core.faults import parse_scenario, parse_untrusted_fault
from dcc_sim.core.network import parse_profile
from dcc_sim.errors import ConfigError as DccSimConfigError
from dcc_sim.inventory_file import parse_inventory
from fuzzing.engine import Decoder
from gbcs.duis import Schema
from gbcs.errors import DuisSchemaError
from lab.config import CemFile, DccSimFile, DsrspFile, parse_config
from lab.errors import ConfigError, LabError
from lab.journal import JsonLinesJournal
from lab.openadr_messages import make_story
from lab.trace import merged_events
from openadr_xml import NotCompactable, canonical, compact

ROOT: Final = Path(__file__).resolve().parents[2]
NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
_SCENARIO: Final = b"""
[[fault]]
at_s = 60
kind = "drop"
hop = "command"
count = 3
[[fault]]
kind = "delay"
hop = "post"
delay_s = 2.5
entity_id = "02-53-4D-54-00-00-00-01"
[[fault]]
kind = "hub-down"
hub = "hub 7"
duration_s = 10
[[fault]]
kind = "revoke"
entity_id = "02-53-4D-54-00-00-00-01"
"""
_FAULTS: Final = (
    b'{"kind": "drop", "hop": "command", "count": 3}',
    b'{"kind": "delay", "hop": "alert", "delay_s": 1e3, "entity_id": "02534d5400000001"}',
    b'{"kind": "restart", "duration_s": 5}',
)
_INVENTORY: Final = b"""entity_id,status,region,hub
02-53-4D-54-00-00-00-01,Commissioned,north,
02-53-4D-54-00-00-00-02,Suspended,north,"hub 7, left"
"""
_SCHEMA: Final = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="a"><xs:complexType><xs:sequence>
<xs:element name="b" type="xs:unsignedByte" maxOccurs="9"/></xs:sequence>
<xs:attribute name="c" type="xs:dateTime"/></xs:complexType></xs:element></xs:schema>"""
_VALID: Final = b'<?xml version="1.0"?><a c="2026-06-01T00:00:00Z"><b>1</b><b>255</b></a>'


def _text(octets: bytes) -> str:
    """Return a file's text: one that is not UTF-8 is refused before anything reads it."""
    return octets.decode("utf-8", "replace")


def _openadr() -> list[bytes]:
    numbers = itertools.count()
    story = make_story(NOW, lambda: f"id-{next(numbers)}")
    return [message.octets for message in story] + [compact(message.octets) for message in story]


def _compact(octets: bytes) -> None:
    small = compact(octets)
    if small != octets and canonical(small) != canonical(octets):
        raise AssertionError("the compact form means something else")


def _config(file_type: type[object]) -> Callable[[bytes], object]:
    return lambda octets: parse_config(_text(octets), file_type, where="config.toml")


def _journal_seed() -> bytes:
    with tempfile.TemporaryDirectory(prefix="smtunnel-fuzz-") as folder:
        path = Path(folder) / "seed.journal"
        with JsonLinesJournal(path, "dcc-sim", lambda: 1.5) as journal:
            journal.record("gbcs", hop="command", originator_counter=1, octets=b"\xdf\x09")
            journal.record("duis", direction="in", service="serviceT", xml=b"<a/>", hub=None)
            journal.record("message", state="QUEUED", peer="02", message_octets=12)
        return path.read_bytes()


def _journal(octets: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="smtunnel-fuzz-") as file:
        file.write(octets)
        file.flush()
        merged_events([Path(file.name)])


def _files() -> list[Decoder]:
    examples = ROOT / "lab" / "examples"
    rows: list[tuple[str, type[object]]] = [
        ("dsrsp", DsrspFile),
        ("cem", CemFile),
        ("dcc-sim", DccSimFile),
    ]
    made = [
        Decoder(
            f"config-{name}",
            ("lab.config:parse_config",),
            _config(file_type),
            (ConfigError,),
            [(examples / f"{name}.toml").read_bytes()],
        )
        for name, file_type in rows
    ]
    made.append(
        Decoder(
            "journal",
            ("lab.journal:read_journal", "lab.trace:merged_events"),
            _journal,
            (LabError,),
            [_journal_seed()],
        )
    )
    return made


def _network() -> list[Decoder]:
    profiles = sorted((ROOT / "dcc_sim" / "profiles").glob("*.toml"))
    return [
        Decoder(
            "network-profile",
            ("dcc_sim.core.network.profile:parse_profile",),
            lambda octets: parse_profile(
                _text(octets), where="network.toml", read_trace=lambda _name: "1\n2\n"
            ),
            (DccSimConfigError,),
            [*(path.read_bytes() for path in profiles)],
        ),
    ]


def decoders() -> list[Decoder]:
    """Return the rows of the table."""
    openadr = _openadr()
    schema = Schema({"a.xsd": _SCHEMA}, "a.xsd")
    return [
        Decoder("openadr-compact", ("openadr_xml.rewriting:compact",), _compact, (), openadr),
        Decoder(
            "openadr-canonical",
            ("openadr_xml.canonical:canonical", "openadr_xml.canonical:parse_untrusted"),
            canonical,
            (NotCompactable,),
            openadr,
        ),
        Decoder(
            "duis-schema",
            ("gbcs.duis.schema:Schema.validate",),
            schema.validate,
            (DuisSchemaError,),
            [_VALID],
        ),
        Decoder(
            "fault-scenario",
            ("dcc_sim.core.faults:parse_scenario",),
            lambda octets: parse_scenario(_text(octets), where="faults.toml"),
            (DccSimConfigError,),
            [_SCENARIO],
        ),
        Decoder(
            "fault-body",
            ("dcc_sim.core.faults:parse_untrusted_fault",),
            parse_untrusted_fault,
            (DccSimConfigError,),
            _FAULTS,
        ),
        Decoder(
            "device-inventory",
            ("dcc_sim.inventory_file:parse_inventory",),
            lambda octets: parse_inventory(_text(octets).splitlines(True), where="devices.csv"),
            (DccSimConfigError,),
            [_INVENTORY],
        ),
        *_files(),
        *_network(),
    ]

"""Every decoder, a few inputs each: `make fuzz` tries the same table for longer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fuzzing.engine import Decoder, make_input, try_input
from fuzzing.session import run_session
from fuzzing.table import all_decoders

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 120
SEED = 1
PACKAGES = ("smtunnel", "gbcs", "openadr_xml", "dcc_sim", "cem", "dsrsp", "lab")
# They hand over at once to what is in the table, and to the effects of what was read.
AROUND = {
    "dcc_sim.core.command_desk:CommandDesk.receive_untrusted_local_response",
    "dcc_sim.core.command_desk:CommandDesk.receive_untrusted_message",
    "dcc_sim.core.dcc:Dcc.check_untrusted_proof",
    "dcc_sim.core.dcc:Dcc.receive_untrusted_message",
    "dcc_sim.core.dcc:Dcc.retrieve_untrusted",
    "dcc_sim.core.dcc:Dcc.search_untrusted",
    "dcc_sim.core.smki_repository:SmkiRepository.retrieve_untrusted",
    "dcc_sim.core.smki_repository:SmkiRepository.search_untrusted",
    "dcc_sim.local:LocalSimulator.check_untrusted_proof",
    "dcc_sim.engine:Engine.check_untrusted_proof",
    "dcc_sim.core.dcc:Dcc.receive_untrusted_request",
    "dcc_sim.core.request_desk:RequestDesk.receive_untrusted_request",
    "dcc_sim.core.sm_wan:SmWan.receive_untrusted_message",
    "cem.core.downlink:Downlink.receive_untrusted",
    "dsrsp.gateway:Gateway.receive_untrusted",
}


@pytest.mark.parametrize("decoder", all_decoders(), ids=lambda decoder: decoder.name)
def test_nothing_but_documented_errors(decoder: Decoder) -> None:
    inputs = [*decoder.seeds, *(make_input(decoder, SEED, number) for number in range(INPUTS))]
    for octets in inputs:
        finding = try_input(decoder, octets)
        assert finding is None, (finding.what, finding.detail, octets)


def test_names_are_different() -> None:
    names = [decoder.name for decoder in all_decoders()]
    assert len(set(names)) == len(names)


def test_the_same_seed_makes_the_same_inputs() -> None:
    for decoder in all_decoders():
        first, again = ([make_input(decoder, 5, n) for n in range(9)] for _ in range(2))
        assert first == again
        assert first != [make_input(decoder, 6, n) for n in range(9)]


def test_the_table_has_every_function_that_says_it_is_for_untrusted_octets() -> None:
    covered = {name for decoder in all_decoders() for name in decoder.covers}
    # The records' own functions are reached through that of the control message.
    through = ("smtunnel.records:", "smtunnel.routes:")
    found = {
        name
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in functions_in(path)
        if "untrusted" in name and not name.startswith(through) and ":_" not in name
    }
    assert found - covered - AROUND == set()


def functions_in(path: Path) -> list[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [f"{module}:{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)]
    return names + [
        f"{module}:{outer.name}.{node.name}"
        for outer in tree.body
        if isinstance(outer, ast.ClassDef)
        for node in outer.body
        if isinstance(node, ast.FunctionDef)
    ]


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    def decode(octets: bytes) -> None:
        if len(octets) < 8:
            raise ValueError("documented")
        if octets[7] == 0xFF:
            raise KeyError("not documented")

    planted = Decoder("planted", (), decode, (ValueError,), [bytes(8)])
    tally = run_session([planted], seed=1, seconds=0.5, processes=2, folder=tmp_path)
    (finding,) = tally.findings.values()
    assert finding.octets[7] == 0xFF
    assert finding.what.startswith("KeyError")
    assert tally.inputs["planted"] > 100
    again = try_input(planted, finding.octets)
    assert again is not None
    assert again.place == finding.place
    assert list(tmp_path.iterdir()) == []

"""What specs/tunnel-protocol.md says in figures is what the library does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smtunnel import (
    CARRIERS,
    AbortReason,
    Confirmation,
    Limits,
    ReceiptSettings,
    SendPolicy,
    parse_untrusted_header,
    records,
    routes,
)
from smtunnel.aborts import abort_of_error, abort_of_reason
from smtunnel.carriers import ECS46A
from smtunnel.codec import decode_base64_untrusted
from smtunnel.control import (
    MAX_CONTROL_OCTETS,
    MAX_RECORDS,
    build_record,
    parse_untrusted_control,
)
from smtunnel.effects import ANSWERS
from smtunnel.errors import RemoteError, UnknownDictionary, WindowTooLarge
from smtunnel.fragments import parse_untrusted_fragment
from smtunnel.giving_out import CONTROL_MESSAGES_IN_FLIGHT
from smtunnel.header import MAX_FRAGMENTS, MAX_MESSAGE_ID
from smtunnel.limits import (
    FRAGMENT_OVERHEAD_OCTETS,
    INFLATER_OCTETS,
    MESSAGE_OVERHEAD_OCTETS,
    body_bound,
    compressed_bound,
)
from smtunnel.message_ids import MAX_REMEMBERED_TAGS
from smtunnel.outbound import CONTROL_OCTETS_2B, MAX_CONTROL_MESSAGES
from smtunnel.peer_word import abort_input
from smtunnel.records import AbortCode, CapabilitiesWanted
from smtunnel.routes import (
    MAX_ADDRESS_CHARS,
    MAX_ADDRESSES,
    MAX_PINS,
    PIN_OCTETS,
    RouteOffer,
    RouteStatus,
)
from smtunnel.send_states import TRANSITIONS, SendInput, SendState

SPECIFICATION = Path(__file__).resolve().parents[2] / "specs" / "tunnel-protocol.md"


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    text = SPECIFICATION.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_header_examples(rows: list[list[str]]) -> None:
    examples = [row for row in rows if re.fullmatch(r"`([0-9A-F]{2} ){2}[0-9A-F]{2}`", row[0])]
    assert len(examples) == 4
    for octets, text, *_ in examples:
        header = parse_untrusted_header(bytes.fromhex(octets.strip("`")))
        assert header.encode() == text.strip("`")


def test_carriers(rows: list[list[str]]) -> None:
    for carrier in CARRIERS.values():
        [row] = [row for row in rows if row[0] == f"`{carrier.name}`"]
        assert row[2:4] == [f"{carrier.capacity} characters", str(carrier.body_capacity)]


def test_default_limits(rows: list[list[str]]) -> None:
    limits = Limits()
    table = {row[0]: row[1] for row in rows}
    assert table["message, inflated"] == f"{limits.message_octets:,} octets"
    assert (
        f" {body_bound(limits.message_octets):,} characters" in table["all bodies of one message"]
    )
    assert table["live messages of one peer"] == str(limits.partial_messages_per_peer)
    assert table["peers"] == f"{limits.peers:,}"
    total = table["all live messages together"]
    assert total.startswith(f"{limits.total_octets >> 20} MiB")
    assert f"and {FRAGMENT_OVERHEAD_OCTETS} octets" in total
    assert f"counted as {MESSAGE_OVERHEAD_OCTETS} octets" in total
    assert table["lifetime"].startswith(f"{limits.message_lifetime_s:,.0f} s")
    assert table["replay window"] == f"{limits.replay_window} counters"
    assert table["control message"] == f"{MAX_CONTROL_OCTETS:,} octets"
    control = table["all bodies of one control message"]
    assert control.endswith(f" {body_bound(MAX_CONTROL_OCTETS):,} characters")
    assert table["zlib window"] == f"{limits.window_bits} bits"


def test_default_policy(rows: list[list[str]]) -> None:
    policy = SendPolicy(confirmation=Confirmation.RESULTS)
    table = {row[0]: row[1] for row in rows}
    assert policy.fragments_per_window is None
    expected = {
        "fragments in flight, to one peer": f"{policy.fragments_in_flight}",
        "fragments given out and not handed over, in all": f"{policy.fragments_in_flight_total:,}",
        "messages in flight, to one peer": f"{policy.messages_in_flight}",
        "control messages in flight, to one peer": f"{CONTROL_MESSAGES_IN_FLIGHT}",
        "control messages waiting, to one peer": f"{MAX_CONTROL_MESSAGES}",
        "fragments in a window, to all peers": f"no limit, window {policy.window_s:,.0f} s",
        "attempts of a fragment": f"{policy.attempts_per_fragment}",
        "attempts of a message": f"{policy.message_attempts}",
        "retry first": f"{policy.retry_first_s:,.0f} s",
        "retry max": f"{policy.retry_max_s:,.0f} s",
        "retry jitter": f"{policy.retry_jitter:g}",
        "result timeout": f"{policy.result_timeout_s:,.0f} s",
        "receipt timeout": f"{policy.receipt_timeout_s:,.0f} s",
        "receipt timeout, max": f"{policy.receipt_timeout_max_s:,.0f} s",
        "reason grace": f"{policy.reason_grace_s:,.0f} s",
        "message lifetime": f"{policy.message_lifetime_s:,.0f} s",
        "attempts of a control message": f"{policy.control_attempts}",
        "lifetime of a control message": f"{policy.control_lifetime_s:,.0f} s",
        "fallback after": f"{policy.fallback_after_s:,.0f} s",
        "messages in flight by 2b, to one peer": f"{policy.messages_in_flight_2b}",
        "receipt timeout by 2b": f"{policy.receipt_timeout_2b_s:,.0f} s",
        "attempts by 2b": f"{policy.attempts_2b}",
        "longest control message by 2b": f"{CONTROL_OCTETS_2B:,} octets",
    }
    assert {name: table[name] for name in expected} == expected


def test_default_receipts(rows: list[list[str]]) -> None:
    settings = ReceiptSettings()
    table = {row[0]: row[1] for row in rows}
    assert table["policy"] == settings.policy.name.lower()
    assert table["batch time"] == f"{settings.batch_s:.0f} s"
    assert table["enough"] == f"{settings.batch_entries}"
    assert table["missing time"] == f"{settings.missing_after_s:.0f} s"
    assert table["early"] == f"{settings.early_s:.0f} s"
    text = SPECIFICATION.read_text(encoding="utf-8")
    assert f"last {MAX_REMEMBERED_TAGS} of these tags" in text


def test_record_kinds(rows: list[list[str]]) -> None:
    start = rows.index(["kind", "record", "body"]) + 2
    found = {row[1]: int(row[0]) for row in rows[start : start + 12]}
    classes = [*vars(records).values(), *vars(routes).values()]
    known = {
        re.sub("(?<!^)([A-Z])", r" \1", cls.__name__).lower(): cls.KIND
        for cls in classes
        if isinstance(cls, type) and hasattr(cls, "KIND")
    }
    assert found == known


def test_abort_codes(rows: list[list[str]]) -> None:
    start = rows.index(["code", "reason", "detail", "what the sender does (12.4)"]) + 2
    found = rows[start : start + len(AbortCode)]
    does = {
        SendInput.ABORTED: "fails",
        SendInput.ABORTED_FOR_NOW: "sends anew",
        SendInput.ABORTED_ENCODING: "encodes anew",
    }
    for code, row in zip(AbortCode, found, strict=True):
        assert row[0] == str(int(code))
        assert row[1].startswith(code.name.lower().replace("_", " "))
        assert row[3].partition(",")[0] == does[abort_input(code)]


def test_route_statuses() -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    for status in RouteStatus:
        assert f"{int(status)} {status.name.lower().replace('_', ' ')}" in text


def test_the_table_of_states(rows: list[list[str]]) -> None:
    names = {state.name.lower().replace("reencoding", "re-encoding"): state for state in SendState}
    start = rows.index(["input", "queued", "sending", "waiting", "disputed", "re-encoding"])
    columns = [names[name] for name in rows[start][1:]]
    inputs = [
        (SendInput.START,),
        (SendInput.HANDED_OVER,),
        (SendInput.HANDED_OVER_FINALLY,),
        (SendInput.AGAIN,),
        (SendInput.CONFIRMED,),
        (SendInput.REJECTED,),
        (SendInput.NO_REASON,),
        (SendInput.ABORTED,),
        (SendInput.ABORTED_FOR_NOW,),
        (SendInput.ABORTED_ENCODING,),
        (SendInput.ENCODED,),
        (SendInput.EXHAUSTED,),
        (SendInput.EXPIRED, SendInput.CANCELLED),
    ]
    for row, group in zip(rows[start + 2 :], inputs, strict=False):
        for state, written in zip(columns, row[1:], strict=True):
            expected = None if written in ("", "-") else names[written]
            for what in group:
                assert TRANSITIONS[state].get(what) is expected, (row[0], state)


def test_errors(rows: list[list[str]]) -> None:
    start = rows.index(["name", "what", "section", "abort code"]) + 2
    written = {row[0] for row in rows[start : start + 9]}
    assert written == {cls.__name__ for cls in RemoteError.__subclasses__()}


def test_errors_and_their_abort_codes(rows: list[list[str]]) -> None:
    start = rows.index(["name", "what", "section", "abort code"]) + 2
    written = {row[0]: row[3].partition(";")[0] for row in rows[start : start + 9]}
    assert written.pop("NotAFragment") == "-"
    limits = Limits()
    made: dict[str, RemoteError] = {
        "UnknownDictionary": UnknownDictionary(7),
        "WindowTooLarge": WindowTooLarge(15, 12),
    }
    details = {"UnknownDictionary": 7, "WindowTooLarge": 12, "LimitExceeded": limits.message_octets}
    for cls in RemoteError.__subclasses__():
        name = cls.__name__
        if name in written:
            code, detail = abort_of_error(made[name] if name in made else cls("why"), limits)
            assert (str(int(code)), detail) == (written[name], details.get(name, 0))
    text = SPECIFICATION.read_text(encoding="utf-8")
    assert abort_of_reason(AbortReason.BY_SENDER) == 0
    assert "8 expired, 9 too many\npartial, 10 memory, 11 withdrawn, 0 cancelled" in text


def test_answers(rows: list[list[str]]) -> None:
    start = rows.index(["outcome", "answer"]) + 2
    written: dict[str, str] = {}
    for outcomes, answer in rows[start : start + 4]:
        code = re.search(r"\b(00|02|FA)\b", answer)
        assert code is not None
        written |= dict.fromkeys(outcomes.split("; "), code[1])
    for reason, answer_ in ANSWERS.items():
        name = reason.name.lower().replace("_", " ")
        assert int(written[name], 16) == int(answer_), name


def test_numbers_in_sentences() -> None:
    text = " ".join(SPECIFICATION.read_text(encoding="utf-8").split())
    plain = {name: carrier.body_capacity // 4 * 3 for name, carrier in CARRIERS.items()}
    longest = RouteOffer(
        offer=1,
        addresses=("a" * MAX_ADDRESS_CHARS,) * MAX_ADDRESSES,
        pins=(bytes(PIN_OCTETS),) * MAX_PINS,
        not_before=0,
        not_after=1,
        versions=tuple(range(1, 256)),
        message_octets=1,
    )
    for sentence in (
        f"at most {plain['ecs46a']} octets on `ecs46a`, {plain['ecs200']} on `ecs200`",
        f"{plain['ecs46a']} octets fit one `ecs46a`, {plain['ecs200']} one `ecs200`",
        f"1 to {MAX_RECORDS} records and at most {MAX_CONTROL_OCTETS:,} octets in all",
        f"the longest route offer has {len(build_record(longest)):,} ",
        f"at most {MAX_FRAGMENTS} fragments",
        f"= {compressed_bound(65_536):,} octets (4.3)",
        f"{MAX_FRAGMENTS} fragments hold {MAX_FRAGMENTS * ECS46A.body_capacity:,} characters",
        f"the highest {Limits().replay_window} counters it has accepted",
        f"an inflater of {INFLATER_OCTETS >> 10} KiB",
        f"there are at most {2 * (MAX_MESSAGE_ID + 1)} of a peer",
    ):
        assert sentence in text, sentence
    for octets in (0, 1, 100, 65_536):
        bound = octets + -(-octets // 8) + -(-octets // 64) + 11
        assert compressed_bound(octets) == bound


def test_the_example_of_a_control_message() -> None:
    text = SPECIFICATION.read_text(encoding="utf-8")
    found = re.search(r"control message `([0-9A-F ]+)`.*payload `(\S+)`", text)
    assert found is not None
    octets = bytes.fromhex(found[1])
    assert parse_untrusted_control(octets).records == (CapabilitiesWanted(),)
    assert decode_base64_untrusted(parse_untrusted_fragment(found[2], ECS46A).body) == octets

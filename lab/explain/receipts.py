"""Finds what the receiver of a message said about it in control messages: receipts, aborts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lab.explain.journey import JourneyStep, Party
from smtunnel import (
    ECS46A,
    ECS200,
    ROUTE_2B,
    Carrier,
    Fragment,
    MessageAssembly,
    TunnelError,
    parse_untrusted_fragment,
)
from smtunnel.control import Record, parse_untrusted_control
from smtunnel.records import Abort, MessageName, Missing, Receipt


def receipts_of(
    events: Sequence[dict[str, Any]],
    receiver: str,
    number: int,
    keys: Iterable[int],
    device: str,
) -> list[JourneyStep]:
    """Return a step for each control message in which the receiver speaks of the message.

    Args:
        events: of all journals, in order of time.
        receiver: "dsrsp" or "cem".
        number: the tunnel message id.
        keys: originator counter minus index, of each attempt.
        device: the CEM's EUI-64: a DSRSP says the like to others too.
    """
    names = {MessageName.of(number, key) for key in keys}
    steps = []
    for event, records in _control_messages(events, receiver, device):
        for record in records:
            title, failed = _about(record, names)
            if title:
                party = Party.CEM if receiver == "cem" else Party.DSRSP
                facts = (("in", str(event.get("message_ref"))),)
                t = float(event["t"])
                steps.append(
                    JourneyStep(t, party, party, title, facts, failed=failed, kind="control")
                )
    return steps


def _about(record: Record, names: set[MessageName]) -> tuple[str, bool]:
    match record:
        case Receipt(messages) if names.intersection(messages):
            return "receipt sent", False
        case Missing(message, ranges) if message in names:
            indices = " ".join(f"{r.start}+{r.count}" if r.count else f"{r.start}…" for r in ranges)
            return f"told what is missing: {indices}", True
        case Abort(message, code) if message in names:
            return f"aborted: {code.name.lower()}", True
    return "", False


def _control_messages(
    events: Sequence[dict[str, Any]], receiver: str, device: str
) -> list[tuple[dict[str, Any], tuple[Record, ...]]]:
    """Put the control messages of one end together; each is told of at its first whole time."""
    carrier = ECS200 if receiver == "cem" else ECS46A
    assemblies: dict[str, MessageAssembly] = {}
    found = []
    for event in events:
        if (
            event["event"] != "carrier"
            or event["component"] != receiver
            or event.get("control") is not True
            or (receiver == "dsrsp" and event.get("peer") != device)
        ):
            continue
        ref = str(event.get("message_ref"))
        assembly = assemblies.setdefault(ref, MessageAssembly(control=True))
        try:
            assembly.add(_fragment(event, carrier))
            if assembly.complete:
                del assemblies[ref]
                found.append((event, parse_untrusted_control(assembly.decode()).records))
        except (TunnelError, ValueError):
            assemblies.pop(ref, None)  # a journal that was cut: the rest is still worth telling
    return found


def _fragment(event: dict[str, Any], carrier: Carrier) -> Fragment:
    payload = str(event.get("payload"))
    if event.get("route") == "2b":
        return parse_untrusted_fragment(bytes.fromhex(payload), ROUTE_2B)
    return parse_untrusted_fragment(payload, carrier)

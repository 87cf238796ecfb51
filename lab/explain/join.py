"""Finds what belongs to one message in the journals of all three.

The sender's journal has the fragments with their originator counters; by those the DCC's journal
is searched; by tunnel message id and key (counter minus index) the receiver's. A field that is
missing costs a detail, never the journey.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dcc_sim.core.steps import Lane, step_of
from lab.errors import ExplainError
from lab.explain.journey import Delivery, JourneyStep, MessageJourney, Party
from lab.explain.receipts import receipts_of

Event = dict[str, Any]

_PARTY_OF_LANE = {Lane.USER: Party.DSRSP, Lane.DCC: Party.DCC, Lane.DEVICE: Party.CEM}
_PARTY_OF_COMPONENT = {"dsrsp": Party.DSRSP, "dcc-sim": Party.DCC, "cem": Party.CEM}
_SENDERS = ("dsrsp", "cem")
_OCTET_FIELDS = ("xml", "octets")
_BAD_STATES = ("failed", "rejected", "expired", "aborted")
_GOOD_RESULT = "success"


def read_events(journals: Iterable[Path]) -> list[Event]:
    """Read journals; returns their events in order of time.

    Raises:
        ExplainError: a file is missing, cannot be read or is no journal.
    """
    events: list[Event] = []
    for path in journals:
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ExplainError(f"{path}: cannot read the journal: {error}") from None
        # What stands behind the last line end was cut by a kill.
        events += [_event(line, f"{path}:{n}") for n, line in enumerate(lines[:-1], start=1)]
    events.sort(key=lambda event: float(event["t"]))
    return events


def _event(line: str, where: str) -> Event:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExplainError(f"{where}: not a line of a journal: {error}") from None
    if (
        not isinstance(event, dict)
        or isinstance(event.get("t"), bool)
        or not isinstance(event.get("t"), int | float)
        or not isinstance(event.get("event"), str)
        or not isinstance(event.get("component"), str)
    ):
        raise ExplainError(f"{where}: expected an object with t, component and event")
    return event


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """A message that a journal tells of.

    Attributes:
        component: whose message it is, "dsrsp" or "cem".
        ref: its name there.
        t: when it was first told of, in seconds since 1970.
        message_octets: None when no line says so.
        state: the last; of a control message "control".
    """

    component: str
    ref: str
    t: float
    message_octets: int | None
    state: str


def list_messages(events: Sequence[Event]) -> list[KnownMessage]:
    """Return the messages that were sent, the first sent first."""
    sent = {_name(e) for e in events if e["event"] == "carrier"}
    sent |= {_name(e) for e in events if e["event"] == "message" and e.get("state") == "queued"}
    known: dict[tuple[str, str], KnownMessage] = {}
    for event in events:
        name = _name(event)
        if name not in sent or event["event"] not in ("carrier", "message"):
            continue
        one = known.get(name) or KnownMessage(*name, float(event["t"]), None, "")
        octets = event.get("message_octets")
        known[name] = replace(
            one,
            message_octets=octets if isinstance(octets, int) else one.message_octets,
            state="control" if event.get("control") is True else _text(event, "state") or one.state,
        )
    return list(known.values())


def _name(event: Event) -> tuple[str, str]:
    return str(event["component"]), _text(event, "message_ref")


def explain(events: Sequence[Event], ref: str) -> MessageJourney:
    """Join the journey of one message.

    Args:
        events: of all journals, in order of time.
        ref: what `send` said; what `receive` said; either with "dsrsp:" or "cem:" before it, when
            both know one of this name.

    Raises:
        ExplainError: no journal knows it, or two of them know different ones.
    """
    component, ref = _find(events, ref)
    own = [event for event in events if _name(event) == (component, ref)]
    downlink = component == "dsrsp"
    deliveries = _deliveries(own)
    device = _device(events, own, deliveries, downlink=downlink)
    last = _last_known(own)
    steps = _own_steps(own, deliveries)
    steps += _network_steps(events, deliveries, device, own, downlink=downlink)
    keys = {d.originator_counter - d.index for d in deliveries}
    number = last.get("tunnel_message_id")
    if keys and isinstance(number, int):
        peer = device if not downlink else ""
        steps += _receiver_steps(events, _names(number, keys, downlink), component, peer)
        steps += receipts_of(events, "cem" if downlink else "dsrsp", number, keys, device)
    steps.sort(key=lambda step: step.t)
    return MessageJourney(
        ref=ref,
        downlink=downlink,
        device=device,
        tunnel_message_id=number if isinstance(number, int) else None,
        message_octets=_number(last, "message_octets"),
        fragments_total=_number(last, "fragments_total"),
        state=_text(last, "state"),
        reason=_text(last, "reason"),
        deliveries=tuple(deliveries),
        steps=tuple(steps),
    )


def _find(events: Sequence[Event], asked: str) -> tuple[str, str]:
    wanted, _, ref = asked.rpartition(":")
    known = [m for m in list_messages(events) if m.ref == ref and wanted in ("", m.component)]
    if len(known) == 1:
        return known[0].component, ref
    if known:
        raise ExplainError(f"both ends sent a message {ref!r}: write dsrsp:{ref} or cem:{ref}")
    # The name that the receiver gave it: sender or device, key and id.
    for message in list_messages(events):
        own = [e for e in events if _name(e) == (message.component, message.ref)]
        keys = {d.originator_counter - d.index for d in _deliveries(own)}
        number = _last_known(own).get("tunnel_message_id")
        downlink = message.component == "dsrsp"
        names = _names(number, keys, downlink) if isinstance(number, int) else set()
        if any(ref.endswith(name) for name in names) and any(
            _name(e) == ("cem" if downlink else "dsrsp", ref) for e in events
        ):
            return message.component, message.ref
    raise ExplainError(
        f"no journal tells of a message {asked!r}: give the reference that `send` or `receive` "
        "said, and the journals of dcc-sim, dsrsp and cem; without a reference the messages that "
        "they know are listed"
    )


def _names(number: int, keys: Iterable[int], downlink: bool) -> set[str]:
    """Return how the names end that a receiver may give the message."""
    return {f"-{number}-{key}" if downlink else f"-{key}-{number}" for key in keys}


def _deliveries(own: Sequence[Event]) -> list[Delivery]:
    deliveries = []
    attempts: dict[int, int] = {}
    for event in own:
        index, counter = _number(event, "index"), _number(event, "originator_counter")
        if event["event"] != "carrier" or index is None or counter is None:
            continue
        attempts[index] = attempts.get(index, 0) + 1
        attempt = _number(event, "attempt") or attempts[index]
        route = _text(event, "route") or "2a"
        payload = len(_text(event, "payload"))
        chars = payload if route == "2a" else _number(event, "octets") or payload // 2
        deliveries.append(Delivery(index, attempt, counter, float(event["t"]), chars, route))
    return deliveries


def _device(
    events: Sequence[Event],
    own: Sequence[Event],
    deliveries: Sequence[Delivery],
    *,
    downlink: bool,
) -> str:
    """Return the CEM's EUI; a CEM's own journal does not say it, the alerts that came do."""
    peer = next((peer for event in own if (peer := _text(event, "peer"))), "")
    if downlink:
        return peer
    counters = {delivery.originator_counter for delivery in deliveries}
    payloads = {_text(e, "payload").encode().hex() for e in own if e["event"] == "carrier"}
    for event in events:
        if event["event"] != "gbcs" or event.get("hop") != "alert":
            continue
        octets = _text(event, "octets")
        if event.get("originator_counter") in counters and any(
            payload and payload in octets for payload in payloads
        ):
            return _text(event, "originator")
    # None of them got as far as the DCC: what was lost on its way has no octets, but a name.
    ends = {f":{peer}:{counter}" for counter in counters}
    began = min((delivery.t for delivery in deliveries), default=0.0)
    for event in events:
        reference = _text(event, "reference")
        if event["event"] == "network" and float(event["t"]) >= began:
            device = reference.partition(":")[0]
            if reference[len(device) :] in ends:
                return device
    # By route 2b nothing passes the DCC: the DSRSP's own words are left, if they leave no doubt.
    number = _number(_last_known(own), "tunnel_message_id")
    keys = {delivery.originator_counter - delivery.index for delivery in deliveries}
    names = set() if number is None else _names(number, keys, downlink)
    peers = {
        _text(event, "peer")
        for event in events
        if event["event"] == "message" and event["component"] == "dsrsp"
        if any(_text(event, "message_ref").endswith(name) for name in names)
    }
    return peers.pop() if len(peers) == 1 else ""


def _last_known(own: Sequence[Event]) -> dict[str, Any]:
    """Return the last value of every field that the sender told."""
    known: dict[str, Any] = {}
    for event in own:
        known |= {name: value for name, value in event.items() if value is not None}
    return known


def _own_steps(own: Sequence[Event], deliveries: Sequence[Delivery]) -> list[JourneyStep]:
    steps = []
    by_counter = {delivery.originator_counter: delivery for delivery in deliveries}
    told = ""
    for event in own:
        counter = _number(event, "originator_counter")
        delivery = None if counter is None else by_counter.get(counter)
        state, reason = _text(event, "state"), _text(event, "reason")
        if event["event"] == "message":
            if state == told:
                continue  # only its counts have changed
            told = state
        steps.append(_gateway_step(event, delivery, state, reason))
    return steps


def _gateway_step(event: Event, delivery: Delivery | None, state: str, reason: str) -> JourneyStep:
    kind = str(event["event"])
    party = _PARTY_OF_COMPONENT.get(str(event["component"]), Party.DCC)
    facts = [("reason", reason)] if reason else []
    title = kind.replace("_", " ")
    octets, failed = 0, False
    target = party
    if kind == "message":
        title, failed = state, state in _BAD_STATES
        octets = _number(event, "message_octets") or 0
    elif kind == "carrier" and delivery is not None:
        title = f"fragment {delivery.index} handed on"
        title += f", attempt {delivery.attempt}" if delivery.attempt > 1 else ""
        facts += [("counter", str(delivery.originator_counter))]
        octets = delivery.chars
        if delivery.route == "2b":
            title = title.replace("fragment 0 handed on", "signed and sent by route 2b")
            target = Party.CEM if party is Party.DSRSP else Party.DSRSP
    elif result := _text(event, "result"):
        title, failed = f"result: {result}", result != _GOOD_RESULT
    facts += [("results", results)] if (results := _text(event, "results")) else []
    return JourneyStep(
        t=float(event["t"]),
        source=party,
        target=target,
        title=title,
        facts=tuple(facts),
        octets=octets,
        failed=failed,
        delivery=delivery,
        kind=kind,
    )


def _network_steps(
    events: Sequence[Event],
    deliveries: Sequence[Delivery],
    device: str,
    own: Sequence[Event],
    *,
    downlink: bool,
) -> list[JourneyStep]:
    by_reference = {f"{device}:{delivery.originator_counter}": delivery for delivery in deliveries}
    began = min((float(event["t"]) for event in own), default=0.0)
    steps = []
    for event in events:
        if event["component"] != "dcc-sim" or float(event["t"]) < began:
            continue
        step = step_of(str(event["event"]), _with_octets(event))
        if step is None or (step.reference.count(":") == 2) != downlink:
            continue
        reference = step.reference.partition(":")[2] if downlink else step.reference
        delivery = by_reference.get(reference)
        if delivery is None:
            continue
        steps.append(
            JourneyStep(
                t=float(event["t"]),
                source=_PARTY_OF_LANE[step.source],
                target=_PARTY_OF_LANE[step.target],
                title=step.title,
                facts=step.facts,
                octets=step.octets,
                failed=step.failed,
                delivery=delivery,
                kind=str(event["event"]),
            )
        )
    return steps


def _with_octets(event: Event) -> Mapping[str, Any]:
    fields = {name: value for name, value in event.items() if value is not None}
    for name in _OCTET_FIELDS:
        if isinstance(fields.get(name), str):
            try:
                fields[name] = bytes.fromhex(fields[name])
            except ValueError:
                del fields[name]
    return fields


def _receiver_steps(
    events: Sequence[Event], names: set[str], sender: str, peer: str
) -> list[JourneyStep]:
    steps = []
    for event in events:
        component, ref = _name(event)
        if component == sender or component not in _SENDERS or event["event"] != "message":
            continue
        if not any(ref.endswith(name) for name in names):
            continue
        if peer and _text(event, "peer") not in ("", peer):
            continue
        step = _gateway_step(event, None, _text(event, "state"), _text(event, "reason"))
        steps.append(step)
    return steps


def _text(event: Event, name: str) -> str:
    value = event.get(name)
    return "" if value is None or isinstance(value, dict | list) else str(value)


def _number(event: Mapping[str, Any], name: str) -> int | None:
    value = event.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None

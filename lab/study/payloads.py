"""The OpenADR messages of a workload, and what each costs on each route, by the real codec."""

from __future__ import annotations

import functools
import random
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from lab.openadr_messages import StoryMessage, make_story
from lab.study.errors import StudyFileError
from lab.study.parameters import Route, Workload
from lab.tunnel_cost import cost_down, cost_up
from openadr_xml import compact
from smtunnel import (
    DICTIONARIES,
    ECS46A,
    ECS200,
    Carrier,
    EncodedMessage,
    MessageTooLong,
    Originator,
    encode_message,
)
from smtunnel.carriers import HEADER_CHARS

# openleadr tells an event's status by the wall clock: with a start far ahead it is always "far".
_START: Final = datetime(2090, 1, 1, tzinfo=UTC)

_STORY: Final = {
    "dispatch": ("oadrDistributeEvent", "oadrCreatedEvent"),
    "registration": (
        "oadrCreatePartyRegistration",
        "oadrCreatedPartyRegistration",
        "oadrRegisterReport",
    ),
    "reports": ("oadrUpdateReport",),
    "alert-storm": ("oadrUpdateReport",),
}

_DOWN_TYPES: Final = (
    "oadrCreatedPartyRegistration",
    "oadrDistributeEvent",
    "oadrRegisteredReport",
    "oadrCreateReport",
    "oadrUpdatedReport",
    "oadrResponse",
    "oadrRequestReregistration",
    "oadrCancelReport",
)
_RECORDED = re.compile(r"(?:(?P<way>DL|UL)_)?(?:\d+-)?(?P<type>[A-Za-z]+).*\.(?:xml|json)")
_INTERVAL = re.compile(rb"<ei:interval>.*?</ei:interval>", re.DOTALL)

GENERAL_SIGNING_OCTETS: Final = 130
"""What a GBCS message around a 2b payload adds: header, parties, signature; about an alert's."""
WEBSOCKET_OCTETS: Final = 35
"""WebSocket frame and TLS record around a message."""
HTTPS_OCTETS: Final = 600
"""HTTP headers of request and answer and TLS records around an OpenADR message, assumed."""
TCP_TLS_OCTETS: Final = 4500
"""Setting up a TLS 1.3 connection with certificates, assumed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one message costs on one route.

    Attributes:
        message_octets: as the application gave it.
        compressed_octets: what travels, without headers.
        fragments: how many carrier messages; 1 without a cut.
        last_octets: GBCS octets of the last fragment's carrier message.
        full_octets: of each of the others.
        answer_octets: of the response to a full one; 0 when there is none.
        last_answer_octets: of the response to the last one.
    """

    message_octets: int
    compressed_octets: int
    fragments: int
    last_octets: int
    full_octets: int
    answer_octets: int
    last_answer_octets: int


def messages_of(workload: Workload, seed: int) -> list[StoryMessage]:
    """Return the messages of one CEM's turn, in order.

    Args:
        workload: whose.
        seed: other seeds, other identifiers in the messages.

    Raises:
        StudyFileError: a recorded folder has no messages.
    """
    if workload.folder is not None:
        return _recorded(Path(workload.folder))
    story = _story(seed)
    if workload.kind == "session":
        return list(story)
    if workload.kind == "message":
        event = next(one for one in story if one.name == "oadrDistributeEvent")
        octets = _of_size(event.octets, workload.message_octets)
        return [StoryMessage("oadrDistributeEvent", workload.direction == "down", octets)]
    chosen = [one for one in story if one.name in _STORY[workload.kind]]
    return chosen * (workload.alerts_per_cem if workload.kind == "alert-storm" else 1)


@functools.lru_cache(maxsize=4096)
def cost_of(message: StoryMessage, route: Route) -> Cost:
    """Return what a message costs on a route.

    Raises:
        StudyFileError: it does not fit the route.
    """
    octets = compact(message.octets) if route.compact else message.octets
    if route.kind == "stream1":
        # HTTPS carries the message as it is; nobody compacts it there.
        sent = len(message.octets)
        around = HTTPS_OCTETS + (TCP_TLS_OCTETS if route.connects_anew else 0)
        return Cost(sent, sent, 1, sent + around, 0, 0, 0)
    carrier = _carrier(message.downlink, route)
    try:
        encoded = _encode(octets, message.downlink, route, carrier)
    except MessageTooLong as error:
        raise StudyFileError(f"route {route.name!r}: {message.name}: {error}") from None
    if route.kind == "2b":
        whole = encoded.compressed_octets + GENERAL_SIGNING_OCTETS + WEBSOCKET_OCTETS
        return Cost(len(message.octets), encoded.compressed_octets, 1, whole, 0, 0, 0)
    lengths = [len(payload) for payload in encoded.payloads]
    sizes = _command_octets if message.downlink else _alert_octets
    last_sent, last_back = sizes(lengths[-1])
    full_sent, full_back = sizes(lengths[0])
    return Cost(
        message_octets=len(message.octets),
        compressed_octets=encoded.compressed_octets,
        fragments=len(lengths),
        last_octets=last_sent,
        full_octets=full_sent,
        answer_octets=full_back,
        last_answer_octets=last_back,
    )


def _encode(octets: bytes, downlink: bool, route: Route, carrier: Carrier) -> EncodedMessage:
    return encode_message(
        octets,
        carrier=carrier,
        originator=Originator.DSRSP if downlink else Originator.CEM,
        tunnel_message_id=0,
        peer_dictionaries=DICTIONARIES if route.dictionary else (),
    )


def _carrier(downlink: bool, route: Route) -> Carrier:
    known = ECS46A if downlink else ECS200
    chars = route.carrier_down_chars if downlink else route.carrier_up_chars
    return known if chars == known.capacity else Carrier("study", chars, printable=True)


def _command_octets(chars: int) -> tuple[int, int]:
    """Return the octets of a command with so many characters, and of its response."""
    built = _whole_groups(min(chars, ECS46A.capacity))
    cost = cost_down(_octets_for(built), "none")
    # The rest, as a larger carrier, is taken to add its characters and nothing else.
    return cost.sm_wan_octets_down + chars - built, cost.sm_wan_octets_up


def _alert_octets(chars: int) -> tuple[int, int]:
    """Return the octets of an alert with so many characters; nothing answers it."""
    built = _whole_groups(min(chars, ECS200.capacity))
    return cost_up(_octets_for(built), "none").sm_wan_octets_up + chars - built, 0


def _whole_groups(chars: int) -> int:
    """Return the next smaller size of a payload whose base64 has no padding."""
    return max(chars // 4 * 4, 8)


def _octets_for(chars: int) -> bytes:
    return bytes((chars - HEADER_CHARS) // 4 * 3)


@functools.lru_cache(maxsize=64)
def _story(seed: int) -> tuple[StoryMessage, ...]:
    numbers = random.Random(seed)  # noqa: S311 (identifiers of a simulation)

    def new_id() -> str:
        return str(uuid.UUID(int=numbers.getrandbits(128), version=4))

    return tuple(make_story(_START + timedelta(minutes=numbers.randrange(100_000)), new_id))


def _of_size(event: bytes, octets: int) -> bytes:
    """Return an event with as many intervals as make it about so long."""
    intervals = _INTERVAL.findall(event)
    head, _, rest = event.partition(intervals[0])
    tail = rest[rest.rindex(intervals[-1]) + len(intervals[-1]) :]
    body = b""
    number = 0
    while len(head) + len(body) + len(tail) < octets or not number:
        start = (_START + timedelta(minutes=30 * number)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        piece = re.sub(
            rb"<xcal:date-time>[^<]*<",
            b"<xcal:date-time>" + start.encode() + b"<",
            intervals[number % len(intervals)],
        )
        body += re.sub(rb"<text>\d+</text>", b"<text>%d</text>" % number, piece)
        number += 1
    return head + body + tail


def _recorded(folder: Path) -> list[StoryMessage]:
    found = []
    for path in sorted(folder.iterdir(), key=lambda one: _order(one.name)):
        matched = _RECORDED.fullmatch(path.name)
        if matched is None:
            continue
        kind = matched["type"]
        down = matched["way"] == "DL" if matched["way"] else kind in _DOWN_TYPES
        found.append(StoryMessage(kind, down, path.read_bytes()))
    if not found:
        raise StudyFileError(
            f"{folder}: no messages: expected files like 4-oadrDistributeEvent.xml or "
            "DL_oadrDistributeEvent_1.xml"
        )
    return found


def _order(name: str) -> tuple[int, str]:
    number = re.match(r"(\d+)-", name)
    return (int(number[1]) if number else 0, name)

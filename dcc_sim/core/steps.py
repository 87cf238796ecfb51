"""One line of the journal, read as one step of a message's journey.

The page of the simulator and the view of a tunnel message's journey are both made of these
steps. A field that is missing is an empty fact, never an error: journals of older runs are read.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gbcs.ports import JournalValue

UNREADABLE = "unreadable"
"""The journey of all that has no reference, for nobody could read it."""

ALERT_BODY = "DeviceAlertBody"
# What is posted, and says that something has failed: the journey is at that, not at the post.
_BAD_NEWS = {"ErrorBody": "failed", "DccAlertBody": "told by an alert of the DCC"}
_EXCHANGES = ("serviceT", "serviceS", "serviceD")
_SUCCESS = "00"

COUNTERS = (
    "DUIS requests",
    "DUIS answers",
    "requests refused",
    "pre-commands made",
    "GBCS commands",
    "GBCS responses",
    "GBCS alerts",
    "network: arrived",
    "network: lost",
    "network: discarded",
    "DUIS messages to post",
    "posts taken",
    "posts failed",
    "posts dropped",
    "quarantine: held",
    "quarantine: released",
    "quarantine: discarded",
)
"""The names under which steps are counted."""

Fields = Mapping[str, JournalValue]


class Lane(enum.Enum):
    """Who takes part in a journey, as dcc-sim sees it."""

    USER = "user"
    DCC = "dcc"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Step:
    """What happened.

    Attributes:
        reference: names the journey: user:device:counter of a request, device:counter of an alert.
        source: where it began.
        target: where it ended, or was to end; the same as source: nothing moved.
        title: what, in a few words.
        facts: more of it, as pairs of name and value.
        content: the message itself: XML of a DUIS message, octets of a GBCS message.
        octets: how many; of content, unless another event has that.
        state: what the journey is at now; None: as before.
        ends: whether nothing more will come, unless something is still being posted.
        failed: whether something went wrong.
        postings: 1: a message to be posted was made; -1: it was taken or given up.
        counter: under which name to count it; empty: not counted.
    """

    reference: str
    source: Lane
    target: Lane
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    content: bytes = b""
    octets: int = 0
    state: str | None = None
    ends: bool = False
    failed: bool = False
    postings: int = 0
    counter: str = ""


def step_of(event: str, fields: Fields) -> Step | None:
    """Read one event of dcc-sim's journal.

    Args:
        event: its name.
        fields: its fields; octets are bytes.

    Returns:
        The step; None when the event belongs to no journey.
    """
    read = _READERS.get(event)
    return None if read is None else read(fields)


def text(fields: Fields, name: str) -> str:
    """Return a field as text; empty when it is missing."""
    value = fields.get(name)
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else str(value)


def request_reference(first: str, second: str, counter: str) -> str:
    """Return how a request's journey is called: user, device, counter."""
    return f"{first}:{second}:{counter}"


def alert_reference(reference: str) -> str:
    """Return how an alert's journey is called, from originator:target:counter.

    The recipients of an alert get it under different references; the device's counter is one.
    """
    originator, _, rest = reference.partition(":")
    counter = rest.rpartition(":")[2]
    return f"{originator}:{counter}" if counter else UNREADABLE


def _facts(fields: Fields, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name in names if (value := text(fields, name)))


def _duis(fields: Fields) -> Step:
    kind = text(fields, "kind")
    service = text(fields, "service")
    xml = _octets(fields, "xml")
    reference = text(fields, "request_id") or UNREADABLE
    if kind == ALERT_BODY:
        reference = alert_reference(reference)
    source, target, title = Lane.DCC, Lane.USER, kind
    failed, postings, counter = kind == "ErrorBody", 0, "DUIS answers"
    state: str | None
    if text(fields, "direction") == "in":
        source, target, counter = Lane.USER, Lane.DCC, "DUIS requests"
        state, ends = "with the DCC", False
    elif service in _EXCHANGES:
        state, ends = _answered(kind, service, text(fields, "code"))
    else:
        target, title, counter = Lane.DCC, f"{kind} to be posted", "DUIS messages to post"
        state, ends = _BAD_NEWS.get(kind, "being posted"), True
        failed, postings = kind in _BAD_NEWS, 1
    return Step(
        reference=reference,
        source=source,
        target=target,
        title=title,
        facts=_facts(fields, "service", "variant", "code", "alert_code"),
        content=xml,
        octets=len(xml),
        state=state,
        ends=ends,
        failed=failed,
        postings=postings,
        counter=counter,
    )


def _answered(kind: str, service: str, code: str) -> tuple[str | None, bool]:
    """Return what an answer in the same exchange makes of a journey, and whether it ends it."""
    if kind == "ErrorBody":
        return f"refused {code}".strip(), True
    if kind == "PreCommandBody":
        return "pre-command with the user", False
    if kind == "LocalCommandBody":
        return "command given out", False
    if kind == "AcknowledgementBody" and service != "serviceD":
        return None, False  # what was accepted is under way already, or in quarantine
    return "answered", True


_GBCS: dict[str, tuple[str, str | None, str]] = {
    "pre_command": ("pre-command made", None, "pre-commands made"),
    "signed_pre_command": ("signature holds", None, ""),
    "command": ("MAC added", "on its way to the device", "GBCS commands"),
    "response": ("signature of the response holds", "response with the DCC", "GBCS responses"),
    "alert": ("signature of the alert holds", "alert with the DCC", "GBCS alerts"),
}


def _gbcs(fields: Fields) -> Step | None:
    hop = text(fields, "hop")
    if hop not in _GBCS:
        return None
    title, state, counter = _GBCS[hop]
    octets = _octets(fields, "octets")
    originator, target, number = (
        text(fields, name) for name in ("originator", "target", "originator_counter")
    )
    if hop == "alert":
        reference = alert_reference(f"{originator}:{target}:{number}")
    elif hop == "response":
        reference = request_reference(target, originator, number)
    else:
        reference = request_reference(originator, target, number)
    results = text(fields, "results")
    return Step(
        reference=reference,
        source=Lane.DCC,
        target=Lane.DCC,
        title=title,
        facts=_facts(fields, "results", "alert_code"),
        content=octets,
        octets=len(octets),
        state=state,
        failed=any(results[at : at + 2] != _SUCCESS for at in range(0, len(results), 2)),
        counter=counter,
    )


_PARTS = ("dcc_s", "fault_s", "wan_s", "queue_s", "transfer_s", "han_s")


def _network(fields: Fields) -> Step | None:
    hop = text(fields, "hop")
    reference = text(fields, "reference")
    if not reference or hop not in ("command", "response", "alert"):
        return None
    outcome = text(fields, "outcome")
    lost = outcome in ("lost", "discarded")
    up = hop != "command"
    if hop == "alert":
        reference = alert_reference(reference)
    elif hop == "response" and reference.count(":") == 2:
        device, user, counter = reference.split(":")
        reference = request_reference(user, device, counter)
    copy = fields.get("copy")
    octets = fields.get("octets")
    title = f"{hop} {outcome}" + (f", copy {copy}" if isinstance(copy, int) and copy else "")
    parts = [(name, value) for name in ("total_s", *_PARTS) if (value := _seconds(fields, name))]
    return Step(
        reference=reference,
        source=Lane.DEVICE if up and outcome != "discarded" else Lane.DCC,
        target=Lane.DCC if up else Lane.DEVICE,
        title=title,
        facts=(*parts, *_facts(fields, "link", "reason")),
        octets=octets if isinstance(octets, int) else 0,
        state=f"{hop} {outcome}" if lost else None if up else "with the device",
        # Of a command the DCC tries again, or tells; of the way up nobody will hear.
        ends=lost and hop == "alert",
        failed=lost,
        counter=f"network: {outcome}",
    )


def _post(fields: Fields) -> Step:
    reference = text(fields, "reference") or UNREADABLE
    kind = text(fields, "kind")
    outcome = text(fields, "outcome")
    taken = outcome == "taken"
    octets = fields.get("octets")
    return Step(
        reference=alert_reference(reference) if kind == ALERT_BODY else reference,
        source=Lane.DCC,
        target=Lane.USER,
        title=f"{kind} {outcome}".strip(),
        facts=_facts(fields, "user", "reason"),
        octets=octets if isinstance(octets, int) else 0,
        state=None if kind in _BAD_NEWS else "taken by the user" if taken else f"posting {outcome}",
        ends=taken or outcome == "dropped",
        failed=not taken,
        postings=-1 if taken or outcome == "dropped" else 0,
        counter=f"posts {outcome}",
    )


def _refused(fields: Fields) -> Step:
    return Step(
        reference=text(fields, "reference") or UNREADABLE,
        source=Lane.DCC,
        target=Lane.DCC,
        title=f"refused {text(fields, 'code')}".strip(),
        facts=_facts(fields, "check", "reason"),
        failed=True,
        counter="requests refused",
    )


def _quarantine(fields: Fields) -> Step:
    outcome = text(fields, "outcome")
    return Step(
        reference=text(fields, "reference") or UNREADABLE,
        source=Lane.DCC,
        target=Lane.DCC,
        title=f"quarantine: {outcome}",
        facts=_facts(fields, "event_reference", "reason"),
        state="in quarantine" if outcome == "held" else outcome,
        ends=outcome == "discarded",
        failed=outcome == "discarded",
        counter=f"quarantine: {outcome}",
    )


def _octets(fields: Fields, name: str) -> bytes:
    value = fields.get(name)
    return value if isinstance(value, bytes) else b""


def _seconds(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return f"{value:.3g}" if isinstance(value, int | float) and value > 0 else ""


_READERS: dict[str, Callable[[Fields], Step | None]] = {
    "duis": _duis,
    "gbcs": _gbcs,
    "network": _network,
    "post": _post,
    "refused": _refused,
    "quarantine": _quarantine,
}

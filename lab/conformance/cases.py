"""What is asked for each kind of case, and which answers are right.

Every function is a generator: it yields requests, is sent the words of the answers, and raises
Wrong at the first that is not right.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

from lab.conformance.reference import check_encoding
from lab.conformance.vectors import chars_of, octets_of, payloads_of

Talk: TypeAlias = Generator[str, list[str], None]
Vector: TypeAlias = dict[str, Any]

_FIELDS: Final = (
    "originator",
    "compression",
    "encoding",
    "last",
    "index",
    "tunnel_message_id",
)
_SHOWN: Final = 100


class Wrong(Exception):
    """An answer is not right: what was asked, what was expected, what came."""

    def __init__(self, asked: str, expected: str, answered: str) -> None:
        super().__init__(f"asked {shorten(asked)}: expected {expected}, got {answered}")
        self.asked = asked
        self.expected = expected
        self.answered = answered


class Beyond(Exception):
    """The program says that it does not hold as much as the case needs."""


def shorten(text: str) -> str:
    """Cut a text that is too long to be shown."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def hexadecimal(octets: bytes) -> str:
    """Write octets as one word: hexadecimal, a minus sign for none."""
    return octets.hex() or "-"


def read_hexadecimal(word: str) -> bytes:
    """Read octets from one word.

    Raises:
        ValueError: it is not hexadecimal in lower case, or empty.
    """
    octets = b"" if word == "-" else bytes.fromhex(word)
    if hexadecimal(octets) != word:
        raise ValueError("not hexadecimal in lower case")
    return octets


def _exactly(request: str, expected: list[str]) -> Talk:
    words = yield request
    if words != expected:
        raise Wrong(request, shorten(" ".join(expected)), shorten(" ".join(words)))


def _expected_error(vector: Vector) -> list[str]:
    detail = [vector["dictionary_id"]] if "dictionary_id" in vector else []
    return ["error", vector["error"], *detail]


def _fields(vector: Vector) -> list[str]:
    return [str(vector["fields"][name]) for name in _FIELDS]


def _header_unpack(vector: Vector) -> Talk:
    expected = _expected_error(vector) if "error" in vector else ["ok", *_fields(vector)]
    yield from _exactly(f"header-unpack {hexadecimal(chars_of(vector['text']))}", expected)


def _header_pack(vector: Vector) -> Talk:
    request = f"header-pack {' '.join(_fields(vector))}"
    yield from _exactly(request, ["ok", vector["octets"], hexadecimal(chars_of(vector["text"]))])


def _payload_parse(vector: Vector) -> Talk:
    if "payload" in vector:
        octets = chars_of(vector["payload"])
        body = chars_of(vector.get("body", ""))
    else:
        octets = bytes.fromhex(vector["payload_octets"])
        body = bytes.fromhex(vector.get("body_octets", ""))
    if "error" in vector:
        expected = _expected_error(vector)
    else:
        expected = ["ok", *_fields(vector), hexadecimal(body)]
    yield from _exactly(f"payload-parse {vector['carrier']} {hexadecimal(octets)}", expected)


def _label_words(vector: Vector) -> list[str]:
    return [f"{number}:{hexadecimal(chars_of(text))}" for number, text in vector["labels"]]


def _labels_join(vector: Vector) -> Talk:
    payload = vector["payload"]
    expected = ["none"] if payload is None else ["ok", hexadecimal(chars_of(payload))]
    yield from _exactly(" ".join(["labels-join", *_label_words(vector)]), expected)


def _labels_split(vector: Vector) -> Talk:
    expected = _expected_error(vector) if "error" in vector else ["ok", *_label_words(vector)]
    yield from _exactly(f"labels-split {hexadecimal(chars_of(vector['payload']))}", expected)


def _cut(vector: Vector) -> Talk:
    request = (
        f"cut {vector['carrier']} {vector['originator']} {vector['compression']} "
        f"{vector['tunnel_message_id']} {hexadecimal(octets_of(vector['stream']))}"
    )
    if "error" in vector:
        expected = _expected_error(vector)
    else:
        expected = ["ok", *(hexadecimal(payload) for payload in payloads_of(vector))]
    yield from _exactly(request, expected)


def _encode(vector: Vector) -> Talk:
    message = octets_of(vector["message"])
    request = (
        f"encode {vector['carrier']} {vector['originator']} {vector['tunnel_message_id']} "
        f"{vector['compression']} {vector['window_bits']} {hexadecimal(message)}"
    )
    if "payloads" in vector:
        yield from _exactly(
            request, ["ok", *(hexadecimal(payload) for payload in payloads_of(vector))]
        )
        return
    words = yield request
    try:
        if words[0] != "ok":
            raise ValueError(f"the answer is {' '.join(words)}")
        check_encoding(vector, message, [read_hexadecimal(word) for word in words[1:]])
    except ValueError as error:
        raise Wrong(request, "payloads of this message", f"{error}") from None


def _decode(vector: Vector) -> Talk:
    limits = f"{vector['max_message_octets']} {vector['max_window_bits']}"
    yield from _exactly(f"decode {vector['carrier']} {limits}", ["ok"])
    payloads = payloads_of(vector)
    if "message" in vector:
        expected = ["message", hexadecimal(octets_of(vector["message"]))]
    else:
        expected = ["more"] if "incomplete" in vector else _expected_error(vector)
    for place, payload in enumerate(payloads):
        request = f"fragment {hexadecimal(payload)}"
        words = yield request
        # A fault may be told as soon as its cause is here, not only when the message is whole.
        if words == expected and (expected[0] == "error" or place == len(payloads) - 1):
            return
        if words != ["more"] or place == len(payloads) - 1:
            where = f"fragment {place + 1} of {len(payloads)}: {request}"
            wanted = expected if place == len(payloads) - 1 else ["more"]
            raise Wrong(where, shorten(" ".join(wanted)), shorten(" ".join(words)))


def _control_parse(vector: Vector) -> Talk:
    if "error" in vector:
        expected = _expected_error(vector)
    else:
        expected = ["ok", str(vector["skipped"]), *vector["records"]]
    yield from _exactly(f"control-parse {hexadecimal(octets_of(vector['octets']))}", expected)


def _control_build(vector: Vector) -> Talk:
    request = " ".join(["control-build", *vector["records"]])
    yield from _exactly(request, ["ok", vector["octets"]])


_LIMITS: Final = (
    "message_octets",
    "window_bits",
    "partial_messages",
    "peers",
    "lifetime_s",
    "replay_window",
)


def _session(vector: Vector) -> Talk:
    limits = " ".join(str(vector["limits"][name]) for name in _LIMITS)
    request = f"session {vector['carrier']} {vector['originator']} {limits}"
    words = yield request
    if words == ["beyond"]:
        raise Beyond
    if words != ["ok"]:
        raise Wrong(request, "ok", shorten(" ".join(words)))
    for place, step in enumerate(vector["steps"], 1):
        if step["do"] == "receive":
            payload = hexadecimal(chars_of(step["payload"]))
            request = f"receive {step['peer']} {step['counter']} {step['now']} {payload}"
            request += " busy" if step.get("busy") else ""
        elif step["do"] == "time":
            request = f"time {step['now']}"
        else:
            request = "restart"
        words = yield request
        # What one request brings about has no order.
        expected = ["ok", *sorted(step.get("expect", ()))]
        if [*words[:1], *sorted(words[1:])] != expected:
            where = f"step {place} of {len(vector['steps'])}: {request}"
            raise Wrong(where, shorten(" ".join(expected)), shorten(" ".join(words)))


TALKS: Final[dict[str, Callable[[Vector], Talk]]] = {
    "header-unpack": _header_unpack,
    "header-pack": _header_pack,
    "payload-parse": _payload_parse,
    "labels-join": _labels_join,
    "labels-split": _labels_split,
    "cut": _cut,
    "encode": _encode,
    "decode": _decode,
    "control-parse": _control_parse,
    "control-build": _control_build,
    "session": _session,
    "session-restart": _session,
}
"""The conversation of each kind of case."""
